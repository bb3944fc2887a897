//! The process as it is started: what becomes of it when a part of it breaks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{process::Stdio, time::Duration};

use tokio::process::Command;

/// The process ends in milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_process_ends_when_the_identity_service_cannot_be_served() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    // Nobody listens there: the watches try again and again.
    let text = "
apiVersion: v1
kind: Config
clusters: [{ name: a, cluster: { server: 'http://127.0.0.9:1' } }]
contexts: [{ name: a, context: { cluster: a, user: a } }]
users: [{ name: a, user: {} }]
current-context: a
";
    std::fs::write(&kubeconfig, text).unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_linkerd-destination"))
        .args(["--addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"])
        .args([
            "--identity-addr=127.0.0.1:0",
            "--control-plane-namespace=a..b",
        ])
        .env("KUBECONFIG", &kubeconfig)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, process);
    let output = output.await.expect("it does not go on without").unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("linkerd-destination: the identity service broke: "),
        "{told}"
    );
}
