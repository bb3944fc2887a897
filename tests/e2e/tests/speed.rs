//! How soon a new workload has its certificate, and how soon its first request is encrypted.
//! The figures are printed; what is asserted is that every one of them got there.

use anyhow::{Context as _, Result, ensure};
use e2e::{Namespace, Watch, Workload, eventually, in_namespace, percentile, report, start_server};
use serde_json::Value;

const WORKLOADS: usize = 50;
/// Pods that start at the same time unless `E2E_WAVE` says otherwise: more of them wait for the
/// machine and not for the mesh.
const WAVE: usize = 5;

fn wave() -> Result<usize> {
    match std::env::var("E2E_WAVE") {
        Ok(wave) => wave.parse().context("E2E_WAVE is not a number"),
        Err(_) => Ok(WAVE),
    }
}

#[test]
fn fifty_workloads_at_once_get_certificates() -> Result<()> {
    in_namespace("speed-secrets", |namespace| {
        let first = Workload {
            replicas: 0,
            ..client("first", namespace)
        };
        namespace.apply_meshed(&first.deployment())?;
        let secrets = Watch::start(namespace, "secrets")?;
        let deployments = Watch::start(namespace, "deployments")?;
        begun(&[&secrets, &deployments])?;

        let names = names();
        let manifests: String = names
            .iter()
            .map(|name| {
                Workload {
                    replicas: 0,
                    ..client(name, namespace)
                }
                .deployment()
            })
            .collect();
        namespace.apply_meshed(&manifests)?;
        figures(
            "from workload ADDED to Secret written",
            &to_secret(&names, &deployments, &secrets)?,
        )
    })
}

#[test]
fn fifty_new_pods_speak_tls() -> Result<()> {
    in_namespace("speed-pods", |namespace| {
        start_server(namespace)?;
        let secrets = Watch::start(namespace, "secrets")?;
        let deployments = Watch::start(namespace, "deployments")?;
        let pods = Watch::start(namespace, "pods")?;
        begun(&[&secrets, &deployments, &pods])?;

        let names = names();
        for wave in names.chunks(wave()?) {
            let manifests: String = wave
                .iter()
                .map(|name| client(name, namespace).deployment())
                .collect();
            namespace.apply_meshed(&manifests)?;
            for name in wave {
                namespace.wait_until_ready(&[name])?;
            }
        }
        let mut from_pod = Vec::new();
        let mut from_container = Vec::new();
        let mut failed = 0;
        for name in &names {
            let times = times(namespace, name)?;
            let read = |key: &str| {
                times[key]
                    .as_u64()
                    .with_context(|| format!("{key} in {times}"))
            };
            let pod = namespace.pod(name)?;
            let taken_up = pods
                .first(&pod, |event| !event.object["status"]["startTime"].is_null())
                .with_context(|| format!("{pod} was not seen starting"))?;
            let mtls = read("first_mtls_unix_ms")?;
            from_pod.push(mtls.saturating_sub(taken_up));
            from_container.push(mtls.saturating_sub(read("started_unix_ms")?));
            failed += read("failed")?;
        }
        let to_secret = to_secret(&names, &deployments, &secrets)?;
        figures("from workload ADDED to Secret written", &to_secret)?;
        figures("from pod start to first request over TLS", &from_pod)?;
        figures(
            "from the application's start to first request over TLS",
            &from_container,
        )?;
        report(&format!("  requests that failed before: {failed}"));
        Ok(())
    })
}

fn names() -> Vec<String> {
    (0..WORKLOADS).map(|n| format!("client-{n}")).collect()
}

fn client<'a>(name: &'a str, namespace: &'a Namespace) -> Workload<'a> {
    Workload::new(
        name,
        &namespace.cluster.image,
        &["first-mtls", "http://server:8080/", "--stay"],
    )
}

fn begun(watches: &[&Watch]) -> Result<()> {
    eventually("the watches have begun", || {
        ensure!(
            watches.iter().all(|watch| !watch.events().is_empty()),
            "nothing seen yet"
        );
        Ok(())
    })
}

fn to_secret(names: &[String], deployments: &Watch, secrets: &Watch) -> Result<Vec<u64>> {
    eventually("every Secret is written", || {
        let of = |name: &String| {
            let added = deployments.first(name, |_| true);
            let added = added.with_context(|| format!("{name} was not seen"))?;
            let secret = format!("{name}-deployment-tls-linkerd-io");
            let written = secrets.first(&secret, |_| true);
            let written = written.with_context(|| format!("{secret} was not seen"))?;
            Ok(written.saturating_sub(added))
        };
        names.iter().map(of).collect()
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
