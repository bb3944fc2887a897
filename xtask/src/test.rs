//! `cargo xtask test`: everything that we test, from formatting to faults on a real cluster.
//! CI runs this and nothing else.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::progress::{seconds, step};
use crate::{
    bench, cluster, command, dashboard, debian, demo, disk, helm, images, tidy, workspace,
};

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run these steps only, comma-separated
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Step>,
    /// Leave the cluster up after the cluster tests
    #[arg(long)]
    keep_cluster: bool,
}

/// The steps, in the order in which they run: cheap ones first, as far as they stand alone.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Step {
    Fmt,
    Tidy,
    Clippy,
    Doc,
    Dashboard,
    Unit,
    Helm,
    Bench,
    Cluster,
    Instructions,
}

const STEPS: [Step; 10] = [
    Step::Fmt,
    Step::Tidy,
    Step::Clippy,
    Step::Doc,
    Step::Dashboard,
    Step::Unit,
    Step::Helm,
    Step::Bench,
    Step::Cluster,
    Step::Instructions,
];

/// Programs that tests start, of networks and of completion, and their Debian packages.
const PROGRAMS: [(&str, &str); 4] = [
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("zsh", "zsh"),
    ("fish", "fish"),
];

/// Names the binary of Linkerd's own proxy, which is tested only where it is there.
const LINKERD_PROXY: &str = "LINKERD2_PROXY_BIN";

/// Names the Prometheus with which the own history of `linkerd-api` is compared.
const PROMETHEUS: &str = "PROMETHEUS_BIN";

/// Nodes of the cluster for the cluster tests: `linkerd install --ha` needs as many.
const NODES: usize = 3;

/// Bytes that all steps together write into `target/` of a clone that keeps nothing for later builds.
const TARGET_BYTES: u64 = 8 << 30;

/// What cargo's test runner counted.
#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// Runs the steps and prints `N passed, N failed` as the last line.
///
/// # Errors
/// The first step that fails; later ones are not run.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args { only, keep_cluster } = args;
    let started = Instant::now();
    if only.is_empty() {
        let target = workspace::root().join("target");
        let missing = TARGET_BYTES.saturating_sub(disk::used(&target)?);
        disk::require("a run of all tests", &target, missing)?;
    }
    let mut counts = Counts::default();
    let mut skipped = Vec::new();
    for one in STEPS {
        if !only.is_empty() && !only.contains(&one) {
            continue;
        }
        match one {
            Step::Fmt => step("fmt", || cargo(&["fmt", "--all", "--check"], &[]))?,
            Step::Tidy => step("tidy", || tidy::tidy(&workspace::root()))?,
            Step::Clippy => {
                let args = [
                    "clippy",
                    "--quiet",
                    "--workspace",
                    "--all-targets",
                    "--",
                    "-D",
                    "warnings",
                ];
                step("clippy", || cargo(&args, &[]))?;
            }
            Step::Doc => {
                let args = ["doc", "--quiet", "--workspace", "--no-deps"];
                step("doc", || cargo(&args, &[("RUSTDOCFLAGS", "-D warnings")]))?;
            }
            Step::Dashboard => {
                if dashboard::test()? == dashboard::Outcome::NoNode {
                    skipped.push("the dashboard's page: npm is not on the PATH".to_owned());
                }
            }
            Step::Unit => {
                install_programs()?;
                let args = ["test", "--workspace", "--exclude", "e2e"];
                let prometheus = debian::unpack("prometheus")?.join("usr/bin/prometheus");
                let prometheus = prometheus.display().to_string();
                step("unit, contract and network namespaces", || {
                    tests(&args, &[(PROMETHEUS, &prometheus)], &mut counts)
                })?;
                if std::env::var_os(LINKERD_PROXY).is_none() {
                    skipped.push(format!("Linkerd's own proxy: {LINKERD_PROXY} is not set"));
                }
            }
            Step::Helm => {
                let helm = step("the real Helm (built once, some minutes)", helm::program)?;
                let helm = helm.display().to_string();
                step("the chart with the real Helm", || {
                    let args = ["test", "--package", "linkerd-cli", "--test", "helm"];
                    tests(&args, &[("HELM", &helm)], &mut counts)
                })?;
            }
            Step::Bench => {
                let figures = step("every measure of the benchmark", bench::smoke)?;
                anstream::println!("benchmark: {figures} figures, and the wire is encrypted");
                counts.passed += figures;
            }
            Step::Cluster => cluster_tests(keep_cluster, &mut counts)?,
            // After the images, whose proxy it is about.
            Step::Instructions => {
                counts.passed += step("instructions for a request", bench::instructions)?;
            }
        }
    }
    anstream::eprintln!("{:>8}  in all", seconds(started.elapsed()));
    for what in skipped {
        anstream::println!("skipped: {what}");
    }
    anstream::println!("{} passed, {} failed", counts.passed, counts.failed);
    Ok(ExitCode::SUCCESS)
}

fn install_programs() -> Result<()> {
    let missing: Vec<&str> = PROGRAMS
        .into_iter()
        .filter(|(program, _)| command::on_path(program).is_none())
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        debian::install(&missing)
    }
}

fn cluster_tests(keep_cluster: bool, counts: &mut Counts) -> Result<()> {
    let helm = step("the real Helm (built once, some minutes)", helm::program)?;
    step("clear an earlier cluster", cluster::down)?;
    let options = images::Options {
        servers: true,
        ..images::Options::default()
    };
    let mesh = demo::on_local_cluster(&options, NODES)?;
    step("install the mesh", || mesh.install())?;
    step("inject the sample app", || mesh.inject_sample_app())?;
    let kubeconfig = mesh
        .kubeconfig
        .as_ref()
        .context("a local cluster has a kubeconfig")?;
    let environment = [
        ("E2E_KUBECONFIG", kubeconfig.display().to_string()),
        ("E2E_KUBECTL", mesh.kubectl.display().to_string()),
        ("E2E_HELM", helm.display().to_string()),
        ("E2E_LINKERD", mesh.linkerd.display().to_string()),
        ("E2E_XTASK", std::env::current_exe()?.display().to_string()),
    ];
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let args = [
        "test",
        "--package",
        "e2e",
        "--",
        "--test-threads=4",
        "--nocapture",
    ];
    step("cluster tests", || tests(&args, &environment, counts))?;
    if !keep_cluster {
        step("remove the cluster", cluster::down)?;
    }
    Ok(())
}

fn cargo(args: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(args)
        .envs(environment.iter().copied())
        .current_dir(workspace::root());
    command::run(&mut cargo)
}

/// Runs `cargo test`, shows its output and adds up what its runner counted.
fn tests(args: &[&str], environment: &[(&str, &str)], counts: &mut Counts) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(args)
        .envs(environment.iter().copied())
        .current_dir(workspace::root());
    let mut child = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().expect("stdout is piped");
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if let Some((passed, failed)) = result_counts(&line) {
            counts.passed += passed;
            counts.failed += failed;
        }
        anstream::println!("{line}");
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` ended with {status}", command::words(&cargo));
    }
    Ok(())
}

/// Reads `test result: ok. 5 passed; 0 failed; …`.
fn result_counts(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = counts.split("; ");
    let passed = counts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = counts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_last_line_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered";
        assert_eq!(result_counts(line), Some((12, 3)));
        assert_eq!(result_counts("running 4 tests"), None);
    }
}
