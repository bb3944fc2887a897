//! `linkerd version`: of this program and of the control plane.

use std::process::ExitCode;

use linkerd_proto::public::Empty;

use crate::{control_plane, global::Global, stdout};

/// Arguments of `linkerd version`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Print the numbers only
    #[arg(long)]
    short: bool,
    /// Print the version of this program only; needs no cluster
    #[arg(long)]
    client: bool,
}

/// Prints the versions. A control plane that does not answer is `unavailable`, which is no failure.
///
/// # Errors
/// None; the exit code is 1 when there is no way to the control plane.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Args { short, client } = args;
    let line = |name: &str, version: &str| {
        if *short {
            format!("{version}\n")
        } else {
            format!("{name} version: {version}\n")
        }
    };
    stdout::print(&line("Client", linkerd_names::VERSION));
    if *client {
        return Ok(ExitCode::SUCCESS);
    }
    let mut api = match control_plane::api_client(global).await {
        Ok(api) => api,
        Err(error) => {
            crate::stderr::tell!("Error connecting to server: {error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let version = match control_plane::answer(api.version(Empty {})).await {
        Ok(info) => info.release_version,
        Err(error) => {
            crate::stderr::tell!("{error}");
            "unavailable".to_owned()
        }
    };
    stdout::print(&line("Server", &version));
    Ok(ExitCode::SUCCESS)
}
