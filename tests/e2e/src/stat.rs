//! What `linkerd stat -o json` says. Entry: [`rows`].

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::Cluster;

/// One row, as far as the tests look at it. Figures are absent when there was no traffic.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// Authority, or name of the object.
    pub name: String,
    /// `meshed/running`, or `-`.
    pub meshed: Option<String>,
    /// Share of successful responses, 0 to 1.
    pub success: Option<f64>,
    /// Requests a second.
    pub rps: Option<f64>,
    /// Share of responses over mutual TLS, 0 to 1.
    pub tls: Option<f64>,
    /// Responses in plaintext by reason.
    pub no_tls_reasons: Option<BTreeMap<String, u64>>,
}

/// Runs `linkerd stat <args> -o json`.
///
/// # Errors
/// When the CLI fails, or prints something else.
pub fn rows(cluster: &Cluster, args: &[&str]) -> Result<Vec<Row>> {
    let args = [&["stat"], args, &["-o", "json"]].concat();
    let stdout = cluster.linkerd(&args, "")?.ok()?;
    if stdout.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&stdout).with_context(|| format!("linkerd stat printed {stdout}"))
}

/// The row called `name`.
///
/// # Errors
/// When there is none; the message has the others.
pub fn find<'a>(rows: &'a [Row], name: &str) -> Result<&'a Row> {
    rows.iter()
        .find(|row| row.name == name)
        .with_context(|| format!("no row {name}: {rows:#?}"))
}
