//! `linkerd tap`: the requests and connections of workloads' pods as they pass.
//! Entry: [`run`]; `request.rs` reads the flags, `output.rs` prints.

pub(crate) mod output;
pub(crate) mod request;

use std::{error::Error as _, process::ExitCode};

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use linkerd_proto::public::{
    TapByResourceRequest, TapByResourceResponse, api_client::ApiClient,
    tap_by_resource_response::Response,
};
use tonic::{Status, Streaming};
use tracing::debug;

use crate::{
    control_plane::{self, ConnectError},
    global::Global,
    kubeconfig, other_version, proof,
    selector::Selector,
    stdout,
    visible::visible_words,
};

/// Which requests and connections to watch.
#[derive(clap::Args, Debug)]
pub(crate) struct Filters {
    /// TYPE or TYPE,TYPE; TYPE NAME or TYPE NAME NAME; TYPE/NAME, once or more; types: deployment,
    /// daemonset, statefulset, replicaset, replicationcontroller, cronjob, job, pod, namespace,
    /// service
    #[arg(value_name = "RESOURCE")]
    pub(crate) resource: Vec<String>,

    #[command(flatten)]
    pub(crate) selector: Selector,

    /// Namespace of the resources; that of the kubeconfig's context when not given
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,

    /// Resources of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,

    /// Only what goes to this resource
    #[arg(long, value_name = "RESOURCE")]
    pub(crate) to: Option<String>,

    /// Namespace of the resource given by --to; alone: what goes to this namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) to_namespace: Option<String>,

    /// Only requests, or only connections that carry none
    #[arg(long)]
    pub(crate) protocol: Option<Protocol>,

    /// How many requests and connections to show in a second, of all pods together
    #[arg(long, value_name = "NUMBER", default_value_t = 100.0)]
    pub(crate) max_rps: f32,

    /// Only requests with this scheme: http, https
    #[arg(long)]
    pub(crate) scheme: Option<String>,

    /// Only requests with this method
    #[arg(long)]
    pub(crate) method: Option<String>,

    /// Only requests with exactly this :authority or Host
    #[arg(long)]
    pub(crate) authority: Option<String>,

    /// Only requests whose path begins so
    #[arg(long, value_name = "PREFIX")]
    pub(crate) path: Option<String>,
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// HTTP/1, HTTP/2 and gRPC.
    Http,
    /// Whatever else TCP carries: databases, mail, the applications' own TLS.
    Tcp,
}

/// Arguments of `linkerd tap`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  # The requests and connections of one deployment, in both directions; of several workloads.
  linkerd tap deploy/web -n emojivoto
  linkerd tap deploy/web deploy/voting -n emojivoto
  linkerd tap deploy -l app.kubernetes.io/part-of=shop -A

  # Who connects to a database, for how long, and how it ends.
  linkerd tap sts/db -n shop --protocol tcp

  # What it asks of another one.
  linkerd tap deploy/web -n emojivoto --to deploy/voting --method POST

  # Everything in a namespace, for programs: one object a line.
  linkerd tap ns/emojivoto -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    filters: Filters,

    /// How to print; a line an event without this
    #[arg(short, long)]
    output: Option<Output>,
}

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line with the pods or workloads at both ends, and the reason for plaintext.
    Wide,
    /// An object a line, for programs.
    Json,
}

/// Prints events until it is interrupted, its reader has gone, or the control plane ends the tap.
///
/// # Errors
/// When the flags make no sense, the user may not tap, or the control plane has no answer.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Args { filters, output } = args;
    let namespace = kubeconfig::namespace(global, filters.namespace.as_deref()).await;
    let request::Question { request, kinds } = request::build(filters, &namespace)?;
    let mut events = match events(global, request).await? {
        Ok(events) => events,
        Err(code) => return Ok(code),
    };
    while let Some(update) = events.next().await? {
        let event = match update {
            Response::Event(event) => event,
            Response::Trouble(trouble) => {
                // Whoever listens on that port of the pod may have said it.
                let error = visible_words(&trouble.error);
                crate::stderr::tell!("pod {}: {error}", trouble.pod);
                continue;
            }
        };
        stdout::print(&match output {
            None => output::line(&event, None),
            Some(Output::Wide) => output::line(&event, Some(&kinds)),
            Some(Output::Json) => output::json(&event),
        });
    }
    bail!("the control plane has ended the tap");
}

/// What the control plane sends.
pub(crate) struct Events(Streaming<TapByResourceResponse>);

impl Events {
    /// Waits for the next event, or the next pod that cannot be watched; none at the end.
    ///
    /// Whoever waits for something else too may drop the future: no event is lost.
    ///
    /// # Errors
    /// Why the control plane has ended the tap.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Response>> {
        loop {
            let update = self.0.message().await;
            match update.map_err(|status| ended(&status))? {
                None => return Ok(None),
                Some(TapByResourceResponse {
                    response: Some(response),
                }) => return Ok(Some(response)),
                // Of a later control plane.
                Some(TapByResourceResponse { response: None }) => {}
            }
        }
    }
}

/// Why a tap has ended: the control plane's words, or that there is no way to it any more.
fn ended(status: &Status) -> anyhow::Error {
    let text = control_plane::text(status);
    // What the control plane has said has no cause on this side.
    if status.source().is_none() {
        return anyhow!("tap ended: {text}");
    }
    debug!(reason = text, "the tap broke off");
    anyhow!("tap ended: the connection to the control plane was lost; start it again")
}

/// Begins a tap; an exit code when there is no control plane, which the user was told.
///
/// # Errors
/// When the control plane refuses.
pub(crate) async fn events(
    global: &Global,
    request: TapByResourceRequest,
) -> anyhow::Result<Result<Events, ExitCode>> {
    match begin(global, request).await {
        Ok(events) => Ok(Ok(events)),
        Err(error) => match error.downcast::<ConnectError>() {
            Ok(error) => Ok(Err(control_plane::report(global, &error))),
            Err(error) => Err(error),
        },
    }
}

/// Begins a tap.
///
/// # Errors
/// [`ConnectError`] when there is no control plane, any other when it refuses.
pub(crate) async fn begin(
    global: &Global,
    mut request: TapByResourceRequest,
) -> anyhow::Result<Events> {
    let kubernetes = control_plane::kubernetes(global).await?;
    let client = control_plane::api_client(global).await?;
    request.proof = proof::prove(&kubernetes).await?.into();
    let question = async |client: &mut ApiClient<_>| client.tap_by_resource(request).await;
    let answer = other_version::ask(global, &client, "tap", question).await;
    answer
        .map(Events)
        .map_err(|error| anyhow!("cannot tap: {error}"))
}
