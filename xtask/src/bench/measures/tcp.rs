//! One TCP stream from client to server, which the sidecars pass on unread: iperf3.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::Effort;
use super::observe::{Load, Scale, quietest};
use crate::bench::deployed::Deployed;
use crate::bench::ports::IPERF;
use crate::bench::record::Values;
use crate::bench::side::{Side, output};

/// The report of iperf3, as far as we look at it.
#[derive(Deserialize)]
struct Report {
    end: End,
}

#[derive(Deserialize)]
struct End {
    sum_received: Received,
}

#[derive(Deserialize)]
struct Received {
    bytes: f64,
    bits_per_second: f64,
}

pub(super) fn run(deployed: &Deployed, effort: &Effort) -> Result<Values> {
    quietest(deployed, effort, Scale::Seconds, || {
        let mut iperf = Command::new("iperf3");
        iperf.args(["-J", "-c", &Side::Server.address().to_string()]);
        iperf.args(["-p", &IPERF.to_string()]);
        // iperf3 takes whole seconds only.
        iperf.args(["-t", &effort.seconds.max(1.0).round().to_string()]);
        read(&output(Side::Client, &mut iperf)?)
    })
}

fn read(text: &str) -> Result<Load> {
    let Report { end } = serde_json::from_str(text).context("the report of iperf3")?;
    let Received {
        bytes,
        bits_per_second,
    } = end.sum_received;
    ensure!(bytes > 0.0, "nothing arrived: {text}");
    Ok(Load {
        units: bytes / 1e9,
        values: [("gbit_per_s".to_owned(), bits_per_second / 1e9)].into(),
    })
}
