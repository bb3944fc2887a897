//! `linkerd stat`: traffic of workloads, Services, namespaces or authorities.
//! Entry: [`run`]; `request.rs` reads the flags, `rows.rs` computes, `output.rs` prints.

mod output;
mod request;
mod rows;

use std::{process::ExitCode, time::Duration};

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use linkerd_proto::public::{api_client::ApiClient, stat_summary_response::Response};
use tracing::debug;

use crate::{
    control_plane, global::Global, kubeconfig, other_version, resource, selector::Selector, stdout,
};

/// Arguments of `linkerd stat`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  # All authorities that the workloads of a namespace were asked for.
  linkerd stat authority -n emojivoto

  # One deployment; several; all of two kinds; those with a label.
  linkerd stat deploy/web -n emojivoto
  linkerd stat deploy/web sts/db -n emojivoto
  linkerd stat deploy,sts -n emojivoto
  linkerd stat deploy -l app.kubernetes.io/part-of=shop -A

  # Requests from one deployment to each service.
  linkerd stat svc --from deploy/web -n emojivoto

  # Everything, everywhere, with the reasons for plaintext.
  linkerd stat all -A -o wide")]
pub(crate) struct Args {
    /// TYPE or TYPE,TYPE; TYPE NAME or TYPE NAME NAME; TYPE/NAME, once or more; types: deployment,
    /// daemonset, statefulset, replicaset, replicationcontroller, cronjob, job, pod, namespace,
    /// service, authority, all
    #[arg(value_name = "RESOURCE")]
    resource: Vec<String>,

    #[command(flatten)]
    selector: Selector,

    /// Namespace of the resources; that of the kubeconfig's context when not given
    #[arg(short, long)]
    namespace: Option<String>,

    /// Resources of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// How far back to look: 30s, 1m, 1h
    #[arg(short, long, default_value = "1m")]
    time_window: String,

    /// Count only requests to this resource
    #[arg(long, value_name = "RESOURCE")]
    to: Option<String>,

    /// Namespace of the resource given by --to; alone: requests to this namespace
    #[arg(long, value_name = "NAMESPACE")]
    to_namespace: Option<String>,

    /// Count only requests from this resource
    #[arg(long, value_name = "RESOURCE")]
    from: Option<String>,

    /// Namespace of the resource given by --from; alone: requests from this namespace
    #[arg(long, value_name = "NAMESPACE")]
    from_namespace: Option<String>,

    /// How to print
    #[arg(short, long, default_value = "table")]
    output: Output,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table for people.
    Table,
    /// The table with connections and the reasons for plaintext.
    Wide,
    /// An array of objects for programs.
    Json,
}

/// In every window of this length each proxy has told its counters twice.
const WINDOW_MIN: Duration = Duration::from_secs(20);

/// Asks the control plane and prints the rows. Nothing to print is no failure.
///
/// # Errors
/// When the flags make no sense, or the control plane has no answer.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let namespace = kubeconfig::namespace(global, args.namespace.as_deref()).await;
    let (requests, window) = request::build(args, &namespace).map_err(|error| {
        anyhow!("error creating metrics request while making stats request: {error}")
    })?;
    debug!(?requests, "the questions");
    if window < WINDOW_MIN {
        crate::stderr::tell!(
            "Warning: proxies say what they have counted every ten seconds; in a window of less than {} s there is \
             mostly nothing to compare",
            WINDOW_MIN.as_secs()
        );
    }
    let selector = requests.first().and_then(|it| it.selector.as_ref());
    let place = kubeconfig::place(resource::namespace(selector));
    let client = match control_plane::api_client(global).await {
        Ok(client) => client,
        Err(error) => return Ok(control_plane::report(global, &error)),
    };
    let mut answers = Vec::new();
    for request in requests {
        let question = async |client: &mut ApiClient<_>| client.stat_summary(request).await;
        let response = other_version::ask(global, &client, "stat", question)
            .await
            .map_err(|error| anyhow!("StatSummary API error: {error}"))?;
        match response.response {
            Some(Response::Ok(ok)) => answers.extend(ok.stat_tables),
            Some(Response::Error(error)) => {
                bail!("StatSummary API response error: {}", error.error)
            }
            None => bail!("StatSummary API error: the answer is empty"),
        }
    }
    if let Some(seen) = rows::seen(&answers, window) {
        crate::stderr::tell!(
            "The figures are of the last {} s: linkerd-api, which keeps them itself, knows nothing of before.",
            seen.as_secs()
        );
    }
    let tables = rows::tables(answers, window)?;
    if tables.iter().all(|table| table.rows.is_empty()) {
        crate::stderr::tell!("No traffic found{place}.");
    }
    stdout::print(&match args.output {
        Output::Table => output::table(&tables, args.all_namespaces, false),
        Output::Wide => output::table(&tables, args.all_namespaces, true),
        Output::Json => output::json(&tables),
    });
    Ok(ExitCode::SUCCESS)
}
