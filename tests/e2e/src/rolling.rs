//! Servers that may be rolled out, and clients that count what they lose by it. Entries:
//! [`rolling_servers`] and [`steady_load`] for the manifests, [`all_served`] for the verdict.

use anyhow::{Result, ensure};

use crate::{LAST_WORDS, Namespace, Totals, Watch, Workload, eventually, last_words, service};

/// Requests a second of [`steady_load`].
pub const LOAD_RATE: u64 = 40;
/// From the decision to end a pod to SIGTERM: what Kubernetes advises for every server, so that all
/// have heard that it goes before it does. Without it rollouts lose requests with and without a mesh.
const PRE_STOP_SECONDS: u32 = 3;

/// The manifests of `server`, which answers HTTP/1.1 with what it asks of `emoji` by gRPC, and of both
/// Services.
pub fn rolling_servers(image: &str, replicas: u32) -> String {
    let asks = ["web", "--emoji-host", "emoji:8080"];
    let mut manifests = String::new();
    for (name, args) in [("emoji", &["emoji"][..]), ("server", &asks)] {
        let workload = Workload {
            port: Some(8080),
            replicas,
            pre_stop_seconds: PRE_STOP_SECONDS,
            ..Workload::new(name, image, args)
        };
        manifests += &workload.deployment();
        manifests += &service(name, name, 8080, 8080);
    }
    manifests
}

/// The manifest of a client of `server` called `name`, which says at its end what became of its
/// requests.
pub fn steady_load(image: &str, name: &str, more: &[&str]) -> String {
    let rate = LOAD_RATE.to_string();
    let base = ["load", "http://server:8080/api/list", "--rate", &rate];
    let args = [&base, more, &LAST_WORDS].concat();
    let workload = Workload {
        grace_seconds: 30,
        ..Workload::new(name, image, &args)
    };
    workload.deployment()
}

/// Ends the pods of Deployments, in the order of the names.
///
/// # Errors
/// When kubectl fails.
pub fn end_all(namespace: &Namespace, names: &[&str]) -> Result<()> {
    for name in names {
        let deployment = format!("deployment/{name}");
        namespace.kubectl(&["scale", "--replicas=0", &deployment])?;
    }
    Ok(())
}

/// Waits for the end of all pods of a [`steady_load`], and returns what each has counted.
///
/// # Errors
/// When a request of any of them failed or was not over TLS.
pub fn all_served(pods: &Watch, name: &str) -> Result<Vec<Totals>> {
    let words = eventually("every client has ended", || last_words(pods, name))?;
    for (pod, totals) in &words {
        ensure!(totals.ok > 0 && totals.failed == 0, "{pod}: {totals:?}");
        ensure!(totals.tls == Some(totals.ok), "{pod}: {totals:?}");
        ensure!(totals.plaintext == Some(0), "{pod}: {totals:?}");
    }
    Ok(words.into_values().collect())
}
