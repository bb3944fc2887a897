//! Every command in the documentation is one that the program understands: what needs no cluster is run to its
//! end, and the rest as far as the missing cluster.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// No kubeconfig is there. A command that gets as far as looking for it was understood.
const KUBECONFIG: &str = "/nonexistent/kubeconfig";

/// The manifest that `app.yml` and what `kubectl get` prints are.
const APP: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  template:
    spec:
      containers:
      - name: web
        image: shop/web:1
";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The lines of all blocks of shell in a page, without their comments.
fn shell_lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut within = false;
    for line in page.lines() {
        if line.starts_with("```") {
            within = line == "```sh";
        } else if within {
            let command = line.split(" #").next().unwrap_or_default().trim();
            lines.push(command.to_owned());
        }
    }
    lines
}

/// The words of a command; quotes keep blanks together.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in command.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Runs each `linkerd` of a pipeline with the output of the one before it; other programs are taken for
/// ones that print [`APP`].
fn run(folder: &Path, pipeline: &str) {
    let mut input = APP.to_owned();
    for command in pipeline.split(" | ") {
        let words = words(command);
        if words.first().is_none_or(|program| program != "linkerd") {
            continue;
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_linkerd"))
            .args(&words[1..])
            .current_dir(folder)
            .env_clear()
            .env("KUBECONFIG", KUBECONFIG)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut pipe = child.stdin.take().expect("stdin is a pipe");
        // Many commands do not read.
        if let Err(error) = pipe.write_all(input.as_bytes()) {
            assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        }
        drop(pipe);
        let output = child.wait_with_output().expect("the program ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let understood =
            output.status.success() || stdout.contains(KUBECONFIG) || stderr.contains(KUBECONFIG);
        assert!(understood, "{command}: {stdout}{stderr}");
        input = stdout;
    }
}

fn check(page: &str) {
    let text = fs::read_to_string(repository().join(page)).expect(page);
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("app.yml"), APP).expect("writable");
    let sample = "tests/emojivoto/emojivoto.yml";
    fs::create_dir_all(folder.path().join("tests/emojivoto")).expect("writable");
    fs::copy(repository().join(sample), folder.path().join(sample)).expect(sample);
    let lines = shell_lines(&text);
    assert!(lines.iter().any(|line| line.contains("linkerd ")), "{page}");
    for line in lines {
        run(folder.path(), &line);
    }
}

#[test]
fn commands_of_the_readme() {
    check("README.md");
}

#[test]
fn commands_for_newcomers() {
    check("docs/getting-started.md");
    check("docs/migration.md");
}

#[test]
fn commands_for_people_in_trouble() {
    check("docs/troubleshooting.md");
    check("docs/checks.md");
    check("docs/explain.md");
}

#[test]
fn commands_about_traffic_and_tls() {
    for page in ["automatic-tls", "stat", "edges", "tap"] {
        check(&format!("docs/{page}.md"));
    }
}
