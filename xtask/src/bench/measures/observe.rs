//! Runs a load and looks at who used the processors meanwhile. Entry: [`quietest`].

use std::time::Instant;

use anyhow::Result;

use super::Effort;
use crate::bench::deployed::Deployed;
use crate::bench::record::Values;
use crate::bench::usage;

/// Others used more than so many cores: the measure is worth repeating.
const DISTURBED_CORES_MAX: f64 = 0.1;
/// What other processes used, and what other machines took.
const DISTURBED: &str = "disturbed_cores";

/// What a load reports.
pub(super) struct Load {
    /// What it counted and processor time is divided by: requests, connections, gigabytes.
    pub(super) units: f64,
    /// Everything else.
    pub(super) values: Values,
}

/// Runs `load`, again when others disturbed it, and returns the values of the quietest run.
/// Processor time of the sidecars is divided by the load's units and given in `microseconds` or
/// seconds: `cpu_outbound_us`, `cpu_inbound_us`, `cpu_us`.
///
/// # Errors
/// Those of the load.
pub(super) fn quietest(
    deployed: &Deployed,
    effort: &Effort,
    scale: Scale,
    load: impl Fn() -> Result<Load>,
) -> Result<Values> {
    let mut best: Option<Values> = None;
    for attempt in 0..=effort.repeats_max {
        usage::wait_until_quiet(effort.quiet_timeout)?;
        let mut values = once(deployed, scale, &load)?;
        values.insert("attempts".to_owned(), f64::from(attempt + 1));
        let disturbed = values[DISTURBED];
        if best.as_ref().is_none_or(|best| disturbed < best[DISTURBED]) {
            best = Some(values);
        }
        if disturbed < DISTURBED_CORES_MAX {
            break;
        }
    }
    Ok(best.expect("there is at least one attempt"))
}

/// How processor time for one unit of load is written.
#[derive(Clone, Copy)]
pub(super) enum Scale {
    Microseconds,
    Seconds,
}

fn once(deployed: &Deployed, scale: Scale, load: impl Fn() -> Result<Load>) -> Result<Values> {
    let started = Instant::now();
    let (usage_before, foreign_before, stolen_before) =
        (deployed.usage()?, usage::foreign()?, usage::stolen()?);
    let Load { units, mut values } = load()?;
    let usage = deployed.usage()?;
    let wall = started.elapsed().as_secs_f64();
    let (factor, unit) = match scale {
        Scale::Microseconds => (1e6, "us"),
        Scale::Seconds => (1.0, "s"),
    };
    let outbound = usage.outbound - usage_before.outbound;
    let inbound = usage.inbound - usage_before.inbound;
    let servers = usage.servers - usage_before.servers;
    let mut insert = |name: String, value| values.insert(name, value);
    insert("wall_s".to_owned(), wall);
    let foreign = (usage::foreign()? - foreign_before) / wall;
    let stolen = (usage::stolen()? - stolen_before) / wall;
    insert("foreign_cores".to_owned(), foreign);
    insert("stolen_cores".to_owned(), stolen);
    insert(DISTURBED.to_owned(), foreign + stolen);
    insert(format!("cpu_servers_{unit}"), factor * servers / units);
    if deployed.plane.redirect().is_some() {
        insert(format!("cpu_outbound_{unit}"), factor * outbound / units);
        insert(format!("cpu_inbound_{unit}"), factor * inbound / units);
        let both = outbound + inbound;
        insert(format!("cpu_{unit}"), factor * both / units);
    }
    Ok(values)
}
