//! Whether the control plane reaches what it depends on. Entry: [`self_check`].

use std::time::Duration;

use kube::Client;
use linkerd_proto::public::{CheckResult, CheckStatus};

use crate::{metrics::Metrics, prometheus::Prometheus};

/// The Kubernetes API is close; the CLI waits for at most ten seconds.
const KUBERNETES_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns one result for each thing that the control plane depends on.
pub(crate) async fn self_check(kubernetes: &Client, metrics: &Metrics) -> Vec<CheckResult> {
    let (kubernetes, metrics) = tokio::join!(ask_kubernetes(kubernetes), check_metrics(metrics));
    let kubernetes =
        kubernetes.map_err(|error| format!("Error calling the Kubernetes API: {error}"));
    vec![
        result(
            "kubernetes",
            "control plane can talk to Kubernetes",
            kubernetes,
        ),
        metrics,
    ]
}

/// The row says where figures come from.
async fn check_metrics(metrics: &Metrics) -> CheckResult {
    match metrics {
        Metrics::Prometheus(prometheus) => result(
            "prometheus",
            "control plane can talk to Prometheus",
            ask_prometheus(prometheus).await,
        ),
        Metrics::History(history) => result(
            "history",
            "control plane keeps the last hour itself (own history, no Prometheus)",
            history.check(),
        ),
    }
}

async fn ask_prometheus(prometheus: &Prometheus) -> Result<(), String> {
    match prometheus.query("vector(1)").await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "Error calling Prometheus from the control plane: {error}"
        )),
    }
}

async fn ask_kubernetes(client: &Client) -> Result<(), String> {
    match tokio::time::timeout(KUBERNETES_TIMEOUT, client.apiserver_version()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {KUBERNETES_TIMEOUT:?}")),
    }
}

fn result(subsystem: &str, description: &str, outcome: Result<(), String>) -> CheckResult {
    let (status, message) = match outcome {
        Ok(()) => (CheckStatus::Ok, String::new()),
        Err(message) => (CheckStatus::Error, message),
    };
    CheckResult {
        subsystem_name: subsystem.to_owned(),
        check_description: description.to_owned(),
        status: status.into(),
        friendly_message_to_user: message,
    }
}
