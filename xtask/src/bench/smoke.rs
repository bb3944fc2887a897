//! Whether the benchmark works: every measure yields figures, and the wire is encrypted. Says nothing
//! about how large they are. Entry: [`smoke`].

use std::time::Duration;

use anyhow::{Result, ensure};

use super::comparison::{Builtin, Comparison, Options, compare};
use super::figures::FIGURES;
use super::measures::{Clients, Effort, MEASURES};
use super::programs::Profile;

/// Long enough for some requests of each kind.
const SECONDS: f64 = 0.5;

/// Measures everything for a moment, without and with our proxy. Returns the number of figures.
///
/// # Errors
/// When a figure is missing, and those of [`compare`].
pub(crate) fn smoke() -> Result<u64> {
    let Comparison {
        records,
        planes,
        proofs: _,
        folder: _,
    } = compare(&Options {
        measures: MEASURES.to_vec(),
        planes: vec![Builtin::Direct, Builtin::Ours],
        scripts: Vec::new(),
        rounds: 1,
        effort: Effort {
            seconds: SECONDS,
            repeats_max: 0,
            quiet_timeout: Duration::ZERO,
            clients: Clients {
                few: 50,
                many: 100,
                going: 100,
                settle: Duration::from_millis(100),
                gone: Duration::from_millis(100),
            },
        },
        proxy: None,
        profile: Profile::Test,
    })?;
    let mut checked = 0;
    for figure in FIGURES {
        for plane in &planes {
            let summary = figure.summary(&records, plane);
            if plane == "direct" && summary.is_none() {
                // Without sidecars there is nothing that they could cost.
                continue;
            }
            let is_there = summary.is_some_and(|summary| summary.median.is_finite());
            let (measure, label) = (figure.measure.title(), figure.label);
            ensure!(is_there, "{plane} has no figure: {measure}: {label}");
            if label == "errors" {
                let errors = summary.map_or(0.0, |summary| summary.max);
                ensure!(errors == 0.0, "{plane}: {measure}: {errors} errors");
            }
            checked += 1;
        }
    }
    Ok(checked)
}
