//! What is measured. Entry: [`Measure::run`]; one file for each kind of load.

mod http;
mod memory;
mod observe;
mod size;
mod start;
mod tcp;
mod tool;

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

pub(super) use self::memory::Clients;
use super::deployed::Deployed;
use super::ports::{GRPC, HTTP, OPAQUE_HTTP};
use super::record::Values;
use super::side::Side;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Measure {
    /// HTTP/1.1 on 64 connections, as fast as it goes
    Http64,
    /// HTTP/1.1 at 1000 requests a second
    Lat1000,
    /// HTTP/1.1 at 200 requests a second
    Lat200,
    /// gRPC on 64 streams, as fast as it goes
    Grpc64,
    /// One TCP stream
    Tcp1,
    /// New connections with HTTP/1.1
    NewHttp,
    /// New connections that are not parsed
    NewTcp,
    /// Memory, idle and with idle clients
    Memory,
    /// Time to the first request
    Start,
    /// The program's size
    Size,
}

/// All, in the order in which they are measured.
pub(super) const MEASURES: [Measure; 10] = [
    Measure::Http64,
    Measure::Lat1000,
    Measure::Lat200,
    Measure::Grpc64,
    Measure::Tcp1,
    Measure::NewHttp,
    Measure::NewTcp,
    Measure::Memory,
    Measure::Start,
    Measure::Size,
];

/// How long and how carefully is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Of each load that goes as fast as it can.
    pub(super) seconds: f64,
    /// How often a measure is repeated during which others used the machine.
    pub(super) repeats_max: u32,
    /// How long to wait for others to leave the machine alone.
    pub(super) quiet_timeout: Duration,
    /// Idle clients, when memory is measured.
    pub(super) clients: Clients,
}

impl Effort {
    /// Percentiles need more requests than throughput does, and here their rate is low.
    fn latency_seconds(&self) -> f64 {
        self.seconds * 1.5
    }
}

impl Measure {
    /// As the table has it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Measure::Http64 => "HTTP/1.1, 64 keep-alive connections, as fast as it goes",
            Measure::Lat1000 => "HTTP/1.1 at 1000 requests/s, 16 connections",
            Measure::Lat200 => "HTTP/1.1 at 200 requests/s, 8 connections",
            Measure::Grpc64 => "gRPC, 4 connections with 16 streams, as fast as it goes",
            Measure::Tcp1 => "One TCP stream",
            Measure::NewHttp => "New HTTP/1.1 connections with one request, 8 clients",
            Measure::NewTcp => "New opaque connections, 8 clients",
            Measure::Memory => "Memory",
            Measure::Start => "Start",
            Measure::Size => "Program",
        }
    }

    /// A word or two, where there is little space.
    pub(super) fn short_title(self) -> &'static str {
        match self {
            Measure::Http64 => "HTTP/1.1",
            Measure::Lat1000 => "1000 requests/s",
            Measure::Lat200 => "200 requests/s",
            Measure::Grpc64 => "gRPC",
            Measure::Tcp1 => "TCP",
            Measure::NewHttp => "new HTTP",
            Measure::NewTcp => "new opaque",
            Measure::Memory => "memory",
            Measure::Start => "start",
            Measure::Size => "program",
        }
    }

    /// Measures once; a measure that others disturbed is repeated, and the quietest one counts.
    ///
    /// # Errors
    /// When a load fails.
    pub(super) fn run(self, deployed: &mut Deployed, effort: &Effort) -> Result<Values> {
        let rate = |rate: u32, connections: u32| {
            tool::run(deployed, effort, || {
                let mut command = load(deployed, "rate", HTTP, effort.latency_seconds());
                command.args(["--rate", &rate.to_string()]);
                command.args(["--connections", &connections.to_string()]);
                command
            })
        };
        let fastest = |subcommand: &str, port: u16| {
            tool::run(deployed, effort, || {
                load(deployed, subcommand, port, effort.seconds)
            })
        };
        match self {
            Measure::Http64 => http::run(deployed, effort),
            Measure::Lat1000 => rate(1000, 16),
            Measure::Lat200 => rate(200, 8),
            Measure::Grpc64 => fastest("ping", GRPC),
            Measure::Tcp1 => tcp::run(deployed, effort),
            Measure::NewHttp => fastest("connections", HTTP),
            Measure::NewTcp => fastest("connections", OPAQUE_HTTP),
            Measure::Memory => memory::run(deployed, effort),
            Measure::Start => start::run(deployed),
            Measure::Size => size::run(deployed),
        }
    }
}

fn load(deployed: &Deployed, subcommand: &str, port: u16, seconds: f64) -> Command {
    let mut command = deployed.tool(subcommand);
    command.arg(Side::Server.at(port).to_string());
    command.args(["--seconds", &seconds.to_string()]);
    command
}
