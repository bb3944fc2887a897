//! How much memory sidecars take: idle, with idle clients, and after these have gone.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::Effort;
use crate::bench::deployed::Deployed;
use crate::bench::ports::HTTP;
use crate::bench::record::Values;
use crate::bench::side::{SIDES, Side, spawn};
use crate::bench::usage;

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// How many clients, and how long to wait.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Clients {
    pub(in crate::bench) few: u32,
    pub(in crate::bench) many: u32,
    /// These go, and it is measured what is given back.
    pub(in crate::bench) going: u32,
    /// After a start, and after the last of the clients has come.
    pub(in crate::bench) settle: Duration,
    /// Since the last client has gone.
    pub(in crate::bench) gone: Duration,
}

/// What `linkerd-bench idle` prints.
#[derive(Deserialize)]
struct Opened {
    open: u32,
    errors: u32,
}

/// Measures with fresh sidecars for each number of clients. Returns nothing without sidecars.
pub(super) fn run(deployed: &mut Deployed, effort: &Effort) -> Result<Values> {
    let mut values = Values::new();
    if deployed.plane.redirect().is_none() {
        return Ok(values);
    }
    let Clients {
        few,
        many,
        going,
        settle,
        gone,
    } = effort.clients;
    let idle = fresh(deployed, settle)?;
    insert(&mut values, "rss", "mib", idle.map(|rss| rss / MIB));
    values.insert("rss_mib".to_owned(), idle[0].max(idle[1]) / MIB);
    for (clients, name) in [(few, "client_of_few"), (many, "client_of_many")] {
        let idle = fresh(deployed, settle)?;
        let idle_clients = connect(deployed, clients)?;
        sleep(settle);
        let full = rss(deployed)?;
        disconnect(idle_clients)?;
        let each = [0, 1].map(|side| (full[side] - idle[side]) / f64::from(clients) / KIB);
        insert(&mut values, name, "kib", each);
    }
    let idle = fresh(deployed, settle)?;
    let idle_clients = connect(deployed, going)?;
    sleep(settle);
    let full = rss(deployed)?;
    disconnect(idle_clients)?;
    sleep(gone);
    let empty = rss(deployed)?;
    // The inbound sidecar has one connection for all of them: there is next to nothing to give back.
    let (grown, given_back) = (full[0] - idle[0], full[0] - empty[0]);
    let given_back = if grown > 0.0 {
        100.0 * given_back / grown
    } else {
        100.0
    };
    values.insert("given_back_percent".to_owned(), given_back);
    insert(&mut values, "rss_after", "mib", empty.map(|rss| rss / MIB));
    Ok(values)
}

fn insert(values: &mut Values, name: &str, unit: &str, [outbound, inbound]: [f64; 2]) {
    values.insert(format!("{name}_outbound_{unit}"), outbound);
    values.insert(format!("{name}_inbound_{unit}"), inbound);
}

/// Starts both sidecars anew and returns the memory of each after its first request, in bytes.
fn fresh(deployed: &mut Deployed, settle: Duration) -> Result<[f64; 2]> {
    for side in SIDES {
        deployed.restart(side)?;
    }
    sleep(settle);
    rss(deployed)
}

fn rss(deployed: &Deployed) -> Result<[f64; 2]> {
    let [outbound, inbound] = deployed.sidecar_ids().context("there are sidecars")?;
    Ok([usage::rss_bytes(outbound)?, usage::rss_bytes(inbound)?])
}

fn connect(deployed: &Deployed, clients: u32) -> Result<Child> {
    let mut idle = deployed.tool("idle");
    idle.arg(Side::Server.at(HTTP).to_string());
    idle.args(["--connections", &clients.to_string()]);
    let mut idle = spawn(
        Side::Client,
        idle.stdin(Stdio::piped()).stdout(Stdio::piped()),
    )?;
    let mut line = String::new();
    BufReader::new(idle.stdout.as_mut().expect("stdout is piped")).read_line(&mut line)?;
    let Opened { open, errors } = serde_json::from_str(&line).context("linkerd-bench idle")?;
    ensure!(
        open == clients,
        "{errors} of {clients} connections cannot be opened"
    );
    Ok(idle)
}

fn disconnect(mut clients: Child) -> Result<()> {
    drop(clients.stdin.take());
    let status = clients.wait()?;
    ensure!(status.success(), "linkerd-bench idle ended with {status}");
    Ok(())
}
