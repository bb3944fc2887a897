//! Idle clients: opens connections, makes one request on each, and holds them until stdin ends.

use std::io::Read as _;
use std::net::SocketAddr;

use anyhow::Result;
use serde::Serialize;

use crate::answer;
use crate::client::{After, get, request};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the server is
    server: SocketAddr,
    /// Connections
    #[arg(long)]
    connections: usize,
}

#[derive(Serialize)]
struct Answer {
    open: u64,
    errors: u64,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {
        server,
        connections,
    } = args;
    let request = request(server, After::KeepAlive);
    let mut open = Vec::with_capacity(connections);
    let mut errors = 0;
    for _ in 0..connections {
        match get(server, &request) {
            Ok(connection) => open.push(connection.into_stream()),
            Err(_) => errors += 1,
        }
    }
    answer(&Answer {
        open: open.len() as u64,
        errors,
    })?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(open);
    Ok(())
}
