//! How long it takes from the start of a sidecar to the first request that went through mutual TLS.
//! The other sidecar and the control plane run.

use anyhow::{Context as _, Result};

use crate::bench::deployed::Deployed;
use crate::bench::proof::{check, watch};
use crate::bench::record::Values;
use crate::bench::side::Side;
use crate::bench::summary::Summary;

/// Starts in a round; the median counts.
const STARTS: usize = 5;

/// Returns nothing without sidecars.
///
/// # Errors
/// When a request went in plaintext: then it was not the first that was encrypted.
pub(super) fn run(deployed: &mut Deployed) -> Result<Values> {
    let mut values = Values::new();
    if deployed.plane.redirect().is_none() {
        return Ok(values);
    }
    for (side, name) in [
        (Side::Client, "start_outbound_ms"),
        (Side::Server, "start_inbound_ms"),
    ] {
        let mut times = Vec::new();
        let wire = watch(deployed, |deployed| {
            for _ in 0..STARTS {
                times.push(deployed.restart(side)?.as_secs_f64() * 1e3);
            }
            Ok(())
        })?;
        check(&wire).with_context(|| format!("start of the {} side", side.name()))?;
        let summary = Summary::of(times).context("there is at least one start")?;
        values.insert(name.to_owned(), summary.median);
    }
    Ok(values)
}
