//! What commands print on a terminal, which is that of `script`, and not into a pipe: colours, if they are
//! wanted, and nothing else. Runs the real program.

use std::process::{Command, Stdio};

use crate::{
    figures::cluster,
    kubernetes::{Figures, Running, success},
};

/// What the program prints on a terminal so many columns wide.
fn on_terminal(
    columns: usize,
    running: &Running,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> String {
    let program = env!("CARGO_BIN_EXE_linkerd");
    let shell = format!(
        "stty cols {columns} rows 20; {program} {}",
        arguments.join(" ")
    );
    let mut script = Command::new("script");
    for (key, value) in running.command().get_envs() {
        script.env(key, value.unwrap_or_default());
    }
    let script = script
        .args(["-q", "-c", &shell, "/dev/null"])
        .env_remove("NO_COLOR")
        // By it a log of CI is taken for a terminal.
        .env_remove("CI")
        .envs([
            ("PATH", "/usr/bin:/bin"),
            ("SHELL", "/bin/sh"),
            ("TERM", "xterm-256color"),
        ])
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    let output = script.output().expect("script starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.replace("\r\n", "\n")
}

#[test]
fn check_has_colours_on_a_terminal_unless_they_are_not_wanted() {
    let running = crate::check::well().start();
    let piped = running.linkerd(&["check"]).stdout;
    assert!(
        piped.contains("\n√ can query the Kubernetes API\n"),
        "{piped}"
    );
    assert!(
        piped.lines().any(|line| line.chars().count() > 60),
        "{piped}"
    );
    let colored = on_terminal(60, &running, &["check"], &[]);
    let row = "\n\u{1b}[32m√\u{1b}[0m can query the Kubernetes API\n";
    assert!(colored.contains(row), "{colored:?}");
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb"), ("CLICOLOR", "0")] {
        // Long lines are the terminal's business.
        assert_eq!(
            on_terminal(60, &running, &["check"], &[plain]),
            piped,
            "{plain:?}"
        );
    }
    let mut forced = running.command();
    let forced = forced.arg("check").env("CLICOLOR_FORCE", "1");
    let forced = crate::kubernetes::run(forced).stdout;
    assert!(forced.contains("\u{1b}[32m√"), "{forced:?}");
}

#[test]
fn a_narrow_terminal_gets_the_lines_that_a_pipe_gets() {
    let running = cluster(Figures::Pods).start_with_control_plane();
    let arguments = ["get", "pods", "-n", "shop", "-o", "wide"];
    let piped = success(running.linkerd(&arguments));
    assert!(
        piped.lines().any(|line| line.chars().count() > 40),
        "{piped}"
    );
    assert_eq!(on_terminal(40, &running, &arguments, &[]), piped);
}

#[test]
fn help_fits_a_narrow_terminal() {
    let running = Running::with("");
    let help = on_terminal(60, &running, &["stat", "--help"], &[]);
    let (options, examples) = help.split_once("Examples:").expect("examples");
    let wide: Vec<&str> = options
        .lines()
        .filter(|line| line.chars().count() > 60)
        .collect();
    assert!(wide.is_empty(), "{wide:#?}");
    assert!(
        examples.contains("\n  linkerd stat all -A -o wide\n"),
        "{examples}"
    );
}
