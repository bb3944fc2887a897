//! `linkerd inject`: manifests in, the same manifests with the proxy out, or an explanation of what that
//! will do.

mod explanation;
mod namespaces;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::bail;
use clap::{ValueEnum, builder::RangedI64ValueParser};
use linkerd_inject::{Options, Source};
use linkerd_names::ports;

use crate::{
    global::Global, json_text, manifests, proxy_flags::ProxyFlags, stdout, visible::visible_text,
};

/// Arguments of `linkerd inject`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  # Put the Deployments of a file into the mesh, with TLS
  linkerd inject --tls=optional app.yml | kubectl apply -f -

  # The same with keys that never leave the pods
  linkerd inject --tls=optional --identity=service app.yml | kubectl apply -f -

  # Put what runs in a namespace into the mesh
  kubectl get -n emojivoto deploy -o yaml | linkerd inject - | kubectl apply -f -

  # All files of a folder, and of the folders in it
  linkerd inject manifests/ | kubectl apply -f -

  # What will happen to each workload and port, and what will break first?
  linkerd inject --tls=optional --explain app.yml")]
pub(crate) struct Args {
    /// File or folder with manifests, - for stdin
    #[arg(value_name = "CONFIG-FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    proxy: ProxyFlags,

    /// Port of the proxy for connections to the application
    #[arg(long, value_name = "PORT", default_value_t = ports::PROXY_INBOUND,
          value_parser = port())]
    inbound_port: u16,

    /// Port of the proxy for connections of the application
    #[arg(long, value_name = "PORT", default_value_t = ports::PROXY_OUTBOUND,
          value_parser = port())]
    outbound_port: u16,

    /// Print no manifests, but what will happen to each workload and port, and what will break first.
    /// Exit code 1 when pods would not be made, not start or not end
    #[arg(long)]
    explain: bool,

    /// How to print the explanation
    #[arg(short, long, value_enum, default_value = "text", requires = "explain")]
    output: Output,
}

/// How an explanation is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Tables for people.
    Text,
    /// One object for programs.
    Json,
}

/// Prints the manifests on stdout and the report on stderr.
///
/// # Errors
/// When a flag is wrong, or a manifest cannot be read or injected; nothing is printed on stdout
/// then.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Args {
        files,
        proxy,
        inbound_port,
        outbound_port,
        explain,
        output,
    } = args;
    if files.is_empty() {
        // `--tls app.yml`: the flag has taken the file for its mode.
        let taken = proxy.tls.as_deref().filter(|mode| Path::new(mode).exists());
        match taken {
            Some(file) => bail!("--tls takes a mode: linkerd inject --tls=optional {file}"),
            None => bail!("please specify a kubernetes resource file"),
        }
    }
    let options = Options {
        inbound_port: *inbound_port,
        outbound_port: *outbound_port,
        ..proxy.options(&global.linkerd_namespace)?
    };
    options.check()?;
    let sources = manifests::read(files, "inject")?;
    if *explain {
        return print_explanation(global, &sources, &options, *output).await;
    }
    let output = linkerd_inject::inject(&sources, &options)?;
    stdout::print(&output.yaml);
    crate::stderr::write(format_args!("{}", output.report.inject_text()));
    Ok(ExitCode::SUCCESS)
}

async fn print_explanation(
    global: &Global,
    sources: &[Source],
    options: &Options,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let elsewhere = linkerd_inject::explain::namespaces_elsewhere(sources)?;
    let (namespaces, problem) = if elsewhere.is_empty() {
        (Vec::new(), None)
    } else {
        namespaces::of_cluster(global, &elsewhere).await
    };
    let mut explanation = linkerd_inject::explain(sources, options, &namespaces)?;
    explanation.notes.extend(problem.map(|problem| {
        let names: Vec<String> = elsewhere.into_iter().collect();
        format!(
            "The cluster was not asked what it has for namespaces {}: {problem}. What they configure or \
             forbid is not known here.",
            names.join(", ")
        )
    }));
    stdout::print(&match output {
        Output::Text => visible_text(&explanation::text(&explanation)),
        Output::Json => json_text::pretty(&explanation),
    });
    Ok(if explanation.breaks() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn port() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}
