//! Builds programs as they go into images: static and optimised. Entry:
//! [`build`]. One run of cargo: its jobs share the processors, and no crate is built twice.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{command, workspace};

/// Packages of the images, and the CLI; each has one program.
pub(crate) const PACKAGES: [&str; 8] = [
    "linkerd-proxy",
    "linkerd-init",
    "linkerd-ca",
    "linkerd-destination",
    "linkerd-api",
    "linkerd-injector",
    "linkerd-cli",
    "emojivoto",
];

/// What was built.
pub(crate) struct Binaries {
    by_name: BTreeMap<String, PathBuf>,
    /// Cargo's target folder.
    pub(super) target: PathBuf,
}

/// A line of `cargo build --message-format=json`, as far as we look at it.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
}

impl Binaries {
    /// Returns where the program lies.
    ///
    /// # Errors
    /// When no package has this program.
    pub(crate) fn get(&self, name: &str) -> Result<&Path> {
        let path = self.by_name.get(name);
        path.map(PathBuf::as_path)
            .with_context(|| format!("cargo built no program {name}"))
    }
}

/// Builds the programs of `packages` for this machine's processor, as they go into images. Cargo's
/// progress goes to stderr.
///
/// # Errors
/// When cargo fails; it has said why.
pub(crate) fn build(packages: &[&str]) -> Result<Binaries> {
    let mut cargo = cargo_build();
    cargo.args(packages.iter().flat_map(|package| ["--package", package]));
    cargo.args(["--release", "--target", target_triple()?]);
    cargo
        .env("RUSTFLAGS", flags()?)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    collect(&command::output(&mut cargo)?)
}

/// Builds `programs` as `cargo test --workspace` does, which has built all that they need.
///
/// # Errors
/// When cargo fails; it has said why.
pub(crate) fn build_for_tests(programs: &[&str]) -> Result<Binaries> {
    let mut cargo = cargo_build();
    cargo.arg("--workspace");
    cargo.args(programs.iter().flat_map(|program| ["--bin", program]));
    collect(&command::output(&mut cargo)?)
}

fn cargo_build() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace::root());
    cargo.args(["build", "--message-format=json-render-diagnostics"]);
    cargo.stderr(Stdio::inherit());
    cargo
}

/// Flags of rustc: no shared library is needed, and no path of this machine is in the program.
fn flags() -> Result<OsString> {
    let root = workspace::root();
    let mut flags = OsString::from("-C target-feature=+crt-static");
    // Where rustc links with its own LLD: equal functions once, and relative relocations as bits.
    // 5 % of the proxy's program.
    if cfg!(target_arch = "x86_64") {
        for argument in ["--icf=safe", "--pack-dyn-relocs=relr"] {
            flags.push(" -C link-arg=-Wl,");
            flags.push(argument);
        }
    }
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    for (from, to) in [(root.as_path(), "/linkerd"), (home.as_path(), "/cargo")] {
        // RUSTFLAGS are separated by blanks: such a path cannot be named, and so it stays.
        if !from.to_string_lossy().contains(char::is_whitespace) {
            flags.push(" --remap-path-prefix=");
            flags.push(from);
            flags.push(format!("={to}"));
        }
    }
    Ok(flags)
}

fn target_triple() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("x86_64-unknown-linux-gnu"),
        "aarch64" => Ok("aarch64-unknown-linux-gnu"),
        other => bail!("images are made for x86_64 and aarch64, and this is {other}"),
    }
}

fn collect(messages: &str) -> Result<Binaries> {
    let mut by_name = BTreeMap::new();
    for line in messages.lines() {
        let Message { reason, executable } =
            serde_json::from_str(line).with_context(|| format!("cargo printed {line}"))?;
        let Some(path) = executable.filter(|_| reason == "compiler-artifact") else {
            continue;
        };
        let name = path.file_name().context("a program without a name")?;
        by_name.insert(name.to_string_lossy().into_owned(), path);
    }
    // <target>/<triple>/release/<program>
    let program = by_name.values().next().context("cargo built no program")?;
    let target = program
        .ancestors()
        .nth(3)
        .context("a program outside of a target folder")?;
    let target = target.to_path_buf();
    Ok(Binaries { by_name, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_messages_of_cargo() {
        let messages = r#"{"reason":"compiler-artifact","package_id":"x","executable":null}
{"reason":"build-script-executed","package_id":"x"}
{"reason":"compiler-artifact","executable":"/t/x86_64-unknown-linux-gnu/release/linkerd"}
{"reason":"build-finished","success":true}"#;
        let binaries = collect(messages).unwrap();
        assert_eq!(binaries.target, Path::new("/t"));
        let path = binaries.get("linkerd").unwrap();
        assert_eq!(
            path,
            Path::new("/t/x86_64-unknown-linux-gnu/release/linkerd")
        );
        let error = binaries.get("linkerd-proxy").unwrap_err();
        assert_eq!(error.to_string(), "cargo built no program linkerd-proxy");
    }
}
