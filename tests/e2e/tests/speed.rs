//! How soon a new workload has its certificate, and how soon its first request is encrypted.
//! The figures are printed; what is asserted is that every pod got there.

use anyhow::{Context as _, Result, ensure};
use e2e::{Namespace, Watch, Workload, eventually, in_namespace, percentile, report, start_server};
use serde_json::Value;

const PODS: usize = 50;

#[test]
fn fifty_new_workloads_get_certificates_and_speak_tls() -> Result<()> {
    in_namespace("speed", |namespace| {
        start_server(namespace)?;
        let deployments = Watch::start(namespace, "deployments")?;
        let secrets = Watch::start(namespace, "secrets")?;
        let pods = Watch::start(namespace, "pods")?;
        eventually("the watches have begun", || {
            let seen = [&deployments, &secrets, &pods].map(|watch| watch.events().len());
            ensure!(seen.iter().all(|events| *events > 0), "{seen:?}");
            Ok(())
        })?;
        let names: Vec<String> = (0..PODS).map(|n| format!("client-{n}")).collect();
        let args = ["first-mtls", "http://server:8080/", "--stay"];
        let manifests: String = names
            .iter()
            .map(|name| Workload::new(name, &namespace.cluster.image, &args).deployment())
            .collect();
        namespace.apply(&namespace.cluster.inject(&manifests)?)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        namespace.wait_until_ready(&names)?;

        let mut to_secret = Vec::new();
        let mut to_mtls = Vec::new();
        let mut failed = 0;
        for name in names {
            let added = deployments
                .first(name, |_| true)
                .context("the Deployment was not seen")?;
            let secret = format!("{name}-deployment-tls-linkerd-io");
            let written = secrets
                .first(&secret, |_| true)
                .context("the Secret was not seen")?;
            to_secret.push(written.saturating_sub(added));
            let times = times(namespace, name)?;
            let started = started(&pods, &namespace.pod(name)?)?;
            let mtls = times["first_mtls_unix_ms"].as_u64().context("no time")?;
            to_mtls.push(mtls.saturating_sub(started));
            failed += times["failed"].as_u64().context("no count")?;
        }
        figures("from workload ADDED to Secret written", &to_secret)?;
        figures("from pod start to first request over TLS", &to_mtls)?;
        report(&format!("  requests that failed before: {failed}"));
        ensure!(to_secret.len() == PODS && to_mtls.len() == PODS);
        Ok(())
    })
}

/// What the pod printed when it had seen TLS.
fn times(namespace: &Namespace, name: &str) -> Result<Value> {
    eventually("the first request over TLS", || {
        let logs = namespace.logs(name)?;
        let line = logs
            .lines()
            .find(|line| line.starts_with('{'))
            .context("nothing printed yet")?;
        Ok(serde_json::from_str(line)?)
    })
}

/// When the kubelet took the pod up.
fn started(pods: &Watch, pod: &str) -> Result<u64> {
    pods.first(pod, |event| !event.object["status"]["startTime"].is_null())
        .with_context(|| format!("{pod} was not seen starting"))
}

fn figures(what: &str, values: &[u64]) -> Result<()> {
    let [p50, p99, max] = [50, 99, 100].map(|percent| percentile(values, percent));
    let (p50, p99, max) = (
        p50.context("none")?,
        p99.context("none")?,
        max.context("none")?,
    );
    report(&format!(
        "  {what}: p50 {p50} ms, p99 {p99} ms, max {max} ms (n = {})",
        values.len()
    ));
    Ok(())
}
