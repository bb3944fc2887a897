//! The binary `linkerd`: parses the command line and runs one command.
//! One variant of [`Command`] per command, one file per command; what a command prints for machines
//! goes to stdout through [`stdout`], everything else to stderr.

#![warn(clippy::print_stdout)]

mod chart;
mod check;
mod complete;
mod completion;
mod control_plane;
mod dashboard;
mod duration;
mod edges;
mod get;
mod global;
mod inject;
mod install;
mod json_text;
mod kubeconfig;
mod man;
mod manifests;
mod objects;
mod other_version;
mod others;
mod plugin;
mod proof;
mod proxy_flags;
mod prune;
mod release;
mod resource;
mod selector;
mod stat;
mod stderr;
mod stdout;
mod table;
mod tap;
mod top;
mod uninject;
mod uninstall;
mod upgrade;
mod verbose;
mod version;
mod visible;

use std::{ffi::OsString, future::Future, process::ExitCode};

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::{global::Global, plugin::Called};

/// linkerd manages the Linkerd service mesh.
#[derive(Parser)]
#[command(name = "linkerd", version = linkerd_names::VERSION, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The commands, in the order of the help text.
#[derive(Subcommand)]
enum Command {
    /// Print the manifests of the control plane
    Install(Box<install::Args>),
    /// Print the manifests of this version with the values of the control plane that is installed
    Upgrade(Box<upgrade::Args>),
    /// Print what the control plane has in the cluster and this version has no use for, to delete it
    Prune(prune::Args),
    /// Print everything that the control plane has in the cluster, to delete it
    Uninstall(uninstall::Args),
    /// Add the proxy to the workloads of a manifest
    Inject(Box<inject::Args>),
    /// Take the proxy out of the workloads of a manifest
    Uninject(uninject::Args),
    /// Check the cluster, the control plane, the certificates and the proxies
    Check(check::Args),
    /// Print traffic of workloads, services, namespaces or authorities, and how much of it is TLS
    Stat(Box<stat::Args>),
    /// Watch the requests and connections of workloads as they pass, and which of them are TLS
    Tap(Box<tap::Args>),
    /// Watch requests and connections added up, live: how many, how fast, how well, and which are TLS
    Top(Box<top::Args>),
    /// Print who connects to whom, and whether that is secured or why not
    Edges(edges::Args),
    /// Open the dashboard in a browser
    Dashboard(dashboard::Args),
    /// Print the pods that the control plane knows
    Get(get::Args),
    /// Print the versions of this program and of the control plane
    Version(version::Args),
    /// Print shell completion for bash, zsh or fish
    Completion(completion::Args),
    /// Write manual pages into a folder
    Man(man::Args),
    /// Print what may stand next on a command line
    #[command(name = "__complete", hide = true)]
    Complete(complete::Args),
}

fn main() -> ExitCode {
    let Cli { global, command } = match parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(&global, command) {
        Ok(code) => code,
        Err(error) => {
            crate::stderr::tell!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line, of this program or of kubectl's plugin.
fn parse(words: Vec<OsString>) -> Result<Cli, clap::Error> {
    let called = Called::by(&words);
    let mut command = called.command(Cli::command());
    let matches = command.try_get_matches_from_mut(called.words(words))?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Runs one command. Commands that talk to the cluster are `async` and go through [`block_on`].
fn run(global: &Global, command: Command) -> anyhow::Result<ExitCode> {
    global.validate()?;
    if global.verbose {
        verbose::start()?;
    }
    match command {
        Command::Install(args) => install::run(global, &args),
        Command::Upgrade(args) => block_on(upgrade::run(global, &args)),
        Command::Prune(args) => block_on(prune::run(global, &args)),
        Command::Uninstall(args) => block_on(uninstall::run(global, &args)),
        Command::Inject(args) => block_on(inject::run(global, &args)),
        Command::Uninject(args) => uninject::run(&args),
        Command::Check(args) => block_on(check::run(global, &args)),
        Command::Stat(args) => block_on(stat::run(global, &args)),
        Command::Tap(args) => block_on(tap::run(global, &args)),
        Command::Top(args) => block_on(top::run(global, &args)),
        Command::Edges(args) => block_on(edges::run(global, &args)),
        Command::Dashboard(args) => block_on(dashboard::run(global, &args)),
        Command::Get(args) => block_on(get::run(global, &args)),
        Command::Version(args) => block_on(version::run(global, &args)),
        Command::Completion(args) => completion::run(&args),
        Command::Man(args) => man::run(Cli::command(), &args),
        Command::Complete(args) => block_on(complete::run(Cli::command(), &args)),
    }
}

/// Runs a command that waits for the network, on one thread.
fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(command)
}

/// Prints what clap has to say: help is an answer, everything else is an error with exit code 1.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        stdout::print(&error.render().to_string());
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    crate::stderr::write(format_args!(
        "Error: {}",
        text.strip_prefix("error: ").unwrap_or(&text)
    ));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_takes_the_flags_of_all_after_its_name() {
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands() {
            let name = command.get_name();
            let flags: Vec<&str> = command
                .get_arguments()
                .filter_map(|it| it.get_long())
                .collect();
            let wrong: Vec<_> = flags.iter().filter(|flag| flag.contains('_')).collect();
            assert!(wrong.is_empty(), "{name}: {wrong:?}");
            if name != "help" {
                assert!(flags.contains(&"linkerd-namespace"), "{name}: {flags:?}");
            }
        }
    }
}
