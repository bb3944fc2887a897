//! The way to the cluster and to `linkerd-api` in it.
//! Entries: [`kubernetes`], [`api_client`]; [`report`] says why there is none. Every wait has
//! a bound. The way leads through the Kubernetes API, so it works wherever kubectl works.

use std::{error::Error, future::Future, io, process::ExitCode, time::Duration};

use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, Client, api::ListParams, client::UpgradeConnectionError};
use linkerd_names::{CONTROL_PLANE_NAMESPACE_DEFAULT, component, labels, ports};
use linkerd_proto::public::api_client::ApiClient;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint};
use tracing::debug;

use crate::{global::Global, kubeconfig};

/// Nobody looks at a silent terminal for longer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// An edge is some 280 bytes, and a pod has a few dozen: those of some ten thousand pods have to get through.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a command cannot talk to what it needs. The texts say what to ask the administrator for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// There is no way to the Kubernetes API.
    #[error("Cannot connect to Kubernetes: {0}")]
    Kubernetes(String),
    /// Kubernetes answers, but there is no way to the control plane.
    #[error("Cannot connect to Linkerd: {0}")]
    Linkerd(String),
}

impl ConnectError {
    /// The text without saying to what there is no connection.
    pub(crate) fn reason(&self) -> &str {
        let (Self::Kubernetes(reason) | Self::Linkerd(reason)) = self;
        reason
    }
}

/// The Kubernetes API of one cluster.
#[derive(Clone)]
pub(crate) struct Kubernetes {
    pub(crate) client: Client,
    url: String,
}

impl Kubernetes {
    /// The error of a call, with the server's address when nobody answered there.
    pub(crate) fn explain(&self, error: &CallError) -> String {
        match error {
            CallError::Kube(kube::Error::Api(status)) if status.code == 401 => {
                format!(
                    "{}: the credentials are refused: {error}",
                    self.url.trim_end_matches('/')
                )
            }
            CallError::Kube(kube::Error::Api(_)) => error.to_string(),
            _ => format!("{}: {error}", self.url.trim_end_matches('/')),
        }
    }
}

/// Prints why there is no connection, and what shows more. The exit code is the command's.
pub(crate) fn report(global: &Global, error: &ConnectError) -> ExitCode {
    let namespace = &global.linkerd_namespace;
    let flag = if namespace == CONTROL_PLANE_NAMESPACE_DEFAULT {
        String::new()
    } else {
        format!(" --linkerd-namespace {namespace}")
    };
    crate::stderr::tell!("{error}\nValidate the install with: linkerd check{flag}");
    ExitCode::FAILURE
}

/// Makes a client of the Kubernetes API from the flags and kubectl's rules. Connects to nothing.
///
/// # Errors
/// [`ConnectError::Kubernetes`] when the kubeconfig is missing, broken or has no such context.
pub(crate) async fn kubernetes(global: &Global) -> Result<Kubernetes, ConnectError> {
    let mut config = kubeconfig::config(global).await?;
    config.connect_timeout = Some(TIMEOUT / 2);
    config.default_retry = false;
    if let Some(user) = &global.as_user {
        config.auth_info.impersonate = Some(user.clone());
    }
    if !global.as_group.is_empty() {
        config.auth_info.impersonate_groups = Some(global.as_group.clone());
    }
    let url = config.cluster_url.to_string();
    debug!(url, "the Kubernetes API");
    let exec = config.auth_info.exec.clone();
    let client = Client::try_from(config);
    let client = client.map_err(|error| kubeconfig::no_client(&error, exec.as_ref()))?;
    Ok(Kubernetes { client, url })
}

/// Connects to `linkerd-api`: to `--api-addr` when given, else to a ready pod of it.
///
/// # Errors
/// [`ConnectError`] says on which step of the way the end was.
pub(crate) async fn api_client(global: &Global) -> Result<ApiClient<Channel>, ConnectError> {
    if let Some(address) = &global.api_addr {
        if global.kubeconfig.is_some() || global.context.is_some() {
            // It may name the namespace. One that cannot be read must not stand for another.
            kubeconfig::config(global).await?;
        }
        return direct(address).await;
    }
    let kubernetes = kubernetes(global).await?;
    forwarded(&kubernetes, &global.linkerd_namespace).await
}

/// Connects to a ready pod of `linkerd-api` by port-forward.
///
/// # Errors
/// [`ConnectError`] says on which step of the way the end was.
pub(crate) async fn forwarded(
    kubernetes: &Kubernetes,
    namespace: &str,
) -> Result<ApiClient<Channel>, ConnectError> {
    let Forward {
        pod,
        stream,
        problem,
    } = forward(kubernetes, namespace, ports::API).await?;
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream
            .take()
            .ok_or_else(|| io::Error::other("the port-forward ended"));
        async move { stream }
    });
    let endpoint = Endpoint::from_static("http://linkerd-api");
    let connect = endpoint.connect_with_connector(connector);
    let reason = tokio::select! {
        connected = tokio::time::timeout(TIMEOUT, connect) => match connected {
            Ok(Ok(channel)) => {
                debug!("connected to linkerd-api");
                return Ok(asking(channel));
            }
            Ok(Err(error)) => causes(&error),
            Err(_) => no_answer(),
        },
        Some(problem) = problem => problem.trim().to_owned(),
    };
    Err(ConnectError::Linkerd(format!(
        "pod {pod} in namespace {namespace:?}: {reason}"
    )))
}

