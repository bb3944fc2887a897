//! A control plane without Prometheus: `stat`, `edges` and `check` have their figures from `linkerd-api`
//! itself, for an hour.

use anyhow::{Result, ensure};
use e2e::{
    Documented, Emojivoto, Namespace, eventually, find, on_cluster, with_control_plane,
    with_namespace,
};
use serde_json::Value;

#[test]
fn figures_come_from_the_control_planes_own_history() -> Result<()> {
    on_cluster("no-prometheus", |cluster| {
        let flags = [
            "--tls=optional",
            "--set=prometheus.enabled=false",
            // One injector is enough for the cluster.
            "--set=injector.enabled=false",
        ];
        with_control_plane(cluster, "no-prometheus", &flags, |plane| {
            let deployments = plane.kubectl(&["get", "deployments", "-o", "name"])?;
            ensure!(!deployments.contains("prometheus"), "{deployments}");
            with_namespace(&plane.cluster, "no-prometheus", test)?;
            let metrics = plane.metrics(&plane.component("linkerd-api")?, 9992)?;
            ensure!(metrics.contains("\napi_history_series "), "{metrics}");
            Documented::read()?.check("linkerd-api", &metrics)
        })
    })
}

fn test(namespace: &Namespace) -> Result<()> {
    Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
    eventually("figures of the deployments", || {
        let rows = namespace.stat(&["deploy"])?;
        for name in ["web", "emoji", "voting"] {
            let row = find(&rows, name)?;
            ensure!(row.rps > Some(0.5) && row.tls > Some(0.9999), "{row:?}");
        }
        Ok(())
    })?;
    eventually("edges", || {
        let edges = linkerd(namespace, &["edges", "deploy", "-o", "json"])?;
        let edges: Vec<Value> = serde_json::from_str(&edges)?;
        for (src, dst) in [("vote-bot", "web"), ("web", "emoji"), ("web", "voting")] {
            let secured = edges
                .iter()
                .any(|it| it["src"] == src && it["dst"] == dst && it["secured"] == true);
            ensure!(secured, "{src} to {dst}: {edges:#?}");
        }
        Ok(())
    })?;
    linkerd(namespace, &["stat", "deploy", "-t", "1h"])?;
    let args = ["stat", "deploy", "-t", "2h", "-n", &namespace.name];
    let output = namespace.cluster.linkerd(&args, "")?;
    ensure!(
        output.code == Some(1) && output.stderr.contains("a window of 2h needs Prometheus"),
        "{output:?}"
    );
    let check = namespace.cluster.linkerd(&["check"], "")?;
    ensure!(check.stdout.contains("√ [history] "), "{check:?}");
    Ok(())
}

fn linkerd(namespace: &Namespace, args: &[&str]) -> Result<String> {
    let args = [args, &["-n", &namespace.name]].concat();
    namespace.cluster.linkerd(&args, "")?.ok()
}
