//! A plane that runs: namespaces, servers, control planes and sidecars. Entry: [`Deployed::start`].

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use super::namespaces::Namespaces;
use super::planes::{Plane, Setup};
use super::ports::{GRPC, HTTP, IPERF, OPAQUE_HTTP};
use super::process::Process;
use super::side::{SIDES, Side, output};
use super::usage;

/// No sidecar takes longer to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two questions: short against a start.
const READY_PAUSE: Duration = Duration::from_micros(500);

/// A plane that runs. Everything ends when this is dropped, the namespaces last.
pub(super) struct Deployed<'a> {
    pub(super) plane: &'a dyn Plane,
    setup: &'a Setup,
    logs: PathBuf,
    /// Outbound and inbound.
    sidecars: Option<[Process; 2]>,
    servers: Vec<Process>,
    _controls: Vec<Process>,
    _namespaces: Namespaces,
}

/// Processor time used so far, in seconds.
pub(super) struct Usage {
    pub(super) outbound: f64,
    pub(super) inbound: f64,
    pub(super) servers: f64,
}

#[derive(Deserialize)]
struct First {
    answered_at_ns: u64,
}

impl<'a> Deployed<'a> {
    /// Starts everything, and returns when a request has come through.
    ///
    /// # Errors
    /// When something cannot be started or no request comes through.
    pub(super) fn start(plane: &'a dyn Plane, setup: &'a Setup, logs: &Path) -> Result<Self> {
        let namespaces = Namespaces::create(plane.redirect())?;
        let log = |name: &str| logs.join(format!("{}-{name}.log", plane.name()));
        let server = Side::Server;
        let mut serve = Command::new(&setup.tool);
        serve.arg("serve");
        for port in [HTTP, OPAQUE_HTTP] {
            serve.args(["--http", &server.at(port).to_string()]);
        }
        serve.args(["--grpc", &server.at(GRPC).to_string()]);
        let mut iperf = Command::new("iperf3");
        iperf.args(["-s", "-B", &server.address().to_string()]);
        iperf.args(["-p", &IPERF.to_string()]);
        let servers = vec![
            Process::start(server, &mut serve, &log("servers"))?,
            Process::start(server, &mut iperf, &log("iperf3"))?,
        ];
        let mut controls = Vec::new();
        for side in SIDES {
            if let Some(mut command) = plane.control(side, setup) {
                let log = log(&format!("control-{}", side.name()));
                controls.push(Process::start(side, &mut command, &log)?);
            }
        }
        let mut deployed = Self {
            plane,
            setup,
            logs: logs.to_path_buf(),
            sidecars: None,
            servers,
            _controls: controls,
            _namespaces: namespaces,
        };
        if plane.redirect().is_some() {
            plane.prepare(setup)?;
            deployed.sidecars = Some([
                deployed.start_sidecar(Side::Client)?,
                deployed.start_sidecar(Side::Server)?,
            ]);
            deployed.wait_until_ready()?;
        }
        deployed.wait_for_answer()?;
        Ok(deployed)
    }

    /// What the sidecars and servers have used so far.
    ///
    /// # Errors
    /// When one of them is gone.
    pub(super) fn usage(&self) -> Result<Usage> {
        let (outbound, inbound) = match &self.sidecars {
            Some([outbound, inbound]) => (
                usage::process(outbound.id())?,
                usage::process(inbound.id())?,
            ),
            None => (0.0, 0.0),
        };
        let mut servers = 0.0;
        for server in &self.servers {
            servers += usage::process(server.id())?;
        }
        Ok(Usage {
            outbound,
            inbound,
            servers,
        })
    }

    /// Stops a sidecar and starts it again. Returns how long it took from its start to the first
    /// request that came through after the sidecar had said that it is ready: before, it may pass
    /// requests on in plaintext. The other one runs. Does nothing without sidecars.
    ///
    /// # Errors
    /// When it does not start or no request comes through.
    pub(super) fn restart(&mut self, side: Side) -> Result<Duration> {
        let Some(sidecars) = self.sidecars.take() else {
            return Ok(Duration::ZERO);
        };
        let [outbound, inbound] = sidecars;
        let (started, sidecars) = match side {
            Side::Client => {
                drop(outbound);
                let started = now();
                (started, [self.start_sidecar(side)?, inbound])
            }
            Side::Server => {
                drop(inbound);
                let started = now();
                (started, [outbound, self.start_sidecar(side)?])
            }
        };
        self.sidecars = Some(sidecars);
        self.wait_until_ready()?;
        Ok(self.wait_for_answer()?.saturating_sub(started))
    }

    /// What the sidecars themselves say of mutual TLS; empty without sidecars.
    ///
    /// # Errors
    /// When one does not answer.
    pub(super) fn evidence(&self) -> Result<Vec<String>> {
        if self.sidecars.is_none() {
            return Ok(Vec::new());
        }
        SIDES
            .into_iter()
            .map(|side| self.plane.evidence(side, self.setup))
            .collect()
    }

    /// Process ids of the outbound and the inbound sidecar.
    pub(super) fn sidecar_ids(&self) -> Option<[u32; 2]> {
        let [outbound, inbound] = self.sidecars.as_ref()?;
        Some([outbound.id(), inbound.id()])
    }

    /// A subcommand of `linkerd-bench`.
    pub(super) fn tool(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.setup.tool);
        command.arg(subcommand);
        command
    }

    fn start_sidecar(&self, side: Side) -> Result<Process> {
        let mut command = self.plane.sidecar(side, self.setup)?;
        command
            .uid(linkerd_names::PROXY_UID)
            .gid(linkerd_names::PROXY_UID);
        let log = self
            .logs
            .join(format!("{}-{}.log", self.plane.name(), side.name()));
        Process::start(side, &mut command, &log)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        for (side, sidecar) in SIDES.into_iter().zip(self.sidecars.iter_mut().flatten()) {
            while !self.plane.is_ready(side, self.setup)? {
                sidecar.check()?;
                if started.elapsed() > READY_TIMEOUT {
                    bail!("the sidecar of the {} is not ready", side.name());
                }
                std::thread::sleep(READY_PAUSE);
            }
        }
        Ok(())
    }

    /// Returns what the machine's clock showed when a request had come through.
    fn wait_for_answer(&self) -> Result<Duration> {
        let mut first = self.tool("first");
        first.arg(Side::Server.at(HTTP).to_string());
        let text = output(Side::Client, &mut first)?;
        let First { answered_at_ns } =
            serde_json::from_str(&text).context("linkerd-bench first")?;
        Ok(Duration::from_nanos(answered_at_ns))
    }
}

/// The machine's clock, as `linkerd-bench` reads it.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
