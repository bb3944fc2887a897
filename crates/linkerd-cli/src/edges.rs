//! `linkerd edges`: who connects to whom, and whether that is secured.
//! Entry: [`run`]; `output.rs` prints.

mod output;

use std::process::ExitCode;

use anyhow::{anyhow, ensure};
use clap::ValueEnum;
use linkerd_names::ResourceType;
use linkerd_proto::public::{EdgesRequest, ResourceSelection, api_client::ApiClient};

use crate::{
    control_plane, duration, global::Global, kubeconfig, other_version, resource,
    selector::Selector, stdout,
};

/// Arguments of `linkerd edges`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  # Between the deployments of a namespace, and from and to other namespaces.
  linkerd edges deploy -n emojivoto

  # Of one workload and of another, of whatever type, and between them.
  linkerd edges deploy/web sts/db -n shop

  # Between all pods, with whom both ends have proved to be.
  linkerd edges po -A -o wide")]
pub(crate) struct Args {
    /// TYPE or TYPE,TYPE; TYPE NAME or TYPE NAME NAME; TYPE/NAME, once or more; types: deployment,
    /// daemonset, statefulset, replicaset, replicationcontroller, cronjob, job, pod, namespace
    #[arg(value_name = "RESOURCE")]
    resource: Vec<String>,

    #[command(flatten)]
    selector: Selector,

    /// Namespace of one end of each edge; that of the kubeconfig's context when not given
    #[arg(short, long)]
    namespace: Option<String>,

    /// Edges of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// How far back to look: 30s, 10m, 1h
    #[arg(short, long, default_value = "10m")]
    time_window: String,

    /// How to print
    #[arg(short, long, default_value = "table")]
    output: Output,
}

/// How edges are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table for people.
    Table,
    /// The table with identities and counts.
    Wide,
    /// An array of objects for programs.
    Json,
}

/// Asks the control plane and prints the edges. Nothing to print is no failure.
///
/// # Errors
/// When the flags make no sense, or the control plane has no answer.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let namespace = kubeconfig::namespace(global, args.namespace.as_deref()).await;
    let request = request(args, &namespace)?;
    let place = kubeconfig::place(resource::namespace(request.selector.as_ref()));
    let client = match control_plane::api_client(global).await {
        Ok(client) => client,
        Err(error) => return Ok(control_plane::report(global, &error)),
    };
    let question = async |client: &mut ApiClient<_>| client.edges(request).await;
    let answer = other_version::ask(global, &client, "edges", question)
        .await
        .map_err(|error| anyhow!("Edges API error: {error}"))?;
    if answer.edges.is_empty() {
        crate::stderr::tell!("No edges found{place}.");
    }
    stdout::print(&match args.output {
        Output::Table => output::table(&answer.edges, false),
        Output::Wide => output::table(&answer.edges, true),
        Output::Json => output::json(&answer.edges),
    });
    Ok(ExitCode::SUCCESS)
}

fn request(args: &Args, namespace: &str) -> anyhow::Result<EdgesRequest> {
    let Args {
        resource,
        selector,
        namespace: _,
        all_namespaces,
        time_window,
        output: _,
    } = args;
    ensure!(
        !resource.is_empty(),
        "requires at least 1 arg(s), only received 0"
    );
    let words: Vec<&str> = resource.iter().map(String::as_str).collect();
    let targets = resource::parse_several(&words)?;
    for (kind, name) in &targets {
        ensure!(
            matches!(kind, ResourceType::Workload(_) | ResourceType::Namespace),
            "unsupported resource type [{kind}]: edges are between workloads, pods or namespaces"
        );
        ensure!(
            !*all_namespaces || name.is_empty() || *kind == ResourceType::Namespace,
            "edges of a resource cannot be retrieved by name across all namespaces"
        );
    }
    let window = duration::parse(time_window)?;
    ensure!(!window.is_zero(), "the time window is empty");
    let namespace = if *all_namespaces { "" } else { namespace };
    let mut selections = targets.into_iter().map(|(kind, name)| ResourceSelection {
        resource: Some(resource::message(kind, namespace, &name)),
        label_selector: selector.selector.clone(),
    });
    Ok(EdgesRequest {
        selector: selections.next(),
        other_selectors: selections.collect(),
        time_window: duration::whole_units(time_window, window),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Edges {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn flags_that_make_no_sense_are_refused_before_anybody_is_asked() {
        for (flags, message) in [
            ("", "requires at least 1 arg(s), only received 0"),
            ("po po/x,po", "pod is asked for twice"),
            (
                "node",
                "cannot find Kubernetes canonical name from friendly name [node]",
            ),
            (
                "svc",
                "unsupported resource type [service]: edges are between workloads, pods or namespaces",
            ),
            ("po -t 1", "time: missing unit in duration 1"),
            ("po -t 0s", "the time window is empty"),
            (
                "po/x -A",
                "edges of a resource cannot be retrieved by name across all namespaces",
            ),
        ] {
            let words = ["edges"].into_iter().chain(flags.split_whitespace());
            let args = Edges::try_parse_from(words).expect("known flags").args;
            let said = request(&args, "default").expect_err(flags).to_string();
            assert_eq!(said.split(": types are").next(), Some(message), "{flags}");
        }
    }
}
