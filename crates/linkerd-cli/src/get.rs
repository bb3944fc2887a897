//! `linkerd get pods`: the pods that the control plane knows.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use linkerd_names::{OwnerKind, ResourceType};
use linkerd_proto::public::ListPodsRequest;

use crate::{control_plane, global::Global, kubeconfig, resource, stdout};

/// Arguments of `linkerd get`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// pods
    #[arg(value_name = "TYPE")]
    resource: Vec<String>,
    /// Namespace of the pods; that of the kubeconfig's context when not given
    #[arg(short, long)]
    namespace: Option<String>,
    /// Pods of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// Prints `namespace/name` of each pod, meshed or not.
///
/// # Errors
/// When something else than pods is asked for, or the control plane has no answer.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Args {
        resource,
        namespace,
        all_namespaces,
    } = args;
    let [word] = resource.as_slice() else {
        bail!("accepts 1 arg(s), received {}", resource.len());
    };
    if resource::parse_type(word) != Ok(ResourceType::Workload(OwnerKind::Pod)) {
        bail!("invalid resource type {word}, valid types: pod");
    }
    let mut api = match control_plane::api_client(global).await {
        Ok(api) => api,
        Err(error) => return Ok(control_plane::report(global, &error)),
    };
    let namespace = if *all_namespaces {
        String::new()
    } else {
        kubeconfig::namespace(global, namespace.as_deref()).await
    };
    let answer = control_plane::answer(api.list_pods(ListPodsRequest { namespace }))
        .await
        .map_err(|error| anyhow!("ListPods API error: {error}"))?;
    if answer.pods.is_empty() {
        crate::stderr::tell!("No resources found.");
    }
    let lines: Vec<String> = answer.pods.into_iter().map(|pod| pod.name + "\n").collect();
    stdout::print(&lines.concat());
    Ok(ExitCode::SUCCESS)
}
