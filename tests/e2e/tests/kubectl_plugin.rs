//! `linkerd` as a plugin of the real kubectl: found on the PATH, completed, and in the namespace that kubectl is in.

use std::{env, fs, os::unix::fs::symlink, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e::{Cluster, Output, on_cluster, run};

/// What kubectl finds on the PATH.
const NAMES: [&str; 2] = ["kubectl-linkerd", "kubectl_complete-linkerd"];
const TIMEOUT: Duration = Duration::from_secs(60);

#[test]
fn kubectl_finds_runs_and_completes_its_plugin() -> Result<()> {
    on_cluster("kubectl-plugin", |cluster| {
        let folder = env::temp_dir().join("linkerd-e2e-plugin");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        let outcome = plugin(cluster, &folder);
        fs::remove_dir_all(&folder)?;
        outcome
    })
}

fn plugin(cluster: &Cluster, folder: &Path) -> Result<()> {
    for name in NAMES {
        symlink(&cluster.linkerd, folder.join(name))?;
    }
    // Other tests are in no namespace.
    let kubeconfig = folder.join("kubeconfig");
    fs::copy(&cluster.kubeconfig, &kubeconfig)?;
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [folder.to_owned()]
        .into_iter()
        .chain(env::split_paths(&path));
    let path = env::join_paths(folders).context("a folder has a `:`")?;
    let kubectl = |args: &[&str]| {
        let mut command = Command::new(&cluster.kubectl);
        command.env("PATH", &path).env("KUBECONFIG", &kubeconfig);
        run(command.args(args), "", TIMEOUT)
    };
    let plugins = kubectl(&["plugin", "list"])?.ok()?;
    ensure!(plugins.contains(NAMES[0]), "{plugins}");

    kubectl(&["config", "set-context", "--current", "--namespace=linkerd"])?.ok()?;
    let pods = kubectl(&["linkerd", "get", "pods"])?.ok()?;
    let mut names = pods.lines();
    ensure!(
        pods.contains("linkerd/linkerd-api-") && names.all(|name| name.starts_with("linkerd/")),
        "{pods}"
    );
    let words = ["__complete", "linkerd", "stat", "deploy/linkerd-a"];
    let completed = kubectl(&words)?.ok()?;
    ensure!(completed.contains("deploy/linkerd-api"), "{completed}");

    let Output {
        code,
        stdout,
        stderr,
    } = kubectl(&["linkerd", "stat", "linkerd-api"])?;
    ensure!(
        (code, stdout.as_str()) == (Some(1), ""),
        "{code:?}: {stdout}"
    );
    let hint = "did you mean \"deploy/linkerd-api\"?";
    ensure!(stderr.contains(hint), "{stderr}");
    Ok(())
}
