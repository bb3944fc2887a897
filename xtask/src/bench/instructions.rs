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

use super::comparison::{Builtin, Options, Run};
use super::deployed::Deployed;
use super::planes::{CALLGRIND, Ours, Setup};
use super::ports::{GRPC, HTTP, OPAQUE_HTTP};
use super::programs;
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
}

const LOADS: [Load; 4] = [
    Load {
        name: "http",
        subcommand: "rate",
        port: HTTP,
        options: &["--rate", "100", "--connections", "1"],
    },
    Load {
        name: "grpc",
        subcommand: "ping",
        port: GRPC,
        options: &["--connections", "1", "--streams", "1"],
    },
    Load {
        name: "new-http",
        subcommand: "connections",
        port: HTTP,
        options: &["--clients", "1"],
    },
    Load {
        name: "new-tcp",
        subcommand: "connections",
        port: OPAQUE_HTTP,
        options: &["--clients", "1"],
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

/// Counts for every load, and returns a Markdown table.
///
/// # Errors
/// The first thing that fails.
pub(super) fn run(options: &Options) -> Result<(String, PathBuf)> {
    let run = Run::prepare(options)?;
    programs::install_valgrind()?;
    let plane = Ours::counted(run.program(Builtin::Ours)?);
    let out = run.setup.folder.join(CALLGRIND);
    fs::create_dir_all(&out)?;
    chown(&out, Some(PROXY_UID), Some(PROXY_UID)).context("cannot give a folder away")?;
    let mut lines = vec![
        "| instructions for a request | outbound | inbound | both |".to_owned(),
        "|---|---:|---:|---:|".to_owned(),
    ];
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
        let cells = [outbound, inbound, outbound + inbound].map(number);
        lines.push(format!("| {} | {} |", load.name, cells.join(" | ")));
    }
    Ok((lines.join("\n") + "\n", run.folder.clone()))
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
