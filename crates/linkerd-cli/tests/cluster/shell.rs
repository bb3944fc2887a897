//! What surrounds the program: completion, the plugin of kubectl, manual pages, and how soon it starts. Runs the real program with a Kubernetes API of some objects.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::kubernetes::{Running, linkerd, refusal, run, success};

pub(crate) const CLUSTER: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: emojivoto}
---
apiVersion: v1
kind: Namespace
metadata: {name: empty}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: emojivoto}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: voting, namespace: emojivoto}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: till, namespace: shop}
";

/// The words that complete the last one of `words`, without what they mean.
fn complete(api: &Running, words: &[&str]) -> String {
    let stdout = success(api.linkerd(&[&["__complete", "--"], words].concat()));
    let words = stdout
        .lines()
        .map(|line| line.split('\t').next().unwrap_or_default());
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn completion_knows_the_cluster() {
    let api = Running::with(CLUSTER);
    for (words, expected) in [
        (&["stat", "-n", "em"][..], "emojivoto empty :4"),
        (&["stat", "-n", "emojivoto", "deploy", ""], "web voting :4"),
        (&["stat", "-nemojivoto", "deploy/w"], "deploy/web :4"),
        (&["tap", "--namespace=shop", "deploy", ""], "till :4"),
        (
            &["stat", "deploy", "--to-namespace=s"],
            "--to-namespace=shop :4",
        ),
        (&["stat", "ns", "sh"], "shop :4"),
        (&["stat", "--context", ""], "c shop :4"),
        (&["stat", "deploy", ""], ":4"),
        (&["stat", "--context", "shop", "deploy", ""], "till :4"),
        (
            &["stat", "--context=shop", "-n", "emojivoto", "deploy", ""],
            "web voting :4",
        ),
        (&["stat", "dep"], "deployment :4"),
        (&["stat", "a"], "all authority :4"),
        (&["tap", "a"], ":4"),
        (&["get", "p"], "pods :4"),
        (&["stat", "authority", ""], ":4"),
        (&["inject", "x"], ":0"),
        (&["un"], "uninstall uninject :4"),
        (&["install", "--set"], "--set --set-string :4"),
    ] {
        assert_eq!(complete(&api, words), expected, "{words:?}");
    }
}

#[test]
fn without_a_cluster_completion_is_silent() {
    let mut command = linkerd("/nonexistent");
    let command = command.args(["__complete", "--", "stat", "-n", ""]);
    assert_eq!(success(run(command)), ":4\n");
}

/// The program under another name.
fn called(name: &str, folder: &Path) -> Command {
    let program = folder.join(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_linkerd"), &program).expect("a new link");
    Command::new(program)
}

#[test]
fn as_a_plugin_of_kubectl_it_says_kubectl_linkerd() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut plugin = called("kubectl-linkerd", folder.path());
    let stdout = success(run(plugin.args(["uninstall", "--help"])));
    for part in [
        "Usage: kubectl linkerd uninstall [OPTIONS]\n",
        "| kubectl linkerd uninject - |",
        "\n  kubectl linkerd uninstall | kubectl delete -f -",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let mut plugin = Command::new(folder.path().join("kubectl-linkerd"));
    let stderr = run(plugin.arg("upgrad")).stderr;
    assert!(
        stderr.contains("Usage: kubectl linkerd [OPTIONS] <COMMAND>"),
        "{stderr}"
    );
}

#[test]
fn kubectl_can_ask_what_comes_next() {
    let api = Running::with(CLUSTER);
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = called("kubectl_complete-linkerd", folder.path());
    for (key, value) in api.command().get_envs() {
        program.env(key, value.unwrap_or_default());
    }
    let program = program.args(["stat", "--namespace", "emojivoto", "po", "--to", "deploy/v"]);
    assert_eq!(success(run(program)), "deploy/voting\t\n:4\n");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man1");
    let api = Running::with("");
    success(api.linkerd(&["man", pages.to_str().expect("UTF-8")]));
    let commands = complete(&api, &[]);
    let commands = commands
        .split(' ')
        .filter(|word| !["help", ":4"].contains(word));
    let pages_of_commands = commands.map(|command| format!("linkerd-{command}.1"));
    let expected: BTreeSet<String> = pages_of_commands.chain(["linkerd.1".to_owned()]).collect();
    assert!(expected.contains("linkerd-install.1"), "{expected:?}");
    let names = std::fs::read_dir(&pages).expect("there").map(|entry| {
        let name = entry.expect("readable").file_name();
        name.into_string().expect("UTF-8")
    });
    assert_eq!(names.collect::<BTreeSet<_>>(), expected);
    let page = std::fs::read_to_string(pages.join("linkerd-upgrade.1")).expect("there");
    assert!(page.contains("\\-\\-reset\\-values"), "{page}");
    let stderr = refusal(api.linkerd(&["man", "/proc/nowhere"]));
    assert!(
        stderr.starts_with("Error: cannot write to /proc/nowhere: "),
        "{stderr}"
    );
}

/// Says how long the program takes from its start to its end when it does next to nothing. How long is too
/// long depends on the machine: the figure is for people.
#[test]
fn it_starts_and_ends() {
    let api = Running::with("");
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let begin = Instant::now();
            success(api.linkerd(&["version", "--client", "--short"]));
            begin.elapsed()
        })
        .collect();
    times.sort();
    let median = times[times.len() / 2];
    // Past the test runner's capture. A closed stderr must not fail a test.
    drop(writeln!(
        std::io::stderr(),
        "linkerd version --client, median of {} runs: {} ms",
        times.len(),
        median.as_millis()
    ));
}
