//! The real Helm installs, upgrades and removes the control plane, and says how its pods get into the mesh.
//! `E2E_HELM` names Helm; `cargo xtask test` builds it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use e2e::{Cluster, Namespace, on_cluster, report, run, start_server, with_namespace};

const PLANE: &str = "e2e-helm";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/linkerd");
/// Below the bound on a command.
const WAIT: [&str; 2] = ["--wait", "--timeout=120s"];
const TIMEOUT: Duration = Duration::from_secs(150);
/// Everything that has the label of the control plane's namespace.
const KINDS: &str = "deployments,services,serviceaccounts,configmaps,secrets,roles,rolebindings,\
                     clusterroles,clusterrolebindings";

#[test]
fn helm_installs_upgrades_and_removes_the_control_plane() -> Result<()> {
    let Some(program) = env::var_os("E2E_HELM").map(PathBuf::from) else {
        report("skipped: helm: E2E_HELM is not set");
        return Ok(());
    };
    on_cluster("helm", |cluster| {
        let cluster = Cluster {
            control_plane_namespace: PLANE.to_owned(),
            ..cluster.clone()
        };
        let plane = Namespace::create(&cluster, PLANE)?;
        let helm = |args: &[&str]| -> Result<String> {
            let mut command = Command::new(&program);
            command.env("KUBECONFIG", &cluster.kubeconfig);
            command.args(["--namespace", PLANE]).args(args);
            let output = run(&mut command, "", TIMEOUT)?.ok();
            output.with_context(|| format!("helm {}", args.join(" ")))
        };
        // Lines for the shell find it too.
        let folder = program.parent().context("E2E_HELM has no folder")?;
        let outcome = test(&plane, &helm, folder);
        if outcome.is_err() {
            report(&plane.describe());
            // What is left depends on where it broke off.
            drop(helm(&["uninstall", "linkerd"]));
        }
        let deleted = plane.delete();
        outcome.and(deleted)
    })
}

fn test(plane: &Namespace, helm: &dyn Fn(&[&str]) -> Result<String>, folder: &Path) -> Result<()> {
    let cluster = &plane.cluster;
    let image = format!("--set=prometheus.image={}", cluster.prometheus_image()?);
    let values = [
        image.as_str(),
        // One injector is enough for the cluster.
        "--set=injector.enabled=false",
    ];
    let notes = helm(&[&["install", "linkerd", CHART], &values[..], &WAIT].concat())?;
    ensure!(notes.contains("STATUS: deployed"), "{notes}");
    with_namespace(cluster, "helm-app", |app| {
        start_server(app)?;
        check(app)?;
        let values = [
            "--reuse-values",
            "--set=destination.replicas=2,podDisruptionBudget.enabled=true",
        ];
        helm(&[&["upgrade", "linkerd", CHART], &values[..], &WAIT].concat())?;
        let destination = plane.get(&["deployment/linkerd-destination"])?;
        ensure!(destination["status"]["readyReplicas"] == 2, "{destination}");
        check(app)?;
        mesh(plane, &notes, folder)?;
        check(app)?;
        // Foreground: its pods are out of the mesh then.
        let delete = ["delete", "deployments", "--all", "--cascade=foreground"];
        app.kubectl(&delete)?;
        Ok(())
    })?;

    // Two tools on one release would undo each other's work.
    for verb in ["upgrade", "uninstall"] {
        let refused = cluster.linkerd(&[verb], "")?;
        let instead = format!("helm {verb} --namespace {PLANE} linkerd");
        ensure!(
            refused.code == Some(1) && refused.stderr.contains(&instead),
            "{refused:?}"
        );
    }

    helm(&["uninstall", "linkerd", "--wait", "--timeout=120s"])?;
    // Helm does not know what linkerd-ca has made.
    let left = cluster.linkerd(&["uninstall"], "")?.ok()?;
    ensure!(left.contains("linkerd-ca-root"), "{left}");
    cluster.kubectl_with(&["delete", "-f", "-"], &left)?;
    let label = format!("linkerd.io/control-plane-ns={PLANE}");
    let left = cluster.kubectl(&["get", KINDS, "-A", "-l", &label, "-o", "name"])?;
    ensure!(left.trim().is_empty(), "left behind: {left}");
    Ok(())
}

/// Puts the control plane's own pods into the mesh, as Helm's notes have it, and does what else they say of it.
fn mesh(plane: &Namespace, notes: &str, folder: &Path) -> Result<()> {
    for begin in ["helm get manifest", "linkerd check --wait"] {
        let mut lines = notes.lines().map(str::trim_start);
        let line = lines.find(|line| line.starts_with(begin));
        let line = line.with_context(|| format!("no {begin} in {notes}"))?;
        let line = format!("PATH={}:$PATH; {line}", folder.display());
        let said = run(&mut plane.cluster.shell_command(&line)?, "", TIMEOUT)?;
        said.ok().with_context(|| line)?;
        plane.wait_until_all_ready()?;
    }
    let pods = plane.get(&["pods"])?;
    let pods = pods["items"].as_array().context("no pods")?;
    let mut unmeshed = pods
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter(|pod| {
            !pod["spec"]
                .to_string()
                .contains("\"name\":\"linkerd-proxy\"")
        });
    let unmeshed = unmeshed.next();
    ensure!(pods.len() >= 4 && unmeshed.is_none(), "{unmeshed:#?}");
    Ok(())
}

/// `linkerd check` has nothing to say, about the control plane and the proxies of `app`.
fn check(app: &Namespace) -> Result<()> {
    let args = ["check", "--wait", "--proxy", "-o", "short", "-n", &app.name];
    let check = app.cluster.linkerd(&args, "")?;
    ensure!(check.code == Some(0), "{check:?}");
    ensure!(!check.stdout.contains(['×', '‼']), "{}", check.stdout);
    Ok(())
}
