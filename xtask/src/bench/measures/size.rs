//! How large a sidecar's program is without symbols.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::bench::deployed::Deployed;
use crate::bench::record::Values;
use crate::command;

const MIB: f64 = 1024.0 * 1024.0;

/// Returns nothing for a plane without sidecars.
pub(super) fn run(deployed: &Deployed) -> Result<Values> {
    let Some(program) = deployed.plane.program() else {
        return Ok(Values::new());
    };
    let stripped = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    command::output(
        Command::new("strip")
            .arg("-o")
            .arg(stripped.path())
            .arg(program),
    )?;
    let bytes = fs::metadata(stripped.path())?.len();
    Ok([("binary_mib".to_owned(), bytes as f64 / MIB)].into())
}
