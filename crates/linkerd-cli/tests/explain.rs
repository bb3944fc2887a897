//! `linkerd inject --explain` as a user runs it. `UPDATE_EXPECT=1 cargo test` rewrites the golden files.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::PathBuf,
    process::Command,
};

use expect_test::expect_file;

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/explain.in.yml");

/// Runs the program; returns stdout, stderr and the exit code.
fn explain(flags: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_linkerd"))
        .args(["inject", "--explain", "--linkerd-version=v1"])
        .args(flags)
        .arg(MANIFESTS)
        .env_clear()
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .output()
        .expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code(),
    )
}

#[test]
fn people_read_what_will_happen_and_what_breaks_first() {
    let (stdout, stderr, code) = explain(&["--tls=optional"]);
    assert_eq!((stderr.as_str(), code), ("", Some(1)));
    expect_file!["golden/explain.txt"].assert_eq(&stdout);
}

#[test]
fn programs_read_the_same() {
    let (stdout, stderr, code) = explain(&["--tls=optional", "-o", "json"]);
    assert_eq!((stderr.as_str(), code), ("", Some(1)));
    expect_file!["golden/explain.json"].assert_eq(&stdout);
}

#[test]
fn flags_change_what_will_happen() {
    let flags = [
        "--native-sidecar=false",
        "--skip-inbound-ports=9000",
        "--skip-outbound-ports=25",
        "--metrics-port=8080",
    ];
    let (stdout, stderr, code) = explain(&flags);
    assert_eq!((stderr.as_str(), code), ("", Some(1)));
    expect_file!["golden/explain-flags.txt"].assert_eq(&stdout);
}

#[test]
fn how_to_print_is_a_question_of_explanations_alone() {
    let output = Command::new(env!("CARGO_BIN_EXE_linkerd"))
        .args(["inject", "-o", "json", MANIFESTS])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("--explain"), "{stderr}");
}

/// Starts a Kubernetes API that has one Namespace, whatever it is asked, and returns a kubeconfig for it.
fn cluster_with(namespace: &'static str) -> PathBuf {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let server = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("a connection");
            let mut lines = BufReader::new(connection.try_clone().expect("a socket")).lines();
            while lines
                .next()
                .is_some_and(|line| !line.expect("text").is_empty())
            {}
            write!(
                connection,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{namespace}",
                namespace.len()
            )
            .expect("the client reads");
        }
    });
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("explain-kubeconfig");
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "x"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&path, config.to_string()).expect("writable");
    path
}

#[test]
fn what_a_namespace_of_the_cluster_configures_is_explained() {
    let kubeconfig = cluster_with(
        r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "data", "annotations":
            {"linkerd.io/inject": "enabled", "config.linkerd.io/proxy-cpu-request": "70m"}}}"#,
    );
    let output = Command::new(env!("CARGO_BIN_EXE_linkerd"))
        .args(["inject", "--explain", "--tls=optional", MANIFESTS])
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .output()
        .expect("the program starts");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(stdout.contains("70m"), "{stdout}");
    let note = "Of namespace data: config.linkerd.io/proxy-cpu-request.";
    assert!(stdout.contains(note), "{stdout}");
    assert!(!stdout.contains("The cluster was not asked"), "{stdout}");
}
