//! A pod that sends requests at a steady rate and counts the failed ones. Entry: [`Load::start`].

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{Namespace, Workload, eventually};

/// A running load pod, called `load`.
#[derive(Debug)]
pub struct Load<'a> {
    namespace: &'a Namespace,
}

/// What became of its requests so far.
#[derive(Clone, Debug, Deserialize)]
pub struct Totals {
    /// Answered with a status below 400.
    pub ok: u64,
    /// All others.
    pub failed: u64,
    /// The slowest request, answered or not.
    pub slowest_ms: u64,
    /// Failed requests by reason.
    pub reasons: std::collections::BTreeMap<String, u64>,
}

impl<'a> Load<'a> {
    /// Starts a meshed pod that runs `load <args>` on `node`, and waits for the first answers.
    ///
    /// # Errors
    /// When a command fails, or no request is answered.
    pub fn start(namespace: &'a Namespace, args: &[&str], node: Option<&str>) -> Result<Self> {
        let args = [&["load"], args].concat();
        let workload = Workload {
            node,
            ..Workload::new("load", &namespace.cluster.image, &args)
        };
        namespace.apply_meshed(&workload.deployment())?;
        namespace.wait_until_ready(&["load"])?;
        let load = Self { namespace };
        eventually("requests are answered", || {
            let totals = load.totals()?;
            ensure!(totals.ok > 0, "{totals:?}");
            Ok(())
        })?;
        Ok(load)
    }

    /// The totals so far.
    ///
    /// # Errors
    /// When the pod was restarted, so that its counting began anew, or kubectl fails.
    pub fn totals(&self) -> Result<Totals> {
        let pod = self.namespace.get(&["pod", &self.namespace.pod("load")?])?;
        let statuses = pod["status"]["containerStatuses"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        ensure!(
            statuses.iter().all(|s| s["restartCount"] == 0),
            "restarted: {statuses:?}"
        );
        let logs = self.namespace.logs("load")?;
        let line = logs
            .lines()
            .rev()
            .find(|line| line.starts_with('{'))
            .context("no totals yet")?;
        serde_json::from_str(line).with_context(|| format!("the load pod printed {line}"))
    }
}
