//! How many instructions our proxy takes for a request, counted by callgrind: figures that hardly
//! depend on who else uses the machine. Entry: [`run`].
//! A load runs twice with fresh sidecars, short and long; what the long run has more, divided by the
//! requests that it has more, is the cost of one request without that of the start.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use linkerd_names::PROXY_UID;
use serde::Deserialize;

use super::comparison::{Builtin, Run};
use super::deployed::Deployed;
use super::planes::{CALLGRIND, Ours, Setup};
use super::ports::{GRPC, HTTP, OPAQUE_HTTP};
use super::programs::{self, Profile};
use super::side::{SIDES, Side, output};
use super::table::number;
use crate::progress;

/// Seconds of the short and of the long run.
const SECONDS: [f64; 2] = [1.0, 6.0];

/// A load with one request at a time: its cost does not depend on how many happen to be batched.
struct Load {
    name: &'static str,
    subcommand: &'static str,
    port: u16,
    options: &'static [&'static str],
    /// What both sidecars together may take for a request: a seventh more than on the machine where they
    /// took most when this was written. Lower it with every gain.
    instructions_max: f64,
}

const LOADS: [Load; 4] = [
    Load {
        name: "http",
        subcommand: "rate",
        port: HTTP,
        options: &["--rate", "100", "--connections", "1"],
        instructions_max: 65_000.0,
    },
    Load {
        name: "grpc",
        subcommand: "ping",
        port: GRPC,
        options: &["--connections", "1", "--streams", "1"],
        instructions_max: 200_000.0,
    },
    Load {
        name: "new-http",
        subcommand: "connections",
        port: HTTP,
        options: &["--clients", "1"],
        instructions_max: 100_000.0,
    },
    Load {
        name: "new-tcp",
        subcommand: "connections",
        port: OPAQUE_HTTP,
        options: &["--clients", "1"],
        instructions_max: 122_000.0,
    },
];

/// What one run of a load took.
struct Count {
    requests: f64,
    /// Of the outbound and the inbound sidecar.
    instructions: [f64; 2],
}

#[derive(Deserialize)]
struct Answer {
    requests: f64,
    errors: f64,
}

/// What was counted.
pub(super) struct Counted {
    /// In Markdown.
    pub(super) table: String,
    /// Where callgrind's own files are.
    pub(super) folder: PathBuf,
    /// Loads, counted.
    pub(super) loads: u64,
    /// A sentence for every load that took more than it may.
    pub(super) regressions: Vec<String>,
}

/// Counts for every load, of `proxy` or of one that is built.
///
/// # Errors
/// The first thing that fails.
pub(super) fn run(proxy: Option<&Path>, profile: Profile) -> Result<Counted> {
    let run = Run::prepare(proxy, profile)?;
    programs::install_valgrind()?;
    let plane = Ours::counted(run.program(Builtin::Ours)?);
    let out = run.setup.folder.join(CALLGRIND);
    fs::create_dir_all(&out)?;
    chown(&out, Some(PROXY_UID), Some(PROXY_UID)).context("cannot give a folder away")?;
    let mut lines = vec![
        "| instructions for a request | outbound | inbound | both | at most |".to_owned(),
        "|---|---:|---:|---:|---:|".to_owned(),
    ];
    let mut regressions = Vec::new();
    for load in &LOADS {
        let [short, long] = progress::step(load.name, || {
            let [short, long] = SECONDS;
            let short = count(&plane, &run.setup, &run.folder, load, short)?;
            Ok([short, count(&plane, &run.setup, &run.folder, load, long)?])
        })?;
        let requests = long.requests - short.requests;
        ensure!(requests > 0.0, "{}: too few requests", load.name);
        let [outbound, inbound] =
            [0, 1].map(|side| (long.instructions[side] - short.instructions[side]) / requests);
        let both = outbound + inbound;
        let cells = [outbound, inbound, both, load.instructions_max].map(number);
        lines.push(format!("| {} | {} |", load.name, cells.join(" | ")));
        if both > load.instructions_max {
            let [_, _, both, most] = cells;
            let name = load.name;
            regressions.push(format!(
                "{name}: {both} instructions for a request, and at most {most} are allowed"
            ));
        }
    }
    Ok(Counted {
        table: lines.join("\n") + "\n",
        folder: run.folder.clone(),
        loads: LOADS.len() as u64,
        regressions,
    })
}

/// Runs `load` once; what callgrind has written is kept in `folder`.
fn count(plane: &Ours, setup: &Setup, folder: &Path, load: &Load, seconds: f64) -> Result<Count> {
    let deployed = Deployed::start(plane, setup, &folder.join("logs"))?;
    let mut command = deployed.tool(load.subcommand);
    command.arg(Side::Server.at(load.port).to_string());
    command.args(load.options);
    command.args(["--seconds", &seconds.to_string()]);
    let text = output(Side::Client, &mut command)?;
    let Answer { requests, errors } = serde_json::from_str(&text)?;
    ensure!(errors == 0.0, "{}: {errors} errors", load.name);
    // callgrind writes when the sidecar ends.
    drop(deployed);
    let mut instructions = [0.0; 2];
    for (side, count) in SIDES.into_iter().zip(&mut instructions) {
        let name = format!("{}.out", side.name());
        let kept = folder.join(format!("callgrind-{}-{name}", load.name));
        fs::copy(setup.folder.join(CALLGRIND).join(&name), &kept)
            .with_context(|| format!("callgrind has not written {name}"))?;
        *count = total(&fs::read_to_string(&kept)?)?;
    }
    Ok(Count {
        requests,
        instructions,
    })
}

/// The sum in a file of callgrind.
fn total(text: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| {
        line.strip_prefix("totals: ")
            .or_else(|| line.strip_prefix("summary: "))
    });
    let number = line.context("callgrind has written no sum")?.trim();
    number.parse().with_context(|| format!("the sum {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_stands_behind_its_name() {
        assert_eq!(
            total("events: Ir\nsummary: 1234\n\nfn=x\n1 2\n").unwrap(),
            1234.0
        );
        assert!(total("events: Ir\n").is_err());
    }
}
