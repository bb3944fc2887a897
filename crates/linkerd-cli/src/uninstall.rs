//! `linkerd uninstall`: prints every object of the control plane, for `kubectl delete -f -`.
//! It refuses while pods are in the mesh: nobody would tell their proxies where to connect to.

use std::process::ExitCode;

use anyhow::bail;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use linkerd_names::labels;

use crate::{
    control_plane::{self, ConnectError, Kubernetes, within},
    global::Global,
    objects::{self, Object, Scope},
    others,
    release::{self, Release},
    stdout,
};

/// So many pods are named; the number tells of the others.
const PODS_NAMED_MAX: usize = 20;

/// Arguments of `linkerd uninstall`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  # First take what runs in a namespace out of the mesh
  kubectl get -n emojivoto deploy -o yaml | linkerd uninject - | kubectl apply -f -

  # Then remove the control plane
  linkerd uninstall | kubectl delete -f -")]
pub(crate) struct Args {
    /// Even while pods are in the mesh, or when Helm has installed the control plane
    #[arg(long)]
    force: bool,
}

/// Prints the objects on stdout.
///
/// # Errors
/// When there is nothing to uninstall, or pods are in the mesh; nothing is printed on stdout then.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Args { force } = args;
    let namespace = &global.linkerd_namespace;
    let kubernetes = match control_plane::kubernetes(global).await {
        Ok(kubernetes) => kubernetes,
        Err(error) => return Ok(control_plane::report(global, &error)),
    };
    let (release, pods, mut objects) = match look(&kubernetes, namespace).await {
        Ok(found) => found,
        Err(error) => return Ok(control_plane::report(global, &error)),
    };
    if let Release::Helm(_) = release
        && !force
    {
        bail!(release::missing(&release, namespace, "uninstall").unwrap_or_default());
    }
    if objects.is_empty() {
        bail!("there is nothing of a control plane in namespace {namespace:?}");
    }
    if !pods.is_empty() {
        let text = in_the_mesh(&pods);
        if !force {
            bail!(
                "{text}\nTake them out of the mesh first: kubectl get -n NAMESPACE deploy -o yaml | \
                 linkerd uninject - | kubectl apply -f -\nwhere linkerd-injector has meshed them: kubectl annotate \
                 namespace NAMESPACE linkerd.io/inject- && kubectl rollout restart -n NAMESPACE deploy\nor use --force"
            );
        }
        crate::stderr::tell!("Warning: {text}");
    }
    if let Some(why) = kept(&kubernetes, namespace, &objects).await {
        objects.retain(|object| !object.is_namespace());
        crate::stderr::tell!(
            "Namespace {namespace:?} stays, for {why}. If nobody needs it: kubectl delete namespace {namespace}"
        );
    }
    stdout::print(&objects::documents(&objects));
    Ok(ExitCode::SUCCESS)
}

/// Why the namespace is not to be deleted; none when nothing else goes with it.
async fn kept(kubernetes: &Kubernetes, namespace: &str, objects: &[Object]) -> Option<String> {
    /// More than these say nothing new.
    const SHOWN: usize = 5;
    if !objects.iter().any(Object::is_namespace) {
        return None;
    }
    let unknown = |why: &str| Some(format!("nobody knows what others have in it: {why}"));
    match others::silent_services(kubernetes).await {
        Ok(silent) if silent.is_empty() => {}
        Ok(silent) => return unknown(&format!("no answer from {}", silent.join(", "))),
        Err(error) => return unknown(&kubernetes.explain(&error)),
    }
    match others::find(kubernetes, namespace, objects).await {
        Ok(others) if others.is_empty() => None,
        Ok(others) => {
            let more = others.len().saturating_sub(SHOWN);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            let shown: Vec<&str> = others.iter().take(SHOWN).map(String::as_str).collect();
            Some(format!(
                "others have something in it: {}{more}",
                shown.join(", ")
            ))
        }
        Err(error) => unknown(&kubernetes.explain(&error)),
    }
}

async fn look(
    kubernetes: &Kubernetes,
    namespace: &str,
) -> Result<(Release, Vec<String>, Vec<Object>), ConnectError> {
    let release = release::read(kubernetes, namespace).await?;
    let pods = meshed_pods(kubernetes, namespace).await?;
    let objects = objects::installed(kubernetes, namespace, Scope::Everything).await?;
    Ok((release, pods, objects))
}

/// The pods with a proxy of this control plane, `namespace/name`, other than its own. What has ended
/// does not count.
async fn meshed_pods(
    kubernetes: &Kubernetes,
    namespace: &str,
) -> Result<Vec<String>, ConnectError> {
    let ours = format!("{}={namespace}", labels::CONTROL_PLANE_NAMESPACE);
    let running = ListParams::default()
        .labels(&ours)
        .fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods: Api<Pod> = Api::all(kubernetes.client.clone());
    let pods = within(pods.list_metadata(&running))
        .await
        .map_err(|error| objects::refused(kubernetes, &error, "pods"))?;
    let others = pods
        .items
        .iter()
        .filter(|pod| pod.namespace().as_deref() != Some(namespace));
    let mut names: Vec<String> = others
        .map(|pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()))
        .collect();
    names.sort_unstable();
    Ok(names)
}

fn in_the_mesh(pods: &[String]) -> String {
    let mut text = match pods.len() {
        1 => "1 pod is in the mesh:".to_owned(),
        count => format!("{count} pods are in the mesh:"),
    };
    for pod in pods.iter().take(PODS_NAMED_MAX) {
        text.push_str("\n  ");
        text.push_str(pod);
    }
    if pods.len() > PODS_NAMED_MAX {
        text.push_str(&format!("\n  and {} more", pods.len() - PODS_NAMED_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_pods_are_not_all_named() {
        assert_eq!(
            in_the_mesh(&["a/b".to_owned()]),
            "1 pod is in the mesh:\n  a/b"
        );
        let pods: Vec<String> = (0..23).map(|n| format!("shop/web-{n}")).collect();
        let text = in_the_mesh(&pods);
        assert!(text.starts_with("23 pods are in the mesh:\n  shop/web-0\n"));
        assert!(text.ends_with("\n  shop/web-19\n  and 3 more"));
    }
}
