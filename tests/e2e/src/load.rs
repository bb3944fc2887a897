//! A pod that sends requests at a steady rate and counts the failed ones. Entries: [`Load::start`],
//! and [`last_words`] for pods that come and go.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::{Namespace, Watch, Workload, eventually, report};

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
    pub reasons: BTreeMap<String, u64>,
    /// Of those that were answered, the ones that were begun after SIGTERM.
    pub ok_after_sigterm: u64,
    /// What the pod's proxy has counted over mutual TLS, if it was asked.
    pub tls: Option<u64>,
    /// What it has counted otherwise.
    pub plaintext: Option<u64>,
}

/// Arguments by which a load pod says at its end what became of all its requests, and what its proxy
/// says of them.
pub const LAST_WORDS: [&str; 4] = [
    "--metrics",
    "http://127.0.0.1:4191/metrics",
    "--totals",
    "/dev/termination-log",
];

/// What every pod of a workload has said at its end, by the pod's name; the workload has
/// [`LAST_WORDS`] and `pods` has seen all of its pods.
///
/// # Errors
/// When one has not ended yet, was restarted, or has said nothing.
pub fn last_words(pods: &Watch, workload: &str) -> Result<BTreeMap<String, Totals>> {
    let mut last = BTreeMap::new();
    for event in pods.events() {
        let metadata = &event.object["metadata"];
        if metadata["labels"]["app"] == workload {
            let name = metadata["name"].as_str().unwrap_or_default().to_owned();
            last.insert(name, event.object);
        }
    }
    let mut words = BTreeMap::new();
    for (pod, object) in last {
        let status =
            container_status(&object, workload).with_context(|| format!("{pod} has not begun"))?;
        ensure!(status["restartCount"] == 0, "{pod} was restarted: {status}");
        let text = status["state"]["terminated"]["message"]
            .as_str()
            .with_context(|| format!("{pod} has said nothing: {status}"))?;
        let totals = serde_json::from_str(text).with_context(|| format!("{pod} said {text}"))?;
        words.insert(pod, totals);
    }
    Ok(words)
}

/// The status of a pod's container, native sidecars included.
fn container_status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    ["containerStatuses", "initContainerStatuses"]
        .into_iter()
        .filter_map(|kind| pod["status"][kind].as_array())
        .flatten()
        .find(|status| status["name"] == container)
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

    /// Waits until `count` more requests are answered, and says how many were since `before`.
    ///
    /// # Errors
    /// When one has failed since then, and when they do not come.
    pub fn goes_on_since(&self, before: &Totals, count: u64) -> Result<()> {
        let now = eventually("the load pod can be asked", || self.totals())?;
        let after = eventually("more requests are answered", || {
            let totals = self.totals()?;
            ensure!(totals.ok >= now.ok + count, "{now:?}, then {totals:?}");
            Ok(totals)
        })?;
        let (ok, failed) = (after.ok - before.ok, after.failed - before.failed);
        let slowest = after.slowest_ms;
        report(&format!(
            "  {ok} requests answered, {failed} failed, slowest {slowest} ms"
        ));
        ensure!(failed == 0, "{:?}", after.reasons);
        Ok(())
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
