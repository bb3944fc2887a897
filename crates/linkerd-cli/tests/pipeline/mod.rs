//! Command lines for people, run as far as they get without a cluster. Entry: [`run`].

use std::{path::Path, process::Command};

use crate::common;

/// No kubeconfig is there. A command that gets as far as looking for it was understood.
const KUBECONFIG: &str = "/nonexistent/kubeconfig";

/// What `linkerd top` says here, where no terminal is.
const NO_TERMINAL: &str = "top draws on a terminal";

/// The words of a command; single quotes keep blanks together.
pub(crate) fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for character in command.chars() {
        if character == '\'' {
            quoted = !quoted;
            word.get_or_insert_default();
        } else if character.is_whitespace() && !quoted {
            words.extend(word.take());
        } else {
            word.get_or_insert_default().push(character);
        }
    }
    words.extend(word);
    words
}

/// Runs each `linkerd` of a pipeline with the output of the one before it, the first with `input`; other
/// programs are taken for ones that print what they are given. Returns what comes out at the end.
pub(crate) fn run(folder: &Path, pipeline: &str, input: &str) -> String {
    let mut input = input.to_owned();
    for command in pipeline.split(" | ") {
        let words = words(command);
        if words.first().is_none_or(|program| program != "linkerd") {
            continue;
        }
        let mut linkerd = Command::new(env!("CARGO_BIN_EXE_linkerd"));
        linkerd.args(&words[1..]).current_dir(folder);
        linkerd.env_clear().env("KUBECONFIG", KUBECONFIG);
        let output = common::run(&mut linkerd, &input);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let understood = output.status.success()
            || stdout.contains(KUBECONFIG)
            || stderr.contains(KUBECONFIG)
            || stderr.contains(NO_TERMINAL);
        assert!(understood, "{command}: {stdout}{stderr}");
        input = stdout;
    }
    input
}
