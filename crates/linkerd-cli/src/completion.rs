//! `linkerd completion`: a script that teaches the shell our commands and flags.

use std::process::ExitCode;

use anyhow::bail;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::stdout;

/// Arguments of `linkerd completion`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// bash, zsh or fish
    shell: String,
}

/// Prints the completion script.
///
/// # Errors
/// When the shell is none of the three.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shell = match args.shell.as_str() {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        other => bail!("unsupported shell type (must be bash, zsh or fish): {other}"),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::Cli::command(), "linkerd", &mut script);
    stdout::print(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}
