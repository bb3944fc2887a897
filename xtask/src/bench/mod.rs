//! `cargo xtask bench`: what our data plane costs beside no data plane and beside others, measured
//! in one run on this machine. Entries: [`run`], and for `cargo xtask test` [`smoke()`] and
//! [`instructions()`].
//! `docs/performance.md` says what the figures mean.

mod chart;
mod comparison;
mod deployed;
mod figures;
mod instructions;
mod measures;
mod namespaces;
mod planes;
mod process;
mod programs;
mod proof;
mod record;
mod report;
mod side;
mod smoke;
mod summary;
mod table;
mod usage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};

use self::comparison::{Builtin, Options, compare};
use self::measures::{Clients, Effort, MEASURES, Measure};
use self::programs::Profile;
use self::report::Report;
pub(crate) use self::smoke::smoke;
use crate::images::binaries;

/// Ports of the servers.
mod ports {
    /// HTTP/1.1.
    pub(super) const HTTP: u16 = 8080;
    /// gRPC without TLS.
    pub(super) const GRPC: u16 = 8079;
    /// iperf3.
    pub(super) const IPERF: u16 = 5201;
    /// HTTP that the sidecars pass on unread.
    pub(super) const OPAQUE_HTTP: u16 = 5202;
    /// Ports that are declared opaque.
    pub(super) const OPAQUE: [u16; 2] = [IPERF, OPAQUE_HTTP];
}

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Measure these only, comma-separated
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measure>,
    /// Planes to compare, comma-separated
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "direct,ours,envoy"
    )]
    planes: Vec<Builtin>,
    /// Compare another plane too, which a script runs
    #[arg(long = "plane", value_name = "NAME=SCRIPT", value_parser = name_and_path)]
    scripts: Vec<(String, PathBuf)>,
    /// How often each plane is measured; planes take turns
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of each load
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// One short round, however busy the machine is: to see that all works, not to tell anybody
    #[arg(long)]
    quick: bool,
    /// Measure this linkerd-proxy instead of building one
    #[arg(long, value_name = "PATH")]
    proxy: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Count the instructions that our proxy takes for a request, and nothing else; needs valgrind
    #[arg(long, conflicts_with_all = ["only", "planes", "scripts", "json"])]
    instructions: bool,
}

/// Runs the task: prints the table, and says where the figures of every round are.
///
/// # Errors
/// The first thing that fails.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args {
        only,
        planes,
        scripts,
        rounds,
        seconds,
        quick,
        proxy,
        json,
        instructions,
    } = args;
    if instructions {
        gate(proxy.as_deref(), Profile::Image)?;
        return Ok(ExitCode::SUCCESS);
    }
    let clients = Clients {
        few: 1_000,
        many: 10_000,
        going: 4_000,
        settle: Duration::from_secs(2),
        gone: Duration::from_secs(10),
    };
    let effort = if quick {
        Effort {
            seconds: seconds.min(2.0),
            repeats_max: 0,
            quiet_timeout: Duration::ZERO,
            clients,
        }
    } else {
        Effort {
            seconds,
            repeats_max: 2,
            quiet_timeout: Duration::from_secs(60),
            clients,
        }
    };
    let options = Options {
        measures: if only.is_empty() {
            MEASURES.to_vec()
        } else {
            only
        },
        planes,
        scripts,
        rounds: if quick { 1 } else { rounds },
        effort,
        proxy,
        profile: Profile::Image,
    };
    let comparison = compare(&options)?;
    let report = Report::new(&comparison)?;
    report.write(&comparison.folder)?;
    if json {
        anstream::print!("{}", report.json);
    } else {
        anstream::print!("{}", report.markdown);
    }
    anstream::eprintln!("everything: {}", comparison.folder.display());
    Ok(ExitCode::SUCCESS)
}

/// Counts instructions of the proxy in the images, which is built if need be. Returns how many loads
/// kept below their limits.
///
/// # Errors
/// When one takes more than it may, and the first thing that fails.
pub(crate) fn instructions() -> Result<u64> {
    let built = binaries::build(&binaries::PACKAGES)?;
    gate(Some(built.get("linkerd-proxy")?), Profile::Test)
}

fn gate(proxy: Option<&Path>, profile: Profile) -> Result<u64> {
    let counted = instructions::run(proxy, profile)?;
    anstream::print!("{}", counted.table);
    anstream::eprintln!("what callgrind wrote: {}", counted.folder.display());
    ensure!(
        counted.regressions.is_empty(),
        "{}",
        counted.regressions.join("\n")
    );
    Ok(counted.loads)
}

fn name_and_path(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("NAME=SCRIPT is needed")?;
    Ok((name.to_owned(), PathBuf::from(path)))
}
