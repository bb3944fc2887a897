//! The Go binaries of the cluster, built once per state of their sources.
//! Entry: [`build`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::layout::Layout;
use crate::{command, progress, workspace};

/// What the cluster runs.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    /// All components of Kubernetes, etcd, CoreDNS and kubectl, as subcommands.
    pub(super) kubernetes: PathBuf,
    /// The first process of every node and pod.
    pub(super) pause: PathBuf,
    /// A small application for the cluster's own test.
    pub(super) probe: PathBuf,
}

/// The packages of the Go module beside the main one; each is a static binary of that name.
const SMALL: [&str; 2] = ["pause", "probe"];

/// Returns the binaries for the present sources, and builds them when they are not there yet.
///
/// # Errors
/// When Go is missing or too old, and when the build fails.
pub(super) fn build(layout: &Layout) -> Result<Binaries> {
    let sources = workspace::root().join("tests/local-kubernetes");
    let module = read(&sources.join("go.mod"))?;
    let flags = linker_flags(&module)?;
    let folder = layout.builds.join(key(&sources, &flags)?);
    if folder.exists() {
        return Ok(in_folder(&folder));
    }
    let go = find_go(&module)?;
    progress::step("build Kubernetes from source (once, some minutes)", || {
        build_into(&folder, |unfinished| {
            for name in SMALL {
                let mut build = go_build(&go, &sources, "-s -w", &unfinished.join(name));
                command::run(build.arg(format!("./{name}")).env("CGO_ENABLED", "0"))?;
            }
            let mut build = go_build(&go, &sources, &flags, &unfinished.join("kubernetes"));
            command::run(build.arg("."))?;
            Ok(())
        })
    })?;
    remove_others(&layout.builds, &folder)?;
    Ok(in_folder(&folder))
}

/// Returns the binaries with which the present cluster was started, whatever the sources are by now.
pub(super) fn of_cluster(layout: &Layout) -> Result<Binaries> {
    let kubernetes =
        fs::read_link(layout.kubectl()).context("cannot find the cluster's programs")?;
    Ok(in_folder(
        kubernetes.parent().context("a program lies in a folder")?,
    ))
}

fn in_folder(folder: &Path) -> Binaries {
    Binaries {
        kubernetes: folder.join("kubernetes"),
        pause: folder.join("pause"),
        probe: folder.join("probe"),
    }
}

fn go_build(go: &Path, sources: &Path, flags: &str, output: &Path) -> Command {
    let mut build = Command::new(go);
    build
        .args(["build", "-trimpath", "-ldflags", flags, "-o"])
        .arg(output)
        .current_dir(sources);
    build
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GOFLAGS", "");
    build
}

/// Lets `work` fill a folder that gets its name only when it is complete: who finds it may use it.
fn build_into(folder: &Path, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
    fs::create_dir_all(&unfinished)
        .with_context(|| format!("cannot make {}", unfinished.display()))?;
    let result = work(&unfinished).and_then(|()| match fs::rename(&unfinished, folder) {
        // Somebody else was faster; theirs is the same.
        Err(_) if folder.exists() => Ok(()),
        result => result.with_context(|| format!("cannot make {}", folder.display())),
    });
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)
            .with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    result
}

/// Removes the builds of other sources, and what a killed build left: each has 180 MB.
fn remove_others(builds: &Path, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(builds)? {
        let path = entry?.path();
        if path != folder {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Returns a name for everything that the binaries are made of.
fn key(sources: &Path, flags: &str) -> Result<String> {
    let mut files = Vec::new();
    let mut folders = vec![sources.to_path_buf()];
    folders.extend(SMALL.map(|name| sources.join(name)));
    for folder in folders {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
        {
            let path = entry?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("go" | "mod" | "sum")) {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    hash.update(flags);
    for path in &files {
        let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        hash.update(path.strip_prefix(sources)?.as_os_str().as_encoded_bytes());
        hash.update(content.len().to_le_bytes());
        hash.update(content);
    }
    Ok(format!("{:x}", hash.finalize())[..16].to_owned())
}

/// Returns the flags that tell the binary which Kubernetes it is, as `go.mod` says it.
fn linker_flags(module: &str) -> Result<String> {
    let version =
        field(module, "k8s.io/kubernetes").context("go.mod names no k8s.io/kubernetes")?;
    let mut numbers = version.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("go.mod: {version} is no version of k8s.io/kubernetes");
    };
    let package = "k8s.io/component-base/version";
    Ok(format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} \
         -X {package}.gitMinor={minor}"
    ))
}

/// Returns the word behind `name` in a line of `go.mod`.
fn field<'a>(module: &'a str, name: &str) -> Option<&'a str> {
    module.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()).flatten()
    })
}

/// Returns the Go command, when it is as new as `go.mod` asks.
fn find_go(module: &str) -> Result<PathBuf> {
    let wanted = field(module, "go").context("go.mod names no Go version")?;
    let advice = format!("the local cluster is built with Go {wanted} or later, see go.dev/dl");
    let installed = Path::new("/usr/local/go/bin/go");
    for go in [Path::new("go"), installed] {
        let mut ask = Command::new(go);
        ask.args(["env", "GOVERSION"])
            .current_dir("/")
            .env("GOTOOLCHAIN", "local");
        let Ok(answer) = command::output(&mut ask) else {
            continue;
        };
        let version = answer.trim().trim_start_matches("go");
        if numbers(version) >= numbers(wanted) {
            return Ok(go.to_path_buf());
        }
        bail!("Go {version} is too old: {advice}");
    }
    bail!("there is no Go in PATH: {advice}")
}

/// Returns the leading number of each part of a version: `1.26rc1` is 1 and 26.
fn numbers(version: &str) -> Vec<u32> {
    let number = |part: &str| {
        let end = part
            .find(|digit: char| !digit.is_ascii_digit())
            .unwrap_or(part.len());
        part[..end].parse().unwrap_or(0)
    };
    version.split('.').map(number).collect()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("1.26.8") > numbers("1.24.0"));
        assert!(numbers("1.9") < numbers("1.24.0"));
        assert_eq!(numbers("1.26rc1"), [1, 26]);
    }

    #[test]
    fn the_binary_says_the_version_of_its_module() {
        let flags = linker_flags("go 1.24.0\nrequire (\n\tk8s.io/kubernetes v1.34.4\n)").unwrap();
        assert!(flags.contains("version.gitVersion=v1.34.4 "), "{flags}");
        assert!(flags.ends_with("gitMinor=34"), "{flags}");
        assert!(linker_flags("module x").is_err());
    }

    #[test]
    fn every_changed_source_gives_another_key() {
        let folder = tempfile::tempdir().unwrap();
        for name in SMALL {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut keys = vec![
            key(folder.path(), "").unwrap(),
            key(folder.path(), "-s").unwrap(),
        ];
        for (file, content) in [
            ("main.go", "a"),
            ("main.go", "b"),
            ("go.sum", "a"),
            ("pause/main.go", "a"),
        ] {
            fs::write(folder.path().join(file), content).unwrap();
            keys.push(key(folder.path(), "").unwrap());
        }
        let last = keys.last().unwrap().clone();
        fs::write(folder.path().join("README.md"), "words").unwrap();
        assert_eq!(key(folder.path(), "").unwrap(), last);
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 6);
    }

    #[test]
    fn a_failed_build_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let result = build_into(&folder.path().join("key"), |unfinished| {
            fs::write(unfinished.join("half"), "").unwrap();
            bail!("no memory")
        });
        assert_eq!(result.unwrap_err().to_string(), "no memory");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
