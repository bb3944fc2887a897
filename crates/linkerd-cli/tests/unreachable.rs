//! What people read when there is nothing to talk to: words, exit code, and how long it takes.
//! Runs the real program.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

/// A run of the program: exit code, stdout, stderr.
type Run = (Option<i32>, String, String);

fn linkerd(kubeconfig: &str, arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_linkerd"))
        .args(arguments)
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .output()
        .expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Writes a kubeconfig for a server, and returns its path.
fn kubeconfig(name: &str, server: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let text = format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: '{server}'}}}}]
users: [{{name: u, user: {{token: not-a-secret}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
current-context: c
"
    );
    std::fs::write(&path, text).expect("writable");
    path.to_str().expect("UTF-8").to_owned()
}

/// A port of loopback that was free a moment ago.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("bound").port()
}

#[test]
fn verbose_tells_each_step_on_stderr_and_nothing_that_is_secret() {
    let server = format!("http://127.0.0.1:{}", closed_port());
    let kubeconfig = kubeconfig("verbose", &server);
    let quiet = linkerd(&kubeconfig, &["check"]);
    let (code, stdout, stderr) = linkerd(&kubeconfig, &["check", "--verbose"]);
    assert_eq!((code, &stdout, quiet.2.as_str()), (quiet.0, &quiet.1, ""));
    for part in ["DEBUG", &server, "/version"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert!(!stderr.contains("not-a-secret"), "{stderr}");
}

#[test]
fn without_a_kubeconfig_stat_names_the_file_and_the_next_step() {
    let (code, stdout, stderr) = linkerd("/nonexistent/kubeconfig", &["stat", "deploy"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(
        stderr.starts_with("Cannot connect to Kubernetes: "),
        "{stderr}"
    );
    assert!(stderr.contains("/nonexistent/kubeconfig"), "{stderr}");
    assert!(
        stderr.ends_with("\nValidate the install with: linkerd check\n"),
        "{stderr}"
    );
}

#[test]
fn a_broken_kubeconfig_is_not_quoted() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("broken");
    std::fs::write(&path, "token: [s3cret\nusers: {").expect("writable");
    let (code, _, stderr) = linkerd(path.to_str().expect("UTF-8"), &["stat", "deploy"]);
    assert_eq!(code, Some(1));
    assert!(!stderr.contains("s3cret"), "{stderr}");
}

#[test]
fn a_cluster_that_is_not_there_is_named_by_its_address() {
    let server = format!("https://127.0.0.1:{}", closed_port());
    let path = kubeconfig("closed", &server);
    for command in [
        &["stat", "deploy"][..],
        &["tap", "deploy"],
        &["edges", "deploy"],
        &["dashboard"],
        &["get", "pods"],
        &["upgrade"],
        &["prune"],
        &["uninstall"],
    ] {
        let (code, stdout, stderr) = linkerd(&path, command);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        let expected = format!("Cannot connect to Kubernetes: {server}: ");
        assert!(stderr.starts_with(&expected), "{stderr}");
    }
}

#[test]
fn a_silent_cluster_is_given_up() {
    // The kernel accepts; nobody ever answers.
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let server = format!("https://{}", listener.local_addr().expect("bound"));
    let begin = Instant::now();
    let (code, _, stderr) = linkerd(&kubeconfig("silent", &server), &["stat", "deploy"]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.starts_with("Cannot connect to Kubernetes: "),
        "{stderr}"
    );
    assert!(
        begin.elapsed() < Duration::from_secs(15),
        "took {:?}",
        begin.elapsed()
    );
}

#[test]
fn an_unknown_context_is_an_error() {
    let path = kubeconfig("context", "https://127.0.0.1:1");
    let (code, _, stderr) = linkerd(
        &path,
        &["stat", "deploy", "--context", "nope", "-L", "mesh"],
    );
    assert_eq!(code, Some(1));
    assert!(stderr.contains("nope"), "{stderr}");
    assert!(
        stderr.ends_with("linkerd check --linkerd-namespace mesh\n"),
        "{stderr}"
    );
}

#[test]
fn a_control_plane_at_a_closed_address_is_named() {
    let address = format!("127.0.0.1:{}", closed_port());
    let (code, _, stderr) = linkerd("", &["stat", "deploy", "--api-addr", &address]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.starts_with("Cannot connect to Linkerd: "),
        "{stderr}"
    );
    assert!(stderr.contains(&address), "{stderr}");
}

#[test]
fn the_version_of_the_program_needs_no_cluster() {
    let version = env!("CARGO_PKG_VERSION");
    let (code, stdout, stderr) = linkerd("/nonexistent", &["version", "--client", "--short"]);
    assert_eq!(
        (code, stdout, stderr.as_str()),
        (Some(0), format!("{version}\n"), "")
    );
    let (code, stdout, stderr) = linkerd("/nonexistent", &["version"]);
    assert_eq!(
        (code, stdout),
        (Some(1), format!("Client version: {version}\n"))
    );
    assert!(
        stderr.starts_with("Error connecting to server: "),
        "{stderr}"
    );
}

#[test]
fn check_stops_at_the_first_row_that_others_need() {
    let server = format!("https://127.0.0.1:{}", closed_port());
    let (code, stdout, stderr) = linkerd(&kubeconfig("check", &server), &["check"]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "kubernetes-api",
            "--------------",
            "√ can initialize the client",
            "× can query the Kubernetes API",
        ]
    );
    assert_eq!(lines.last(), Some(&"Status check results are ×"));
    assert!(!stdout.contains("linkerd-existence"), "{stdout}");
}

#[test]
fn check_prints_one_document_for_programs() {
    let (code, stdout, _) = linkerd("/nonexistent", &["check", "-o", "json"]);
    assert_eq!(code, Some(1));
    let document: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(document["success"], false);
    assert_eq!(document["categories"][0]["categoryName"], "kubernetes-api");
    assert_eq!(document["categories"][0]["checks"][0]["result"], "error");
}

#[test]
fn flags_that_make_no_sense_are_refused_before_anybody_is_asked() {
    for (arguments, message) in [
        (
            &["stat", "node"][..],
            "Error: error creating metrics request while making stats request: cannot find \
             Kubernetes canonical name from friendly name [node]\n",
        ),
        (
            &["get", "nodes"],
            "Error: invalid resource type nodes, valid types: pod\n",
        ),
        (&["get"], "Error: accepts 1 arg(s), received 0\n"),
        (
            &["top", "node"],
            "Error: target resource invalid: cannot find Kubernetes canonical name from friendly \
             name [node]\n",
        ),
        // Its output is no terminal here.
        (
            &["top", "deploy"],
            "Error: top draws on a terminal, and stdout is none: linkerd tap prints events line \
             by line, linkerd stat prints figures\n",
        ),
        (
            &["stat", "deploy", "-L", "a/b"],
            "Error: a/b is not a valid namespace\n",
        ),
        // Where there are no labels to select by it means what it meant in 2018.
        (
            &["get", "pods", "-l", "a/b"],
            "Error: a/b is not a valid namespace\n",
        ),
    ] {
        let (code, stdout, stderr) = linkerd("/nonexistent", arguments);
        assert_eq!(
            (code, stdout.as_str(), stderr.as_str()),
            (Some(1), "", message)
        );
    }
}
