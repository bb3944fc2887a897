//! Tasks of this project, run as `cargo xtask TASK`. One variant per task, one module per variant.
//! Results go to stdout, progress and errors to stderr.

mod bench;
mod cache;
mod cluster;
mod command;
mod dashboard;
mod debian;
mod demo;
mod disk;
mod helm;
mod images;
mod mesh;
mod progress;
mod test;
mod tidy;
mod walk;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Tasks of this project",
    max_term_width = 100
)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// A real Kubernetes on this machine
    Cluster(cluster::Args),
    /// Container images, without a container engine
    Images(images::Args),
    /// The dashboard's page, which linkerd-api embeds; needs Node
    Dashboard,
    /// A Kubernetes, the mesh and the sample app in one go
    Demo(demo::Args),
    /// Everything that is tested; what CI runs
    Test(test::Args),
    /// What the data plane costs, beside others, in one run
    Bench(bench::Args),
    /// A walk through every command, recorded for docs/walk.md; empties the local cluster
    Walk,
    /// The house rules that no compiler checks
    Tidy,
}

fn main() -> ExitCode {
    let Args { task } = Args::parse();
    let result = match task {
        Task::Cluster(args) => cluster::run(args),
        Task::Images(args) => images::run(args),
        Task::Dashboard => dashboard::run(),
        Task::Demo(args) => demo::run(args),
        Task::Test(args) => test::run(args),
        Task::Bench(args) => bench::run(args),
        Task::Walk => walk::run(),
        Task::Tidy => tidy::tidy(&workspace::root()).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
