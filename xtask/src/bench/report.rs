//! The result in all its forms: a table for people, JSON for programs, a picture, and what was on
//! the wire. Entries: [`Report::new`], [`Report::write`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::chart;
use super::comparison::Comparison;
use super::figures::{FIGURES, Verdict};
use super::measures::Measure;
use super::summary::Summary;
use super::table;

/// All that is told of a run.
pub(super) struct Report {
    pub(super) markdown: String,
    pub(super) json: String,
    svg: String,
}

/// A line of the table, for programs.
#[derive(Serialize)]
struct Line<'a> {
    measure: Measure,
    label: &'a str,
    planes: BTreeMap<&'a str, Summary>,
    #[serde(flatten)]
    verdict: Verdict,
}

impl Report {
    /// # Errors
    /// When a figure is no number.
    pub(super) fn new(comparison: &Comparison) -> Result<Self> {
        let Comparison {
            records,
            planes,
            proofs,
            folder: _,
        } = comparison;
        let mut markdown = table::markdown(records, planes);
        markdown.push('\n');
        for proof in proofs {
            markdown.push_str(&proof.line());
            markdown.push('\n');
        }
        let lines: Vec<Line> = FIGURES
            .iter()
            .map(|figure| Line {
                measure: figure.measure,
                label: figure.label,
                planes: planes
                    .iter()
                    .filter_map(|plane| Some((plane.as_str(), figure.summary(records, plane)?)))
                    .collect(),
                verdict: figure.verdict(records),
            })
            .filter(|line| !line.planes.is_empty())
            .collect();
        Ok(Self {
            markdown,
            json: serde_json::to_string_pretty(&lines)? + "\n",
            svg: chart::svg(records, planes),
        })
    }

    /// Writes `table.md`, `table.json` and `chart.svg`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let Self {
            markdown,
            json,
            svg,
        } = self;
        for (name, text) in [
            ("table.md", markdown),
            ("table.json", json),
            ("chart.svg", svg),
        ] {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
