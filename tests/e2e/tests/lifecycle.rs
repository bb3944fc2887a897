//! A control plane of its own from `install` to `uninstall`: nothing is left of it.

use anyhow::{Context as _, Result, ensure};
use e2e::{Cluster, Namespace, on_cluster, report, start_server};

const PLANE: &str = "e2e-lifecycle-plane";
const COMPONENTS: [&str; 4] = [
    "linkerd-ca",
    "linkerd-destination",
    "linkerd-api",
    "linkerd-prometheus",
];
/// Everything that has the label of the control plane's namespace.
const KINDS: &str = "deployments,services,serviceaccounts,configmaps,secrets,roles,rolebindings,\
                     poddisruptionbudgets,clusterroles,clusterrolebindings,namespaces";

#[test]
fn a_control_plane_comes_changes_and_goes() -> Result<()> {
    on_cluster("lifecycle", |cluster| {
        let cluster = Cluster {
            control_plane_namespace: PLANE.to_owned(),
            ..cluster.clone()
        };
        let plane = Namespace::create(&cluster, PLANE)?;
        let outcome = test(&cluster, &plane);
        if outcome.is_err() {
            report(&plane.describe());
            // What is left when there was no uninstall; when it is nothing, kubectl complains.
            let left = cluster.linkerd(&["uninstall", "--force"], "");
            drop(left.and_then(|left| cluster.kubectl_with(&DELETE, &left.stdout)));
        }
        outcome
    })
}

const DELETE: [&str; 4] = ["delete", "--ignore-not-found", "-f", "-"];

fn test(cluster: &Cluster, plane: &Namespace) -> Result<()> {
    let say = |args: &[&str]| -> Result<String> {
        let output = cluster.linkerd(args, "")?.ok();
        output.with_context(|| format!("linkerd {}", args.join(" ")))
    };
    let image = cluster.prometheus_image()?;
    let installed = say(&[
        "install",
        "--tls=optional",
        // One injector is enough for the cluster.
        "--set=injector.enabled=false",
        "--prometheus-image",
        &image,
    ])?;
    plane.apply(&installed)?;
    plane.wait_until_ready(&COMPONENTS)?;
    ensure!(
        say(&["upgrade"])? == installed,
        "upgrade is not what was installed"
    );
    ensure!(
        say(&["prune"])?.is_empty(),
        "something to prune after an install"
    );

    plane.apply(&say(&[
        "upgrade",
        "--controller-replicas=2",
        "--set=podDisruptionBudget.enabled=true",
    ])?)?;
    plane.wait_until_ready(&COMPONENTS)?;
    ensure!(plane.get(&["deployment/linkerd-ca"])?["spec"]["replicas"] == 2);
    plane.apply(&say(&[
        "upgrade",
        "--set=podDisruptionBudget.enabled=false",
    ])?)?;
    let pruned = say(&["prune"])?;
    ensure!(
        pruned.matches("kind: PodDisruptionBudget").count() == 3,
        "{pruned}"
    );
    cluster.kubectl_with(&["delete", "-f", "-"], &pruned)?;
    ensure!(say(&["prune"])?.is_empty(), "pruned twice");

    let app = Namespace::create(cluster, "e2e-lifecycle")?;
    start_server(&app)?;
    let refused = cluster.linkerd(&["uninstall"], "")?;
    ensure!(
        refused.code == Some(1) && refused.stdout.is_empty(),
        "{refused:?}"
    );
    ensure!(
        refused.stderr.contains("e2e-lifecycle/server-"),
        "{refused:?}"
    );
    cluster.kubectl(&["delete", "namespace", &app.name, "--timeout=120s"])?;

    // As the documentation has it: whatever is not there any more is an error.
    cluster.kubectl_with(&["delete", "-f", "-"], &say(&["uninstall"])?)?;
    let label = format!("linkerd.io/control-plane-ns={PLANE}");
    let left = cluster.kubectl(&["get", KINDS, "-A", "-l", &label, "-o", "name"])?;
    ensure!(left.trim().is_empty(), "left behind: {left}");
    Ok(())
}
