//! What people read when there is nothing to talk to: words, exit code, and how long it takes.
//! Runs the real program.

use std::{
    ffi::OsStr,
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::kubernetes::{CLOSED, Run, kubeconfig, linkerd, refusal, run, success};

fn ask(kubeconfig: impl AsRef<OsStr>, arguments: &[&str]) -> Run {
    run(linkerd(kubeconfig).args(arguments))
}

#[test]
fn verbose_tells_each_step_on_stderr_and_nothing_that_is_secret() {
    let server = format!("http://{CLOSED}");
    let file = kubeconfig(&server);
    let quiet = ask(file.path(), &["check"]);
    let verbose = ask(file.path(), &["check", "--verbose"]);
    assert_eq!((verbose.code, verbose.stdout), (quiet.code, quiet.stdout));
    assert_eq!(quiet.stderr, "");
    let stderr = verbose.stderr;
    for part in ["DEBUG", &server, "/version"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert!(!stderr.contains("not-a-secret"), "{stderr}");
}

#[test]
fn without_a_kubeconfig_stat_names_the_file_and_the_next_step() {
    let stderr = refusal(ask("/nonexistent/kubeconfig", &["stat", "deploy"]));
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
fn files_of_the_environment_that_do_not_exist_are_passed_over() {
    let server = format!("https://{CLOSED}");
    let file = kubeconfig(&server);
    let several = format!("/nonexistent/one:{}", file.path().display());
    let stderr = refusal(ask(&several, &["stat", "deploy"]));
    let expected = format!("Cannot connect to Kubernetes: {server}: ");
    assert!(stderr.starts_with(&expected), "{stderr}");
    // As where it names none at all.
    let stderr = refusal(ask(
        "/nonexistent/one:/nonexistent/two",
        &["stat", "deploy"],
    ));
    let expected = "Cannot connect to Kubernetes: there is no kubeconfig: KUBECONFIG names no file that exists: \
                    /nonexistent/one, /nonexistent/two\n";
    assert!(stderr.starts_with(expected), "{stderr}");
    let flag = ["stat", "deploy", "--kubeconfig", "/nonexistent/one"];
    let stderr = refusal(ask(file.path(), &flag));
    let expected = "Cannot connect to Kubernetes: cannot read the kubeconfig /nonexistent/one: ";
    assert!(stderr.starts_with(expected), "{stderr}");
}

#[test]
fn a_program_for_credentials_that_is_not_there_is_named_with_its_hint() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "command": "/nonexistent/get-token",
        "interactiveMode": "Never", "installHint": "Install it from\nhttps://example.org.\n",
    });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("https://{CLOSED}")}}],
        "users": [{"name": "u", "user": {"exec": exec}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    serde_json::to_writer(&file, &config).expect("writable");
    let stderr = refusal(ask(file.path(), &["stat", "deploy"]));
    let expected = "Cannot connect to Kubernetes: cannot run \"/nonexistent/get-token\", which the kubeconfig names for \
                    credentials: ";
    assert!(stderr.starts_with(expected), "{stderr}");
    assert!(
        stderr.contains("\nInstall it from\nhttps://example.org.\nValidate"),
        "{stderr}"
    );
}

#[test]
fn a_broken_kubeconfig_is_not_quoted() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "token: [s3cret\nusers: {").expect("writable");
    let stderr = refusal(ask(file.path(), &["stat", "deploy"]));
    assert!(!stderr.contains("s3cret"), "{stderr}");
}

#[test]
fn a_cluster_that_is_not_there_is_named_by_its_address() {
    let server = format!("https://{CLOSED}");
    let file = kubeconfig(&server);
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
        let stderr = refusal(ask(file.path(), command));
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
    let stderr = refusal(ask(kubeconfig(&server).path(), &["stat", "deploy"]));
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
    let file = kubeconfig(&format!("https://{CLOSED}"));
    let arguments = ["stat", "deploy", "--context", "nope", "-L", "mesh"];
    let stderr = refusal(ask(file.path(), &arguments));
    assert!(stderr.contains("nope"), "{stderr}");
    assert!(
        stderr.ends_with("linkerd check --linkerd-namespace mesh\n"),
        "{stderr}"
    );
}

