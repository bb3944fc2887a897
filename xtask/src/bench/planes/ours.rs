//! `linkerd-proxy` of this workspace, with a destination service that knows the server's pod.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use linkerd_names::{env, ports};

use super::{Plane, Setup, ask_admin};
use crate::bench::comparison::{NAMESPACE, identity};
use crate::bench::namespaces::Redirect;
use crate::bench::ports as bench_ports;
use crate::bench::side::Side;

/// Where callgrind writes, in the folder of the run.
pub(in crate::bench) const CALLGRIND: &str = "callgrind";

pub(in crate::bench) struct Ours {
    program: PathBuf,
    redirect: Redirect,
    instructions: Instructions,
}

/// Whether instructions are counted, which makes a program some fifty times slower.
#[derive(Clone, Copy)]
enum Instructions {
    NotCounted,
    Counted,
}

impl Ours {
    pub(in crate::bench) fn new(program: PathBuf) -> Self {
        Self {
            instructions: Instructions::NotCounted,
            program,
            redirect: Redirect {
                outbound: ports::PROXY_OUTBOUND,
                inbound: ports::PROXY_INBOUND,
                inbound_exempt: Vec::new(),
            },
        }
    }

    /// Our proxy in callgrind.
    pub(in crate::bench) fn counted(program: PathBuf) -> Self {
        Self {
            instructions: Instructions::Counted,
            ..Self::new(program)
        }
    }
}

impl Plane for Ours {
    fn name(&self) -> &str {
        "ours"
    }

    fn note(&self) -> String {
        "linkerd-proxy of this workspace, default settings, 1 worker".to_owned()
    }

    fn redirect(&self) -> Option<&Redirect> {
        Some(&self.redirect)
    }

    fn program(&self) -> Option<&Path> {
        Some(&self.program)
    }

    fn prepare(&self, _: &Setup) -> Result<()> {
        Ok(())
    }

    fn control(&self, _: Side, setup: &Setup) -> Option<Command> {
        let mut command = Command::new(&setup.tool);
        command.arg("destination").arg(control_address());
        command.args(["--pod", &Side::Server.address().to_string()]);
        command.args(["--identity", identity(Side::Server).as_str()]);
        Some(command)
    }

    fn sidecar(&self, side: Side, setup: &Setup) -> Result<Command> {
        let opaque = bench_ports::OPAQUE.map(|port| port.to_string()).join(",");
        let mut command = match self.instructions {
            Instructions::NotCounted => Command::new(&self.program),
            Instructions::Counted => {
                let out = setup.folder.join(CALLGRIND).join(side.name());
                let mut valgrind = Command::new("valgrind");
                valgrind.arg("--tool=callgrind");
                valgrind.arg(format!("--callgrind-out-file={}.out", out.display()));
                valgrind.arg(&self.program);
                valgrind
            }
        };
        command.env_clear().envs([
            (env::LOG, "error"),
            (env::CORES, "1"),
            (env::POD_NAMESPACE, NAMESPACE),
            (env::POD_NAME, side.name()),
            (env::CONTROL_URL, &format!("tcp://{}", control_address())),
            (env::TLS_POD_IDENTITY, identity(side).as_str()),
            (env::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION, &opaque),
            (env::OUTBOUND_PORTS_DISABLE_PROTOCOL_DETECTION, &opaque),
        ]);
        command.envs([
            (env::TLS_TRUST_ANCHORS, setup.trust_anchors()),
            (env::TLS_CERT, setup.certificate_file(side, "tls.der")),
            (env::TLS_PRIVATE_KEY, setup.certificate_file(side, "key.p8")),
        ]);
        Ok(command)
    }

    fn is_ready(&self, side: Side, _: &Setup) -> Result<bool> {
        Ok(ask_admin(side, ports::PROXY_METRICS, "/ready")?.is_some())
    }

    fn evidence(&self, side: Side, _: &Setup) -> Result<String> {
        let metrics = ask_admin(side, ports::PROXY_METRICS, "/metrics")?;
        let metrics = metrics.context("/metrics does not answer")?;
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("tcp_open_total{") && line.contains("tls=\""));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }
}

fn control_address() -> String {
    format!("127.0.0.1:{}", ports::DESTINATION)
}
