//! `linkerd uninject`: takes out of manifests what `inject` has put there.

use std::{path::PathBuf, process::ExitCode};

use anyhow::ensure;

use crate::{manifests, stdout};

/// Arguments of `linkerd uninject`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  # Take what runs in a namespace out of the mesh
  kubectl get -n emojivoto deploy -o yaml | linkerd uninject - | kubectl apply -f -")]
pub(crate) struct Args {
    /// File or folder with manifests, - for stdin
    #[arg(value_name = "CONFIG-FILE")]
    files: Vec<PathBuf>,
}

/// Prints the manifests on stdout and the report on stderr.
///
/// # Errors
/// When a manifest cannot be read; nothing is printed on stdout then.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { files } = args;
    ensure!(
        !files.is_empty(),
        "please specify a kubernetes resource file"
    );
    let sources = manifests::read(files, "uninject")?;
    let output = linkerd_inject::uninject(&sources)?;
    stdout::print(&output.yaml);
    crate::stderr::write(format_args!("{}", output.report.uninject_text()));
    Ok(ExitCode::SUCCESS)
}
