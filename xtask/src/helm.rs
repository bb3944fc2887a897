//! The real Helm, built from its Go module and kept, for the tests of the chart.
//! Entry: [`program`].

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{cache, command};

/// Its package and version.
const PACKAGE: &str = "helm.sh/helm/v3/cmd/helm";
const VERSION: &str = "v3.22.0";

/// Returns the path of Helm, and builds it when it is not there yet: some minutes.
///
/// # Errors
/// When Go is missing, the Go proxy cannot be reached, or the build fails.
pub(crate) fn program() -> Result<PathBuf> {
    let folder = cache::folder()?.join("helm").join(VERSION);
    let program = folder.join("helm");
    if program.exists() {
        return Ok(program);
    }
    // It gets its name only when it is complete: who finds it may use it.
    let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
    let go = command::on_path("go").unwrap_or_else(|| PathBuf::from("/usr/local/go/bin/go"));
    let mut install = Command::new(go);
    install
        .args(["install", "-trimpath", "-ldflags", "-s -w"])
        .arg(format!("{PACKAGE}@{VERSION}"));
    install
        .env("GOBIN", &unfinished)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "")
        .env("GOWORK", "off");
    command::run(&mut install).context("Helm is built with Go, see go.dev/dl")?;
    match fs::rename(&unfinished, &folder) {
        // Somebody else was faster; theirs is the same.
        Err(_) if program.exists() => fs::remove_dir_all(&unfinished)
            .with_context(|| format!("cannot remove {}", unfinished.display()))?,
        result => result.with_context(|| format!("cannot make {}", folder.display()))?,
    }
    Ok(program)
}
