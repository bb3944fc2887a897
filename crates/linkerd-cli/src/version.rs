//! `linkerd version`: of this program and of the control plane.

use std::process::ExitCode;

use clap::ValueEnum;
use linkerd_proto::public::Empty;
use serde_json::json;

use crate::{control_plane, global::Global, json_text, stdout, visible::visible_line};

/// Arguments of `linkerd version`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  # Do program and control plane fit together?
  linkerd version

  # For scripts: the number alone, without a cluster; both in one object.
  linkerd version --client --short
  linkerd version -o json")]
pub(crate) struct Args {
    /// Print the numbers only
    #[arg(long)]
    short: bool,
    /// Print the version of this program only; needs no cluster
    #[arg(long)]
    client: bool,
    /// How to print; lines for people without this
    #[arg(short, long, conflicts_with = "short")]
    output: Option<Output>,
}

/// How versions are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One object for programs: client, and server, which is null when nobody answers.
    Json,
}

/// Prints the versions. A control plane that does not answer is `unavailable`, which is no failure.
///
/// # Errors
/// None; the exit code is 1 when there is no way to the control plane.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Args {
        short,
        client,
        output,
    } = args;
    let own = linkerd_names::VERSION;
    if *output == Some(Output::Json) {
        let (answer, code) = if *client {
            (json!({ "client": own }), ExitCode::SUCCESS)
        } else {
            let (server, code) = server(global).await;
            (json!({ "client": own, "server": server }), code)
        };
        stdout::print(&json_text::pretty(&answer));
        return Ok(code);
    }
    let line = |name: &str, version: &str| {
        let version = visible_line(version);
        if *short {
            format!("{version}\n")
        } else {
            format!("{name} version: {version}\n")
        }
    };
    stdout::print(&line("Client", own));
    if *client {
        return Ok(ExitCode::SUCCESS);
    }
    let (server, code) = server(global).await;
    if code == ExitCode::SUCCESS {
        let version = server.as_deref().unwrap_or("unavailable");
        stdout::print(&line("Server", version));
    }
    Ok(code)
}

/// The version of the control plane, none when it does not answer, and the command's exit code. Says on stderr
/// why there is no answer.
async fn server(global: &Global) -> (Option<String>, ExitCode) {
    let mut api = match control_plane::api_client(global).await {
        Ok(api) => api,
        Err(error) => {
            crate::stderr::tell!("Error connecting to server: {error}");
            return (None, ExitCode::FAILURE);
        }
    };
    match control_plane::answer(api.version(Empty {})).await {
        Ok(info) => (Some(info.release_version), ExitCode::SUCCESS),
        Err(error) => {
            crate::stderr::tell!("{error}");
            (None, ExitCode::SUCCESS)
        }
    }
}
