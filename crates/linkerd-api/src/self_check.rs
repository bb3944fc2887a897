//! Whether the control plane reaches what it depends on. Entry: [`self_check`].

use std::time::Duration;

use kube::Client;
use linkerd_proto::public::{CheckResult, CheckStatus};

use crate::prometheus::Prometheus;

/// The Kubernetes API is close; the CLI waits for at most ten seconds.
const KUBERNETES_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns one result for each thing that the control plane depends on.
pub(crate) async fn self_check(kubernetes: &Client, prometheus: &Prometheus) -> Vec<CheckResult> {
    let (kubernetes, prometheus) = tokio::join!(
        ask_kubernetes(kubernetes),
        prometheus.query("vector(1)".to_owned())
    );
    let kubernetes =
        kubernetes.map_err(|error| format!("Error calling the Kubernetes API: {error}"));
    let prometheus = prometheus
        .map(|_| ())
        .map_err(|error| format!("Error calling Prometheus from the control plane: {error}"));
    vec![
        result(
            "kubernetes",
            "control plane can talk to Kubernetes",
            kubernetes,
        ),
        result(
            "prometheus",
            "control plane can talk to Prometheus",
            prometheus,
        ),
    ]
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
