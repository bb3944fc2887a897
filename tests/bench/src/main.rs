//! What `cargo xtask bench` runs in its network namespaces: servers, load, a mock control plane,
//! certificates and the eyes on the wire. One subcommand each; each prints one line of JSON.
//! Knows nothing of proxies and namespaces: addresses and identities are arguments.

mod certificates;
mod client;
mod clock;
mod connections;
mod destination;
mod first;
mod idle;
mod ping;
mod ping_load;
mod rate;
mod server;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;

/// In every body that the servers send: whoever sees it on the wire sees plaintext.
const MARKER: &str = "bench-plaintext-marker";

/// Servers, load and a mock control plane for the benchmark.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes a root and a certificate for each identity
    Certificates(certificates::Args),
    /// Serves the proxy API: one meshed endpoint, whatever is asked for
    Destination(destination::Args),
    /// Serves HTTP and gRPC
    Serve(server::Args),
    /// Requests at a fixed rate; latency from the time at which each was due
    Rate(rate::Args),
    /// gRPC calls, each stream as fast as it can
    Ping(ping_load::Args),
    /// One request for each new connection
    Connections(connections::Args),
    /// Opens connections, makes one request on each, and holds them until stdin ends
    Idle(idle::Args),
    /// Tries until a request succeeds
    First(first::Args),
    /// Reads the packets of this network namespace until stdin ends
    Wire(wire::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Certificates(args) => certificates::run(args),
        Command::Destination(args) => on_one_thread(destination::run(args)),
        Command::Serve(args) => on_one_thread(server::run(args)),
        Command::Rate(args) => rate::run(args),
        Command::Ping(args) => on_one_thread(ping_load::run(args)),
        Command::Connections(args) => connections::run(args),
        Command::Idle(args) => idle::run(args),
        Command::First(args) => first::run(args),
        Command::Wire(args) => wire::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn on_one_thread(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

/// Prints the answer of a subcommand.
fn answer(answer: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(answer)?);
    Ok(())
}
