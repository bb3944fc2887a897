//! What was measured: one [`Record`] for each plane, round and measure, kept as a line of JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::measures::Measure;

/// Numbers by name; a name ends with its unit.
pub(super) type Values = BTreeMap<String, f64>;

/// One measure of one plane in one round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    pub(super) plane: String,
    pub(super) round: u32,
    pub(super) measure: Measure,
    pub(super) values: Values,
}

/// All records of a run.
pub(super) struct Records {
    file: File,
    pub(super) all: Vec<Record>,
}

impl Records {
    /// # Errors
    /// When the file cannot be made.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            file,
            all: Vec::new(),
        })
    }

    /// # Errors
    /// When the file cannot be written.
    pub(super) fn add(&mut self, record: Record) -> Result<()> {
        self.note(&record)?;
        self.all.push(record);
        Ok(())
    }

    /// Adds a line that is no measure.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn note(&mut self, note: &impl Serialize) -> Result<()> {
        writeln!(self.file, "{}", serde_json::to_string(note)?)?;
        Ok(())
    }
}
