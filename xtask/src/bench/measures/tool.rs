//! Loads that `linkerd-bench` makes: a fixed rate, gRPC, new connections. Entry: [`run`].

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Effort;
use super::observe::{Load, Scale, quietest};
use crate::bench::deployed::Deployed;
use crate::bench::record::Values;
use crate::bench::side::{Side, output};

/// Runs `command`, which prints numbers by name, `requests` among them.
///
/// # Errors
/// When it fails or no request succeeded.
pub(super) fn run(
    deployed: &Deployed,
    effort: &Effort,
    command: impl Fn() -> Command,
) -> Result<Values> {
    quietest(deployed, effort, Scale::Microseconds, || {
        read(&output(Side::Client, &mut command())?)
    })
}

fn read(text: &str) -> Result<Load> {
    let mut values: BTreeMap<String, f64> =
        serde_json::from_str(text).with_context(|| format!("linkerd-bench printed {text}"))?;
    let requests = *values.get("requests").context("no number of requests")?;
    let errors = *values.get("errors").context("no number of errors")?;
    ensure!(requests > errors, "no request succeeded: {text}");
    if let Some(seconds) = values.remove("seconds") {
        values.insert("requests_per_s".to_owned(), requests / seconds);
    }
    Ok(Load {
        units: requests,
        values,
    })
}
