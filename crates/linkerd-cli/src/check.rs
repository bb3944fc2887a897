//! `linkerd check`: whether the cluster, the control plane, the certificates and the proxies are as
//! they should be. Entry: [`run`]. Asks the cluster only; nothing is looked up on the internet.

mod certificates;
mod cluster;
mod control_plane;
mod data_plane;
mod high_availability;
mod injector;
mod leaf;
mod not_ready;
mod orphans;
mod pre_install;
mod problem;
mod report;
mod retry;
mod row;
mod unmeshed;
mod workloads;

use std::{process::ExitCode, time::Duration};

use report::{Output, Report, Stop};

use crate::{duration, global::Global};

/// Arguments of `linkerd check`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  # May the control plane be installed here?
  linkerd check --pre

  # Is the control plane well, and are the certificates? Wait for it after an install.
  linkerd check --wait

  # And the proxies of one namespace?
  linkerd check --proxy -n emojivoto")]
pub(crate) struct Args {
    /// Check what an installation needs, before it
    #[arg(long)]
    pre: bool,

    /// With --pre: check what `linkerd install --ha` needs
    #[arg(long, requires = "pre")]
    ha: bool,

    /// Check the proxies too
    #[arg(long, conflicts_with = "pre")]
    proxy: bool,

    /// With --proxy: namespace whose proxies are checked; all when not given
    #[arg(short, long, requires = "proxy")]
    namespace: Option<String>,

    /// How long to wait for what is not ready yet; 5m when given without a value
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        default_value = "0",
        default_missing_value = "5m",
        value_parser = duration::parse
    )]
    wait: Duration,

    /// Version that program and control plane should have
    #[arg(long, value_name = "VERSION", default_value = linkerd_names::VERSION)]
    expected_version: String,

    /// How to print
    #[arg(short, long, default_value = "table")]
    output: Output,
}

/// Prints one line for each check. Exit code 1 when one failed; warnings are no failures.
///
/// # Errors
/// None: what fails is a line.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let mut report = Report::new(args.output, &global.linkerd_namespace);
    // A check that stops the others has said so in the report.
    let (Ok(()) | Err(Stop)) = checks(global, args, &mut report).await;
    Ok(if report.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn checks(global: &Global, args: &Args, report: &mut Report) -> Result<(), Stop> {
    let Args {
        pre,
        ha,
        proxy,
        namespace,
        wait,
        expected_version,
        output: _,
    } = args;
    let retry = retry::Retry::until_after(*wait);
    let kubernetes = cluster::check(report, global).await?;
    let control_plane = &global.linkerd_namespace;
    if *pre {
        pre_install::check(report, &kubernetes, control_plane, *ha).await;
        return Ok(());
    }
    control_plane::check_pods(report, &kubernetes, control_plane, &retry).await?;
    control_plane::check_config(report, &kubernetes, control_plane).await;
    high_availability::check(report, &kubernetes, control_plane, &retry).await;
    control_plane::check_api(report, global, &kubernetes, expected_version, &retry).await?;
    // What these two may not read hides nothing that follows: the report has it.
    let (Ok(()) | Err(Stop)) =
        certificates::check(report, &kubernetes, control_plane, &retry).await;
    let (Ok(()) | Err(Stop)) = injector::check(report, &kubernetes, control_plane, &retry).await;
    if *proxy {
        data_plane::check(
            report,
            &kubernetes,
            control_plane,
            namespace.as_deref(),
            expected_version,
            &retry,
        )
        .await?;
    }
    Ok(())
}
