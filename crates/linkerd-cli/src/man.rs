//! `linkerd man`: writes a manual page for each command into a folder.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Command;

/// Arguments of `linkerd man`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  # For everybody on this machine
  linkerd man /usr/local/share/man/man1 && man linkerd-install")]
pub(crate) struct Args {
    /// Folder for the pages; it is made if need be
    folder: PathBuf,
}

/// Writes `linkerd.1`, `linkerd-install.1` and so on.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn run(command: Command, args: &Args) -> anyhow::Result<ExitCode> {
    let Args { folder } = args;
    let failed = || format!("cannot write to {}", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    clap_mangen::generate_to(command, folder).with_context(failed)?;
    Ok(ExitCode::SUCCESS)
}
