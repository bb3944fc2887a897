//! `linkerd prune`: prints the objects of the control plane that this version's manifests, with the
//! values that are installed, no longer have; for `kubectl delete -f -`, after an upgrade.

use std::process::ExitCode;

use anyhow::bail;
use linkerd_names::VERSION;

use crate::{
    control_plane::{self, ConnectError, Kubernetes},
    global::Global,
    install,
    objects::{self, Object, Scope},
    release::{self, Release},
    stdout,
};

/// Arguments of `linkerd prune`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  # After an upgrade: remove what the new version has no use for
  linkerd prune | kubectl delete --ignore-not-found -f -")]
pub(crate) struct Args {}

/// Prints the objects on stdout; a word on stderr when there is none.
///
/// # Errors
/// When there is no control plane, or its values are not known; nothing is printed on stdout then.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Args {} = args;
    let namespace = &global.linkerd_namespace;
    let found = match control_plane::kubernetes(global).await {
        Ok(kubernetes) => look(&kubernetes, namespace).await,
        Err(error) => Err(error),
    };
    let (release, mut objects) = match found {
        Ok(found) => found,
        Err(error) => return Ok(control_plane::report(global, &error)),
    };
    let Release::Ours(installed) = &release else {
        bail!(release::missing(&release, namespace, "upgrade").unwrap_or_default());
    };
    if installed.version != VERSION {
        bail!(
            "the control plane in namespace {namespace:?} is of version {}, and this program of {VERSION}: what \
             is to go is what the manifests of the same version no longer have; `linkerd upgrade | kubectl apply \
             -f -` first, or use the program of that version",
            installed.version
        );
    }
    let manifests = install::manifests(namespace, &installed.values(namespace)?)?;
    let wanted = objects::of_manifests(&manifests)?;
    objects.retain(|object| !wanted.contains(object));
    if objects.is_empty() {
        crate::stderr::tell!("Nothing to prune.");
    }
    stdout::print(&objects::documents(&objects));
    Ok(ExitCode::SUCCESS)
}

async fn look(
    kubernetes: &Kubernetes,
    namespace: &str,
) -> Result<(Release, Vec<Object>), ConnectError> {
    let release = release::read(kubernetes, namespace).await?;
    let objects = objects::installed(kubernetes, namespace, Scope::Chart).await?;
    Ok((release, objects))
}
