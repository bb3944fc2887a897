//! One run of the benchmark: all planes, taking turns. Entries: [`compare`], and [`Run::prepare`] for
//! what any run needs.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use linkerd_names::{CONTROL_PLANE_NAMESPACE_DEFAULT, Identity, OwnerKind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::deployed::Deployed;
use super::measures::{Effort, Measure};
use super::planes::{Direct, Envoy, Ours, Plane, Script, Setup};
use super::programs::{self, Profile};
use super::proof::{Proof, prove};
use super::record::{Record, Records};
use super::side::{SIDES, Side};
use crate::{cache, command, progress, workspace};

/// Namespace of the two workloads.
pub(super) const NAMESPACE: &str = "bench";

/// Planes that need no script.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub(super) enum Builtin {
    /// No data plane
    Direct,
    /// linkerd-proxy
    Ours,
    /// Envoy
    Envoy,
}

/// What to compare, and how.
pub(super) struct Options {
    pub(super) measures: Vec<Measure>,
    pub(super) planes: Vec<Builtin>,
    /// Further planes: a name, and the script that runs it.
    pub(super) scripts: Vec<(String, PathBuf)>,
    pub(super) rounds: u32,
    pub(super) effort: Effort,
    /// A linkerd-proxy to measure instead of one that is built.
    pub(super) proxy: Option<PathBuf>,
    pub(super) profile: Profile,
}

/// What came out.
pub(super) struct Comparison {
    pub(super) records: Vec<Record>,
    /// Names in the order of the table.
    pub(super) planes: Vec<String>,
    /// One for each plane.
    pub(super) proofs: Vec<Proof>,
    /// Where the raw figures and the logs are.
    pub(super) folder: PathBuf,
}

/// What every run needs. Only one at a time is on a machine: the namespaces have names.
pub(super) struct Run {
    pub(super) setup: Setup,
    /// For the results.
    pub(super) folder: PathBuf,
    proxy: PathBuf,
    /// The setup's folder; it goes with the run.
    work: TempDir,
    _lock: File,
}

impl Run {
    /// Builds and installs programs, writes certificates and makes folders. A linkerd-proxy is built
    /// unless `proxy` is one.
    ///
    /// # Errors
    /// The first thing that fails.
    pub(super) fn prepare(proxy: Option<&Path>, profile: Profile) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "network namespaces need root"
        );
        let lock = lock()?;
        raise_file_limit()?;
        programs::install()?;
        let work = work_folder()?;
        let (tool, proxy) = match proxy {
            Some(proxy) => {
                let [tool] = programs::build(["linkerd-bench"], profile)?;
                (tool, proxy.to_path_buf())
            }
            None => {
                let packages = ["linkerd-bench", "linkerd-proxy"];
                let [tool, proxy] = programs::build(packages, profile)?;
                (tool, proxy)
            }
        };
        let setup = Setup {
            tool,
            folder: work.path().to_path_buf(),
        };
        write_certificates(&setup)?;
        Ok(Self {
            setup,
            folder: results_folder()?,
            proxy,
            work,
            _lock: lock,
        })
    }

    /// Returns a copy of a plane's program: the sidecars' user may not be allowed to read it where it
    /// is, and what is built meanwhile changes nothing.
    ///
    /// # Errors
    /// When it cannot be fetched or copied.
    pub(super) fn program(&self, plane: Builtin) -> Result<PathBuf> {
        let from = match plane {
            Builtin::Direct => bail!("there is no program"),
            Builtin::Ours => self.proxy.clone(),
            Builtin::Envoy => programs::envoy()?,
        };
        let name = from.file_name().context("a program has a name")?;
        let to = self.work.path().join(name);
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(to)
    }

    fn planes(&self, options: &Options) -> Result<Vec<Box<dyn Plane>>> {
        let mut planes: Vec<Box<dyn Plane>> = Vec::new();
        for plane in &options.planes {
            planes.push(match plane {
                Builtin::Direct => Box::new(Direct),
                Builtin::Ours => Box::new(Ours::new(self.program(*plane)?)),
                Builtin::Envoy => Box::new(Envoy::new(self.program(*plane)?)),
            });
        }
        for (name, script) in &options.scripts {
            planes.push(Box::new(Script::new(name, script)?));
        }
        Ok(planes)
    }
}

/// Measures every plane in every round. Each gets fresh namespaces, servers and sidecars each time.
///
/// # Errors
/// The first thing that fails; a plane that does not encrypt fails.
pub(super) fn compare(options: &Options) -> Result<Comparison> {
    let run = Run::prepare(options.proxy.as_deref(), options.profile)?;
    let planes = run.planes(options)?;
    let logs = run.folder.join("logs");
    let mut records = Records::create(&run.folder.join("raw.jsonl"))?;
    let mut proofs = Vec::new();
    for round in 1..=options.rounds {
        for plane in &planes {
            let name = format!("round {round} of {}, {}", options.rounds, plane.name());
            progress::step(&name, || {
                let mut deployed = Deployed::start(plane.as_ref(), &run.setup, &logs)?;
                if round == 1 {
                    let proof = prove(&mut deployed)?;
                    records.note(&proof)?;
                    proofs.push(proof);
                }
                measure(&mut deployed, round, options, &mut records)
            })?;
        }
    }
    Ok(Comparison {
        records: records.all,
        planes: planes.iter().map(|plane| plane.name().to_owned()).collect(),
        proofs,
        folder: run.folder,
    })
}

fn measure(
    deployed: &mut Deployed,
    round: u32,
    options: &Options,
    records: &mut Records,
) -> Result<()> {
    let plane = deployed.plane.name();
    for measure in &options.measures {
        let values = measure
            .run(deployed, &options.effort)
            .with_context(|| format!("{plane}: {}", measure.title()))?;
        records.add(Record {
            plane: plane.to_owned(),
            round,
            measure: *measure,
            values,
        })?;
    }
    Ok(())
}

fn lock() -> Result<File> {
    let path = cache::folder()?.join("bench.lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    file.lock().context("cannot wait for another benchmark")?;
    Ok(file)
}

/// The identity of a side's workload.
pub(super) fn identity(side: Side) -> Identity {
    Identity::new(
        side.name(),
        OwnerKind::Deployment,
        NAMESPACE,
        CONTROL_PLANE_NAMESPACE_DEFAULT,
    )
    .expect("the names are short and plain")
}

fn write_certificates(setup: &Setup) -> Result<()> {
    let mut tool = Command::new(&setup.tool);
    tool.arg("certificates").arg(setup.folder.join("certs"));
    tool.args(SIDES.map(|side| format!("{}={}", side.name(), identity(side))));
    command::output(&mut tool).map(drop)
}

/// A folder that every user can read: the sidecars run as another one. Those of runs that were
/// interrupted are removed.
fn work_folder() -> Result<TempDir> {
    const PREFIX: &str = "linkerd-bench-";
    let parent = std::env::temp_dir();
    for entry in fs::read_dir(&parent).context("cannot read the folder for temporary files")? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    tempfile::Builder::new()
        .prefix(PREFIX)
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .context("cannot make a temporary folder")
}

fn results_folder() -> Result<PathBuf> {
    let now = OffsetDateTime::now_utc();
    let (date, hour, minute, second) = (now.date(), now.hour(), now.minute(), now.second());
    let time = format!("{date}-{hour:02}{minute:02}{second:02}");
    let folder = workspace::root().join("target/bench").join(time);
    let logs = folder.join("logs");
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    Ok(folder)
}

/// Ten thousand clients need as many open files. What we start inherits the limit.
fn raise_file_limit() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}
