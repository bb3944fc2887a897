//! A control plane without Prometheus: `stat`, `edges` and `check` have their figures from `linkerd-api`
//! itself, for an hour.

use anyhow::{Context as _, Result, ensure};
use e2e::{Cluster, Emojivoto, Namespace, eventually, find, on_cluster, report};
use serde_json::Value;

const PLANE: &str = "e2e-no-prometheus-plane";
const COMPONENTS: [&str; 3] = ["linkerd-ca", "linkerd-destination", "linkerd-api"];

#[test]
fn figures_come_from_the_control_planes_own_history() -> Result<()> {
    on_cluster("no-prometheus", |cluster| {
        let cluster = Cluster {
            control_plane_namespace: PLANE.to_owned(),
            ..cluster.clone()
        };
        let args = [
            "install",
            "--tls=optional",
            "--set=prometheus.enabled=false",
            // One injector is enough for the cluster.
            "--set=injector.enabled=false",
        ];
        let manifests = cluster
            .linkerd(&args, "")?
            .ok()
            .context("linkerd install")?;
        ensure!(!manifests.contains("linkerd-prometheus"), "{manifests}");
        let outcome = install(&cluster, &manifests).and_then(|plane| {
            let namespace = Namespace::create(&cluster, "e2e-no-prometheus")?;
            let outcome = test(&namespace);
            if outcome.is_err() {
                report(&(namespace.describe() + &plane.describe()));
            }
            namespace.delete()?;
            outcome
        });
        let args = ["delete", "--ignore-not-found", "--wait=false", "-f", "-"];
        cluster.kubectl_with(&args, &manifests)?;
        outcome
    })
}

fn install(cluster: &Cluster, manifests: &str) -> Result<Namespace> {
    let plane = Namespace::create(cluster, PLANE)?;
    plane.apply(manifests)?;
    plane.wait_until_ready(&COMPONENTS)?;
    Ok(plane)
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
