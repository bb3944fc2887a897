//! `--identity=service` in a control plane of its own: no Secret has a key, everything is over TLS,
//! certificates are renewed, and nothing is lost while the service is away.

use anyhow::{Context as _, Result, ensure};
use e2e::{
    Cluster, Documented, Emojivoto, Load, Namespace, eventually, find, on_cluster, report, rows,
    with_control_plane, with_namespace,
};

/// How long a certificate is valid: so short that renewals are seen.
const LIFETIME: &str = "--set=ca.leafLifetime=60s";
/// Requests after the service has come back: 20 s of them.
const AFTERWARDS: u64 = 400;

#[test]
fn keys_stay_in_the_pods_and_everything_is_over_tls() -> Result<()> {
    on_cluster("identity-service", |cluster| {
        let cluster = Cluster {
            inject_flags: vec!["--tls=optional", "--identity=service"],
            ..cluster.clone()
        };
        let flags = [
            "--tls=optional",
            "--identity=service",
            LIFETIME,
            // The cluster has one already, and two would quarrel about namespaces that ask for proxies.
            "--set=injector.enabled=false",
        ];
        with_control_plane(&cluster, "identity", &flags, |plane| {
            with_namespace(&plane.cluster, "identity", |namespace| {
                test(plane, namespace)
            })
        })
    })
}

fn test(plane: &Namespace, namespace: &Namespace) -> Result<()> {
    let app = Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
    all_tls(namespace, &app)?;
    ensure!(
        workload_secrets(namespace)?.is_empty(),
        "a Secret of a workload"
    );
    ensure!(
        workload_secrets(plane)?.is_empty(),
        "a Secret of the control plane"
    );

    let destination = plane.component("linkerd-destination")?;
    let metrics = plane.metrics(&destination, 9991)?;
    Documented::read()?.check("linkerd-destination", &metrics)?;

    let url = format!("http://{}/api/list", app.authority("web-svc", 80));
    let load = Load::start(namespace, &[&url, "--rate", "20", "--fresh"], None)?;
    let before = load.totals()?;
    let selector = "linkerd.io/control-plane-component=linkerd-destination";
    plane.kubectl(&[
        "delete",
        "pod",
        "--force",
        "--grace-period=0",
        "-l",
        selector,
    ])?;
    plane.wait_until_ready(&["linkerd-destination"])?;
    load.goes_on_since(&before, AFTERWARDS)?;

    let renewals = eventually("the certificate is renewed twice", || {
        let metrics = namespace.proxy_metrics("web")?;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("tls_config_reload_total{status=\"reloaded\"} "));
        let count: u32 = line.context("no certificate")?.parse()?;
        ensure!(count >= 3, "{count}");
        Ok(count)
    })?;
    report(&format!("  {renewals} certificates for one pod"));
    all_tls(namespace, &app)
}

fn all_tls(namespace: &Namespace, app: &Emojivoto<'_>) -> Result<()> {
    eventually("TLS 100 %", || {
        let rows = rows(&namespace.cluster, &["authority", "-n", &namespace.name])?;
        for (service, port) in [("emoji-svc", 8080), ("voting-svc", 8080), ("web-svc", 80)] {
            let row = find(&rows, &app.authority(service, port))?;
            ensure!(row.rps > Some(0.5) && row.tls > Some(0.9999), "{row:?}");
        }
        Ok(())
    })
}

/// Names of the Secrets that hold a workload's key.
fn workload_secrets(namespace: &Namespace) -> Result<String> {
    let names = namespace.kubectl(&["get", "secrets", "-o", "name"])?;
    let ours = names
        .lines()
        .filter(|name| name.ends_with("-tls-linkerd-io"));
    Ok(ours.collect::<Vec<_>>().join(" "))
}
