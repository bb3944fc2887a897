//! `linkerd get pods`: the pods that the control plane knows.
//! Entry: [`run`]; `output.rs` prints.

mod output;

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use linkerd_names::{OwnerKind, ResourceType};
use linkerd_proto::public::{ListPodsRequest, api_client::ApiClient};

use crate::{
    control_plane, global::Global, kubeconfig, other_version, resource, selector::Selector, stdout,
};

/// Arguments of `linkerd get`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  # The pods of a namespace, a line each; which of them are meshed, and whose they are.
  linkerd get pods -n emojivoto
  linkerd get pods -n emojivoto -o table

  # Those with a label, wherever they are, for programs.
  linkerd get pods -A -l app=web -o json")]
pub(crate) struct Args {
    /// pods
    #[arg(value_name = "TYPE")]
    pods: Vec<String>,

    #[command(flatten)]
    selector: Selector,

    /// Namespace of the pods; that of the kubeconfig's context when not given
    #[arg(short, long)]
    namespace: Option<String>,

    /// Pods of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// How to print
    #[arg(short, long, default_value = "name")]
    output: Output,
}

/// How pods are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// `namespace/name`, a line each.
    Name,
    /// A table for people.
    Table,
    /// The table with addresses, who has meshed them, and whether metrics come.
    Wide,
    /// An array of objects for programs.
    Json,
}

/// Prints the pods, meshed or not. None is no failure.
///
/// # Errors
/// When something else than pods is asked for, or the control plane has no answer.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Args {
        pods,
        selector,
        namespace,
        all_namespaces,
        output,
    } = args;
    let [word] = pods.as_slice() else {
        bail!("accepts 1 arg(s), received {}", pods.len());
    };
    if resource::parse_type(word) != Ok(ResourceType::Workload(OwnerKind::Pod)) {
        bail!("invalid resource type {word}, valid types: pod");
    }
    let client = match control_plane::api_client(global).await {
        Ok(client) => client,
        Err(error) => return Ok(control_plane::report(global, &error)),
    };
    let namespace = if *all_namespaces {
        String::new()
    } else {
        kubeconfig::namespace(global, namespace.as_deref()).await
    };
    let place = kubeconfig::place(&namespace);
    let request = ListPodsRequest {
        namespace,
        label_selector: selector.selector.clone(),
    };
    let question = async |client: &mut ApiClient<_>| client.list_pods(request).await;
    let answer = other_version::ask(global, &client, "get pods", question)
        .await
        .map_err(|error| anyhow!("ListPods API error: {error}"))?;
    if !selector.selector.is_empty() && !answer.selected {
        bail!(other_version::explain(global, &client, "get pods -l").await);
    }
    if answer.pods.is_empty() {
        crate::stderr::tell!("No resources found{place}.");
    }
    if *output == Output::Wide && !answer.metrics_error.is_empty() {
        crate::stderr::tell!("Whose metrics come is not known: {}", answer.metrics_error);
    }
    let control_plane = &global.linkerd_namespace;
    stdout::print(&match output {
        Output::Name => output::names(&answer.pods),
        Output::Table => output::table(&answer, control_plane, *all_namespaces, false),
        Output::Wide => output::table(&answer, control_plane, *all_namespaces, true),
        Output::Json => output::json(&answer, control_plane),
    });
    Ok(ExitCode::SUCCESS)
}
