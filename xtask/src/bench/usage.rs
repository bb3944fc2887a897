//! How much processor time and memory is used, by whom. Entries: [`process`], [`foreign`],
//! [`stolen`], [`wait_until_quiet`], [`rss_bytes`]. Times are seconds since some start: take the
//! difference of two.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Ticks a second in `/proc`; Linux has told every program 100 for twenty years.
const TICKS: f64 = 100.0;
/// Others may use so many cores before a measure begins, or it is worth repeating.
const QUIET_CORES: f64 = 0.08;
/// How long is looked before the machine is called quiet.
const QUIET_WINDOW: Duration = Duration::from_millis(700);
/// The parent of all kernel threads.
const KERNEL: u32 = 2;

/// What a process has used: the exact run time of its threads.
///
/// # Errors
/// When the process is gone.
pub(super) fn process(id: u32) -> Result<f64> {
    let folder = format!("/proc/{id}/task");
    let mut nanoseconds = 0;
    for thread in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        // A thread may end while we look at it.
        if let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) {
            nanoseconds += first_number(&text)?;
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// Memory of a process that is in RAM, pages of its program included.
///
/// # Errors
/// When the process is gone.
pub(super) fn rss_bytes(id: u32) -> Result<f64> {
    let path = format!("/proc/{id}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = first_number(line.with_context(|| format!("{path} has no VmRSS"))?)?;
    Ok(kib as f64 * 1024.0)
}

/// What processes have used that we did not start; the kernel's own do not count.
///
/// # Errors
/// When `/proc` cannot be read.
pub(super) fn foreign() -> Result<f64> {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end while we look at it.
        if let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) {
            processes.insert(id, Stat::parse(&stat)?);
        }
    }
    let us = std::process::id();
    let ticks: u64 = processes
        .iter()
        .filter(|(id, _)| !descends(**id, &[us, KERNEL], &processes))
        .map(|(_, stat)| stat.ticks)
        .sum();
    Ok(ticks as f64 / TICKS)
}

/// Time in which the machine below ours did not let us run, on all processors together.
///
/// # Errors
/// When `/proc/stat` cannot be read.
pub(super) fn stolen() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks = text.split_whitespace().nth(8);
    Ok(first_number(ticks.context("/proc/stat has no column for steal")?)? as f64 / TICKS)
}

/// Waits until others leave the machine alone, at most `bound`.
///
/// # Errors
/// Those of [`foreign`].
pub(super) fn wait_until_quiet(bound: Duration) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < bound {
        let before = foreign()?;
        std::thread::sleep(QUIET_WINDOW);
        if foreign()? - before < QUIET_CORES * QUIET_WINDOW.as_secs_f64() {
            break;
        }
    }
    Ok(())
}

/// What `/proc/PID/stat` says, as far as we look at it.
struct Stat {
    parent: u32,
    /// Own time and that of children that have ended.
    ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Result<Self> {
        // The program's name is in parentheses and may itself contain some.
        let fields = text.rsplit_once(')').map(|(_, fields)| fields);
        let fields: Vec<&str> = fields.unwrap_or_default().split_whitespace().collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or_default();
        let mut ticks = 0;
        for index in 11..15 {
            ticks += first_number(field(index))?;
        }
        let parent = u32::try_from(first_number(field(1))?)?;
        Ok(Self { parent, ticks })
    }
}

/// Whether the process is one of `roots` or was started by one, however many generations ago.
fn descends(mut id: u32, roots: &[u32], processes: &HashMap<u32, Stat>) -> bool {
    loop {
        if roots.contains(&id) {
            return true;
        }
        match processes.get(&id) {
            Some(stat) if stat.parent != 0 => id = stat.parent,
            _ => return false,
        }
    }
}

fn first_number(text: &str) -> Result<u64> {
    let word = text.split_whitespace().next().unwrap_or_default();
    word.parse()
        .with_context(|| format!("{text:?} does not begin with a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_may_hold_parentheses() {
        let text = "7 (a) b) S 5 7 7 0 -1 4194560 1 0 0 0 10 20 30 40 20 0 1 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.parent, stat.ticks), (5, 100));
    }

    #[test]
    fn our_own_process_is_not_foreign_and_uses_time() {
        let us = std::process::id();
        let processes = HashMap::from([
            (
                us,
                Stat {
                    parent: 1,
                    ticks: 0,
                },
            ),
            (
                9_000_001,
                Stat {
                    parent: us,
                    ticks: 0,
                },
            ),
            (
                9_000_002,
                Stat {
                    parent: 1,
                    ticks: 0,
                },
            ),
        ]);
        assert!(descends(9_000_001, &[us], &processes));
        assert!(!descends(9_000_002, &[us], &processes));
        assert!(process(us).unwrap() > 0.0);
    }
}