/// One connection to a port of a pod, by way of the Kubernetes API.
pub(crate) struct Forward<S, P> {
    /// Name of the pod.
    pub(crate) pod: String,
    pub(crate) stream: S,
    /// What the pod's node says when the connection cannot be made, or breaks.
    pub(crate) problem: P,
}

/// Opens a connection to `port` of a ready pod of `linkerd-api`. Whether something listens there shows
/// when it is used.
///
/// # Errors
/// [`ConnectError`] says on which step of the way the end was.
pub(crate) async fn forward(
    kubernetes: &Kubernetes,
    namespace: &str,
    port: u16,
) -> Result<
    Forward<
        impl AsyncRead + AsyncWrite + Unpin + use<>,
        impl Future<Output = Option<String>> + use<>,
    >,
    ConnectError,
> {
    let refused = |error: CallError, verb, resource| {
        if error.is_forbidden() {
            return ConnectError::Linkerd(no_permission(verb, resource, Some(namespace)));
        }
        ConnectError::Kubernetes(kubernetes.explain(&error))
    };
    let pods: Api<Pod> = Api::namespaced(kubernetes.client.clone(), namespace);
    let selector = format!("{}={}", labels::CONTROL_PLANE_COMPONENT, component::API);
    let found = within(pods.list(&ListParams::default().labels(&selector)))
        .await
        .map_err(|error| refused(error, "list", "pods"))?;
    if found.items.is_empty() {
        return Err(absent(kubernetes, namespace).await);
    }
    let Some(pod) = found.items.iter().find(|pod| is_ready(pod)) else {
        return Err(ConnectError::Linkerd(format!(
            "no pod of {} is ready in namespace {namespace:?}",
            component::API
        )));
    };
    let pod = pod.metadata.name.clone().unwrap_or_default();
    debug!(pod, namespace, port, "port-forward to linkerd-api");
    let mut forward = within(pods.portforward(&pod, &[port]))
        .await
        .map_err(|error| refused(error, "get and create", "pods/portforward"))?;
    let taken_once = "a port is taken once";
    Ok(Forward {
        pod,
        stream: forward.take_stream(port).expect(taken_once),
        problem: forward.take_error(port).expect(taken_once),
    })
}

async fn direct(address: &str) -> Result<ApiClient<Channel>, ConnectError> {
    let failed = |reason: String| {
        ConnectError::Linkerd(format!("no {} at {address:?}: {reason}", component::API))
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| failed(causes(&error)))?;
    match tokio::time::timeout(TIMEOUT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(asking(channel)),
        Ok(Err(error)) => Err(failed(causes(&error))),
        Err(_) => Err(failed(no_answer())),
    }
}

fn asking(channel: Channel) -> ApiClient<Channel> {
    ApiClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// What to ask the administrator for.
pub(crate) fn no_permission(verb: &str, resource: &str, namespace: Option<&str>) -> String {
    let place = match namespace {
        Some(namespace) => format!("in namespace {namespace:?}"),
        None => "in the whole cluster".to_owned(),
    };
    format!("no permission: ask for the right to {verb} {resource} {place}")
}

/// Why there is no pod: the namespace is missing, or only the control plane in it.
async fn absent(kubernetes: &Kubernetes, namespace: &str) -> ConnectError {
    let namespaces: Api<Namespace> = Api::all(kubernetes.client.clone());
    // Whoever may not look at namespaces gets the less exact words.
    let missing = matches!(within(namespaces.get_opt(namespace)).await, Ok(None));
    ConnectError::Linkerd(if missing {
        format!("The {namespace:?} namespace does not exist")
    } else {
        format!(
            "no control plane in namespace {namespace:?}: {} has no pod",
            component::API
        )
    })
}

/// Whether Kubernetes says that the pod is ready, and it is not ending.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .any(|it| it.type_ == "Ready" && it.status == "True")
}

/// A call to Kubernetes without result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{}", api_text(.0))]
    Kube(kube::Error),
    #[error("{}", no_answer())]
    Timeout,
}

impl CallError {
    /// Whether Kubernetes refused because of missing rights.
    pub(crate) fn is_forbidden(&self) -> bool {
        match self {
            Self::Kube(kube::Error::Api(status)) => status.code == 403,
            Self::Kube(kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(
                status,
            ))) => status.as_u16() == 403,
            _ => false,
        }
    }
}

/// Waits for a call to Kubernetes, but not for ever.
///
/// # Errors
/// The call's own, or [`CallError::Timeout`].
pub(crate) async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(answer) => answer.map_err(CallError::Kube),
        Err(_) => Err(CallError::Timeout),
    }
}

/// Waits for an answer of `linkerd-api`, but not for ever.
///
/// # Errors
/// The text of the answer's status.
pub(crate) async fn answer<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, String> {
    let answer = tokio::time::timeout(TIMEOUT, call).await;
    debug!(answered = answer.is_ok(), "asked linkerd-api");
    match answer {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(text(&status)),
        Err(_) => Err(no_answer()),
    }
}

/// What `linkerd-api` says, or the transport when that failed.
pub(crate) fn text(status: &tonic::Status) -> String {
    if status.message().is_empty() {
        return causes(status);
    }
    status.message().to_owned()
}

fn no_answer() -> String {
    format!("no answer within {} s", TIMEOUT.as_secs())
}

fn api_text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        // The outer layers only say that something below them failed.
        kube::Error::Service(error) => innermost(error.as_ref()),
        other => causes(other),
    }
}

fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// An error and what caused it, in one line. Causes that their effect already quotes are left out.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
