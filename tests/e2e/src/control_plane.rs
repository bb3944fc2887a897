//! A control plane beside the cluster's own, for tests that change or remove one.
//! Entry: [`with_control_plane`].

use anyhow::{Context as _, Result};

use crate::{Cluster, Namespace, report};

/// Installs a control plane in the namespace `e2e-<name>-plane` with these flags of
/// `linkerd install`, runs `test`, and removes it. When the test fails, its pods, events and logs are
/// printed first.
///
/// # Errors
/// When it is not installed, and what the test returns.
pub fn with_control_plane(
    cluster: &Cluster,
    name: &str,
    flags: &[&str],
    test: impl FnOnce(&Namespace) -> Result<()>,
) -> Result<()> {
    let cluster = Cluster {
        control_plane_namespace: format!("e2e-{name}-plane"),
        ..cluster.clone()
    };
    let plane = Namespace::create(&cluster, &cluster.control_plane_namespace)?;
    let outcome = install(&plane, flags).and_then(|()| test(&plane));
    if outcome.is_err() {
        report(&plane.describe());
    }
    let uninstall = cluster.linkerd(&["uninstall", "--force"], "");
    let delete = ["delete", "--ignore-not-found", "--wait=false", "-f", "-"];
    let removed = uninstall
        .and_then(|said| said.ok().context("linkerd uninstall"))
        .and_then(|installed| cluster.kubectl_with(&delete, &installed));
    // The test's own error is the better one.
    outcome.and(removed.map(drop))
}

fn install(plane: &Namespace, flags: &[&str]) -> Result<()> {
    let image = plane.cluster.prometheus_image()?;
    let args = [&["install", "--prometheus-image", &image], flags].concat();
    let installed = plane.cluster.linkerd(&args, "")?;
    plane.apply(&installed.ok().context("linkerd install")?)?;
    plane.wait_until_all_ready()
}
