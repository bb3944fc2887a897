//! `linkerd top` in a terminal: a person sees who asks whom, encrypted, and gets the terminal back.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use e2e::{Emojivoto, Namespace, Terminal, eventually, find, in_namespace};

#[test]
fn requests_are_seen_added_up_and_the_terminal_is_given_back() -> Result<()> {
    in_namespace("top", |namespace| {
        let app = Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        eventually("TLS between all of them", || {
            let rows = namespace.stat(&["authority"])?;
            let row = find(&rows, &app.authority("web-svc", 80))?;
            ensure!(row.tls > Some(0.9999), "{row:?}");
            Ok(())
        })?;
        for (columns, sources) in [(120, true), (60, false)] {
            let mut terminal = Terminal::start(columns, 20, &top(namespace))?;
            eventually("a row of the bot's requests", || {
                let text = terminal.text();
                let row = text
                    .lines()
                    .find(|line| line.contains("/api/") && line.contains('√'))
                    .with_context(|| text.clone())?;
                ensure!(row.starts_with("vote-bot") == sources, "{text}");
                let heads = text.lines().nth(1).unwrap_or_default();
                ensure!(heads.contains("SOURCE") == sources, "{text}");
                Ok(())
            })?;
            terminal.press("?")?;
            eventually("the help", || {
                let text = terminal.text();
                ensure!(text.contains("any key closes"), "{text}");
                Ok(())
            })?;
            terminal.press("xq")?;
            let ended = terminal.end()?;
            ensure!(ended.code == Some(0) && ended.restored, "{ended:?}");
            ensure!(!ended.text.contains("SUCCESS"), "{ended:?}");
        }
        Ok(())
    })
}

fn top(namespace: &Namespace) -> Command {
    let cluster = &namespace.cluster;
    let mut command = Command::new(&cluster.linkerd);
    command.env("KUBECONFIG", &cluster.kubeconfig);
    command.args(["--linkerd-namespace", &cluster.control_plane_namespace]);
    command.args(["top", "deploy/web", "-n", &namespace.name]);
    command
}
