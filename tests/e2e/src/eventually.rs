//! Waiting for a cluster to come to a state, which is the one thing that no event announces.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// How long most things may take: pods start, Prometheus scrapes, a window of a minute fills.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until `look` succeeds, and returns what it returned.
///
/// # Errors
/// The last error of `look`, after three minutes.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Result<T>) -> Result<T> {
    eventually_within(PATIENCE, what, look)
}

/// Waits at most `patience` until `look` succeeds, and returns what it returned.
///
/// # Errors
/// The last error of `look`.
pub fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() > patience => {
                return Err(error).with_context(|| format!("not within {patience:?}: {what}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
