//! Debian packages: installs them, unpacks them without installing, and finds the libraries of a
//! program. Entries: [`install`], [`unpack`], [`unpack_all`], [`libraries`].

use std::collections::{BTreeSet, HashMap};
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

/// Returns the folder with the files of `package`, as [`unpack_all`] does.
///
/// # Errors
/// Those of [`unpack_all`].
pub(crate) fn unpack(package: &str) -> Result<PathBuf> {
    let mut folders = unpack_all(&[package])?;
    folders.pop().context("one package has one folder")
}

/// Returns the folders with the files of the packages, in their order. They are not installed and run
/// no script: each is downloaded into the cache, once per version.
///
/// # Errors
/// When apt-get or dpkg-deb is missing or fails, or apt does not know a package.
pub(crate) fn unpack_all(packages: &[&str]) -> Result<Vec<PathBuf>> {
    let _turn = APT.lock().unwrap_or_else(PoisonError::into_inner);
    let cached = cache::folder()?.join("debian");
    fs::create_dir_all(&cached).with_context(|| format!("cannot make {}", cached.display()))?;
    let versions = with_fresh_lists(|| {
        let policy = command::output(Command::new("apt-cache").arg("policy").args(packages))?;
        let versions = candidates(&policy);
        packages
            .iter()
            .map(|package| {
                let version = versions.get(package).copied();
                let version = version.with_context(|| format!("apt knows no package {package}"))?;
                Ok(version.to_owned())
            })
            .collect::<Result<Vec<_>>>()
    })?;
    let mut folders = Vec::new();
    let mut missing = Vec::new();
    for (package, version) in packages.iter().zip(&versions) {
        // As in the names of archives: a list of folders, such as LD_LIBRARY_PATH, is cut at `:`.
        let folder = cached.join(format!("{package}_{}", version.replace(':', "%3a")));
        if !folder.exists() {
            missing.push((format!("{package}={version}"), folder.clone()));
        }
        folders.push(folder);
    }
    if missing.is_empty() {
        return Ok(folders);
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
    progress::step(&format!("download {}", names.join(" ")), || {
        let work = tempfile::tempdir_in(&cached).context("cannot make a temporary folder")?;
        command::output(
            apt_get()
                .arg("download")
                .args(&names)
                .current_dir(work.path()),
        )?;
        for (name, folder) in &missing {
            let (package, _) = name.split_once('=').context("a name has a version")?;
            let archive = archive_of(package, work.path())?;
            let files = work.path().join("files");
            command::output(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&files))?;
            fs::rename(&files, folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(())
    })?;
    Ok(folders)
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
/// dynamic loader; paths as the loader looks them up, in the unpacked packages `folders` first.
///
/// # Errors
/// When a library is missing on this machine and in the packages.
pub(crate) fn libraries<'a>(
    programs: impl IntoIterator<Item = &'a Path>,
    folders: &[PathBuf],
) -> Result<BTreeSet<PathBuf>> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let places = folders
        .iter()
        .flat_map(|folder| ["usr/lib", "lib"].map(|lib| folder.join(lib).join(&triplet)));
    let search = std::env::join_paths(places).context("a package's folder has a `:`")?;
    let mut libraries = BTreeSet::new();
    for program in programs {
        let mut ldd = Command::new("ldd");
        let listing = command::output(ldd.arg(program).env("LD_LIBRARY_PATH", &search))?;
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

/// The versions that apt would install, by package, in what `apt-cache policy` prints.
fn candidates(policy: &str) -> HashMap<&str, &str> {
    let mut package = "";
    let mut versions = HashMap::new();
    for line in policy.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            package = name;
        } else if let Some(version) = line.trim().strip_prefix("Candidate: ")
            && version != "(none)"
        {
            versions.insert(package, version);
        }
    }
    versions
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

/// The archive of a package among others in the folder: `<package>_<version>_<architecture>.deb`.
fn archive_of(package: &str, folder: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let begins = name.to_str().and_then(|name| name.split_once('_'));
        if begins.is_some_and(|(begin, _)| begin == package) {
            return Ok(folder.join(name));
        }
    }
    bail!("apt-get download left no archive of {package}")
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
        let policy = "iptables:\n  Installed: (none)\n  Candidate: 1.8.9-2\n  Version table:\n\
            zlib1g:\n  Installed: (none)\n  Candidate: 1:1.2.13\n\
            x:\n  Installed: (none)\n  Candidate: (none)\n";
        let versions = candidates(policy);
        assert_eq!(versions.get("iptables"), Some(&"1.8.9-2"));
        assert_eq!(versions.get("zlib1g"), Some(&"1:1.2.13"));
        assert_eq!(versions.len(), 2);
        assert!(candidates("").is_empty());
    }

    #[test]
    fn the_archive_of_a_package_is_found_by_its_whole_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["nginx-common_1_all.deb", "nginx_1%3a2_amd64.deb"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = archive_of("nginx", folder.path()).unwrap();
        assert!(found.ends_with("nginx_1%3a2_amd64.deb"));
        assert!(archive_of("ngin", folder.path()).is_err());
    }
}
