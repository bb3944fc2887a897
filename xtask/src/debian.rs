//! Debian packages: installs them, unpacks them without installing, and finds the libraries of a
//! program. Entries: [`install`], [`unpack`], [`libraries`].

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::{cache, command, progress};

/// apt keeps locks on its files and fails when it meets itself; our threads take turns.
static APT: Mutex<()> = Mutex::new(());

/// Seconds that apt waits for somebody else's apt to end.
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=300";

/// Installs the packages, without those that are only recommended.
///
/// # Errors
/// When apt-get is missing or fails; what it said is in the error.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let _turn = APT.lock().unwrap_or_else(PoisonError::into_inner);
    progress::step(&format!("install {}", packages.join(" ")), || {
        with_fresh_lists(|| {
            command::output(
                apt_get()
                    .args(["-y", "install", "--no-install-recommends"])
                    .args(packages),
            )
        })
    })?;
    Ok(())
}

/// Returns the folder with the files of `package`, which is not installed and runs no script: it is
/// downloaded into the cache, once per version.
///
/// # Errors
/// When apt-get or dpkg-deb is missing or fails.
pub(crate) fn unpack(package: &str) -> Result<PathBuf> {
    let _turn = APT.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = cache::folder()?.join("debian");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let version = with_fresh_lists(|| {
        let policy = command::output(Command::new("apt-cache").args(["policy", package]))?;
        candidate(&policy).with_context(|| format!("apt knows no package {package}"))
    })?;
    // A version may hold characters such as `:`, which are fine in a file name.
    let unpacked = folder.join(format!("{package}_{version}"));
    if unpacked.exists() {
        return Ok(unpacked);
    }
    progress::step(&format!("download {package} {version}"), || {
        let work = tempfile::tempdir_in(&folder).context("cannot make a temporary folder")?;
        let name = format!("{package}={version}");
        command::output(apt_get().args(["download", &name]).current_dir(work.path()))?;
        let archive = the_only_file(work.path())?;
        let files = work.path().join("files");
        command::output(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&files))?;
        fs::rename(&files, &unpacked).with_context(|| format!("cannot make {}", unpacked.display()))
    })?;
    Ok(unpacked)
}

/// Returns the paths that a package has installed on this machine, folders among them.
///
/// # Errors
/// When the package is not installed.
pub(crate) fn files_of(package: &str) -> Result<Vec<PathBuf>> {
    let list = command::output(Command::new("dpkg").args(["-L", package]))?;
    Ok(list.lines().map(PathBuf::from).collect())
}

/// Returns the shared libraries that the programs need, with those that the libraries need, and the
/// dynamic loader; paths as the loader looks them up.
///
/// # Errors
/// When a library is missing on this machine.
pub(crate) fn libraries<'a>(
    programs: impl IntoIterator<Item = &'a Path>,
) -> Result<BTreeSet<PathBuf>> {
    let mut libraries = BTreeSet::new();
    for program in programs {
        let listing = command::output(Command::new("ldd").arg(program))?;
        libraries.extend(
            listed_libraries(&listing)
                .with_context(|| format!("libraries of {}", program.display()))?,
        );
    }
    Ok(libraries)
}

/// The paths in what `ldd` prints; lines without a path are the kernel's own library.
fn listed_libraries(listing: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in listing.lines() {
        if line.contains("not found") {
            bail!("{}", line.trim());
        }
        let words = line.split_whitespace();
        paths.extend(
            words
                .filter(|word| word.starts_with('/'))
                .map(PathBuf::from),
        );
    }
    Ok(paths)
}

/// The version that apt would install, in what `apt-cache policy` prints.
fn candidate(policy: &str) -> Option<String> {
    let line = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (line != "(none)").then(|| line.to_owned())
}

/// Does `work`, and once more with fresh lists of packages when it fails with those that are there.
fn with_fresh_lists<T>(work: impl Fn() -> Result<T>) -> Result<T> {
    work().or_else(|_| {
        command::output(apt_get().arg("update"))?;
        work()
    })
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-o", LOCK_WAIT])
        .env("DEBIAN_FRONTEND", "noninteractive");
    // As root apt would change to a user of its own, who may not write into our cache.
    command.args(["-o", "APT::Sandbox::User=root"]);
    command
}

fn the_only_file(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?;
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry?.path()),
        _ => bail!("apt-get download left something else than one file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_the_listing() {
        let listing = "\tlinux-vdso.so.1 (0x00007f6b0fa31000)
\tlibmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x00007f6b0f963000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f6b0fa33000)\n";
        assert_eq!(
            listed_libraries(listing).unwrap(),
            [
                "/lib/x86_64-linux-gnu/libmnl.so.0",
                "/lib64/ld-linux-x86-64.so.2"
            ]
            .map(PathBuf::from)
        );
        assert_eq!(
            listed_libraries("\tstatically linked\n").unwrap(),
            Vec::<PathBuf>::new()
        );
    }

    #[test]
    fn a_missing_library_is_an_error() {
        let error = listed_libraries("\tlibmnl.so.0 => not found\n").unwrap_err();
        assert_eq!(error.to_string(), "libmnl.so.0 => not found");
    }

    #[test]
    fn the_candidate_is_the_version_to_take() {
        let policy = "iptables:\n  Installed: (none)\n  Candidate: 1.8.9-2\n";
        assert_eq!(candidate(policy).as_deref(), Some("1.8.9-2"));
        assert_eq!(
            candidate("x:\n  Installed: (none)\n  Candidate: (none)\n"),
            None
        );
        assert_eq!(candidate(""), None);
    }
}