#[test]
fn a_control_plane_at_a_closed_address_is_named() {
    let stderr = refusal(ask("", &["stat", "deploy", "--api-addr", CLOSED]));
    assert!(
        stderr.starts_with("Cannot connect to Linkerd: "),
        "{stderr}"
    );
    assert!(stderr.contains(CLOSED), "{stderr}");
}

#[test]
fn the_version_of_the_program_needs_no_cluster() {
    let version = env!("CARGO_PKG_VERSION");
    let alone = ask("/nonexistent", &["version", "--client", "--short"]);
    assert_eq!(success(alone), format!("{version}\n"));
    for flag in ["--version", "-V"] {
        let printed = success(ask("/nonexistent", &[flag]));
        assert_eq!(printed, format!("linkerd {version}\n"));
    }
    let alone = ask("/nonexistent", &["version", "--client", "-o", "json"]);
    let alone: serde_json::Value = serde_json::from_str(&success(alone)).expect("JSON");
    assert_eq!(alone, json!({"client": version}));
    let both = ask("/nonexistent", &["version", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(&both.stdout).expect("JSON");
    assert_eq!(both.code, Some(1));
    assert_eq!(document, json!({"client": version, "server": null}));
    let both = ask("/nonexistent", &["version"]);
    let expected = format!("Client version: {version}\n");
    assert_eq!((both.code, &both.stdout), (Some(1), &expected));
    let words = "Error connecting to server: ";
    assert!(both.stderr.starts_with(words), "{both:?}");
}

#[test]
fn check_stops_at_the_first_row_that_others_need() {
    let server = format!("https://{CLOSED}");
    let run = ask(kubeconfig(&server).path(), &["check"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(1), ""));
    let lines: Vec<&str> = run.stdout.lines().collect();
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
    assert!(!run.stdout.contains("linkerd-existence"), "{run:?}");
}

#[test]
fn check_prints_one_document_for_programs() {
    let run = ask("/nonexistent", &["check", "-o", "json"]);
    assert_eq!(run.code, Some(1));
    let document: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(document["success"], false);
    assert_eq!(document["categories"][0]["categoryName"], "kubernetes-api");
    assert_eq!(document["categories"][0]["checks"][0]["result"], "error");
}

#[test]
fn flags_that_make_no_sense_are_refused_before_anybody_is_asked() {
    for (arguments, message) in [
        (
            &["stat", "web"][..],
            "Error: error creating metrics request while making stats request: cannot find \
             Kubernetes canonical name from friendly name [web]: types are all, authority, namespace, service, deployment, \
             daemonset, statefulset, replicaset, replicationcontroller, cronjob, job, pod; did you mean \"deploy/web\"?\n",
        ),
        (
            &["get", "nodes"],
            "Error: invalid resource type nodes, valid types: pod\n",
        ),
        (&["get"], "Error: accepts 1 arg(s), received 0\n"),
        (
            &["check", "-n", "shop"],
            "Error: the following required arguments were not provided:\n  --proxy\n\nUsage: linkerd \
             check --proxy --namespace <NAMESPACE>\n\nFor more information, try '--help'.\n",
        ),
        (
            &["top", "deploymnt"],
            "Error: target resource invalid: cannot find Kubernetes canonical name from friendly \
             name [deploymnt]: types are all, authority, namespace, service, deployment, \
             daemonset, statefulset, replicaset, replicationcontroller, cronjob, job, pod; did you mean \"deployment\"?\n",
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
        (
            &["stat", "deploy", "--api-addr", "http://localhost:8085"],
            "Error: --api-addr has to be host:port, as in localhost:8085, and not \"http://localhost:8085\"\n",
        ),
        (
            &["stat", "deploy", "--as-group", "developers"],
            "Error: --as-group needs --as: a user is impersonated, with groups or without\n",
        ),
        // Where there are no labels to select by it means what it meant in 2018.
        (
            &["version", "-l", "a/b"],
            "Error: a/b is not a valid namespace\n",
        ),
    ] {
        assert_eq!(refusal(ask("/nonexistent", arguments)), message);
    }
}
