//! `linkerd completion`: a script that has the shell ask `linkerd __complete` (`complete.rs`) what may
//! come next.

use std::process::ExitCode;

use anyhow::bail;

use crate::stdout;

/// Arguments of `linkerd completion`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  # In ~/.bashrc or ~/.zshrc
  source <(linkerd completion bash)
  source <(linkerd completion zsh)

  # In ~/.config/fish/config.fish
  linkerd completion fish | source")]
pub(crate) struct Args {
    /// bash, zsh or fish
    shell: String,
}

/// Prints the completion script.
///
/// # Errors
/// When the shell is none of the three.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { shell } = args;
    stdout::print(match shell.as_str() {
        "bash" => include_str!("completion/linkerd.bash"),
        "zsh" => include_str!("completion/linkerd.zsh"),
        "fish" => include_str!("completion/linkerd.fish"),
        other => bail!("unsupported shell type (must be bash, zsh or fish): {other}"),
    });
    Ok(ExitCode::SUCCESS)
}
