//! The folder for what is built once and kept between runs. Entry: [`folder`].

use std::env;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Returns the cache folder, which exists afterwards: `$LINKERD_CACHE`, or `linkerd-xtask` in
/// `$XDG_CACHE_HOME`, or `~/.cache/linkerd-xtask`. The path is absolute.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = if let Some(folder) = variable("LINKERD_CACHE") {
        folder
    } else if let Some(caches) = variable("XDG_CACHE_HOME") {
        caches.join("linkerd-xtask")
    } else {
        let home =
            variable("HOME").context("none of LINKERD_CACHE, XDG_CACHE_HOME, HOME is set")?;
        home.join(".cache/linkerd-xtask")
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    folder
        .canonicalize()
        .with_context(|| format!("cannot resolve {}", folder.display()))
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
