//! `linkerd upgrade`: prints the manifests of this version with the values of the control plane that is
//! installed. What is given as flags lies on top of them, and is kept for the next upgrade.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use linkerd_names::{VERSION, log_filter};
use serde_json::Value;

use crate::{
    control_plane,
    global::Global,
    install::{self, Flags},
    other_version::is_newer,
    release::{self, Release},
    stdout,
};

/// Arguments of `linkerd upgrade`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  # To this version, with the values that are installed
  linkerd upgrade | kubectl apply -f -

  # To other values
  linkerd upgrade --set prometheus.retention=24h | kubectl apply -f -

  # Back to the defaults, but for what is given here
  linkerd upgrade --reset-values --tls=optional | kubectl apply -f -

  # Afterwards: what this version has no use for
  linkerd prune | kubectl delete -f -

What no flag or value of a file names stays as it is installed; with --reset-values it is the default.")]
#[command(mut_args(kept))]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,

    /// Begin with the defaults and not with the values that are installed
    #[arg(long)]
    reset_values: bool,
}

/// The help of a flag without what counts when it is not given: here that is what is installed.
fn kept(flag: clap::Arg) -> clap::Arg {
    let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
    let text = help.split(" [default: ").next().unwrap_or_default();
    let text = text.split("; no TLS when").next().unwrap_or_default();
    if text == help {
        return flag;
    }
    flag.help(text.to_owned())
}

/// Prints the manifests on stdout, and warnings on stderr.
///
/// # Errors
/// When there is no control plane, its values are not known, or a flag or value is wrong; nothing is
/// printed on stdout then.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Args {
        flags,
        reset_values,
    } = args;
    let namespace = &global.linkerd_namespace;
    flags.check(namespace)?;
    let found = match control_plane::kubernetes(global).await {
        Ok(kubernetes) => release::read(&kubernetes, namespace).await,
        Err(error) => Err(error),
    };
    let release = match found {
        Ok(release) => release,
        Err(error) => return Ok(control_plane::report(global, &error)),
    };
    let mut values = match &release {
        Release::Ours(_) | Release::Unknown if *reset_values => install::default_values()?,
        Release::Ours(installed) => installed.values(namespace)?,
        Release::None | Release::Unknown | Release::Helm(_) => {
            bail!(release::missing(&release, namespace, "upgrade").unwrap_or_default())
        }
    };
    if let Some(filter) = let_go_of_log_filter(&mut values) {
        crate::stderr::tell!(
            "Warning: the installed value proxy.logLevel, {filter:?}, is no log filter any more: it is {} now",
            log_filter::DEFAULT
        );
    }
    let values = flags.over(values)?;
    let manifests = install::manifests(namespace, &values);
    let manifests = if *reset_values {
        manifests?
    } else {
        manifests.context("with the values that are installed (--reset-values leaves them out)")?
    };
    if let Release::Ours(installed) = &release
        && is_newer(&installed.version, VERSION)
    {
        crate::stderr::tell!(
            "Warning: version {} is installed, and this program is older: {VERSION}",
            installed.version
        );
    }
    if let Some(tag) = other_tag(&values) {
        crate::stderr::tell!(
            "Warning: image.tag is {tag}: the images will not be those of this version, {VERSION}; \
             `--set image.tag=` is the way back to them"
        );
    }
    install::warn_of_lifetime(&values);
    stdout::print(&manifests);
    Ok(ExitCode::SUCCESS)
}

/// Earlier versions took any text for a log filter; whoever has installed one must not be kept from upgrading by it.
/// Returns the one that is left out.
fn let_go_of_log_filter(values: &mut Value) -> Option<String> {
    let filter = &mut values["proxy"]["logLevel"];
    let text = filter
        .as_str()
        .filter(|text| log_filter::check(text).is_err());
    let text = text?.to_owned();
    *filter = log_filter::DEFAULT.into();
    Some(text)
}

/// The tag of the images when it is not this version's.
fn other_tag(values: &Value) -> Option<&str> {
    let tag = values["image"]["tag"].as_str()?;
    (!tag.is_empty() && tag != VERSION).then_some(tag)
}
