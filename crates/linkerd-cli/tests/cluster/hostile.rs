//! What others say reaches the terminal in plain characters: what is in annotations, and the words of servers.
//! Runs the real program.

use serde_json::{Value, json};

use crate::{
    check::well,
    kubernetes::{Cluster, Running, refusal, status},
};

/// Clears the screen, writes into the clipboard, is C1's CSI, and turns the order of what follows.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]52;c;aGk=\u{7}\u{9b}2J\u{202e}";

/// Everything but the lines' ends is for the eye.
#[track_caller]
fn assert_plain(text: &str) {
    let hidden = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.contains(hidden), "{text:?}");
}

/// A cluster that is well but for a pod which says that of its proxy's version.
fn with_hostile_pod() -> Cluster {
    let mut cluster = well();
    let pods = cluster.answers.get_mut("/api/v1/pods").expect("a list");
    pods.1["items"][0]["metadata"]["annotations"] = json!({"linkerd.io/proxy-version": HOSTILE});
    cluster
}

#[test]
fn an_annotation_does_not_steer_the_terminal_of_whoever_checks() {
    let run = with_hostile_pod().run(&["check", "--proxy"]);
    assert_plain(&run.stdout);
    let line = "    pod shop/web-1: version \\u{1b}[2J\\u{1b}]52;c;aGk=\\u{7}\\u{9b}2J\\u{202e}\n";
    assert!(run.stdout.contains(line), "{}", run.stdout);
    let run = with_hostile_pod().run(&["check", "--proxy", "-o", "json"]);
    assert_plain(&run.stdout);
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert!(report.to_string().contains("\u{9b}2J"), "{report}");
}

#[test]
fn what_kubernetes_says_does_not_steer_it_either() {
    let mut cluster = Cluster::default();
    let (code, mut answer) = status(500, "InternalError");
    answer["message"] = json!(format!("etcd {HOSTILE}"));
    let pods = "/api/v1/namespaces/linkerd/pods".to_owned();
    cluster.answers.insert(pods, (code, answer));
    let running: Running = cluster.start();
    let stderr = refusal(running.linkerd(&["stat", "deploy"]));
    assert_plain(&stderr);
    assert!(stderr.contains("etcd \\u{1b}[2J"), "{stderr}");
}
