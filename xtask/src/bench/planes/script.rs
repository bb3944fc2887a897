//! Any other data plane: a script says how to run it. Its first argument is an action, the second,
//! where there is one, `client` or `server`; `docs/performance.md` lists them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::{Plane, Setup};
use crate::bench::comparison::identity;
use crate::bench::namespaces::Redirect;
use crate::bench::side::{Side, output, within};
use crate::command;

pub(in crate::bench) struct Script {
    name: String,
    path: PathBuf,
    redirect: Option<Redirect>,
    program: Option<PathBuf>,
    note: String,
}

impl Script {
    /// Asks the script for its `vars`.
    ///
    /// # Errors
    /// When it fails, or a port is not a number.
    pub(in crate::bench) fn new(name: &str, path: &Path) -> Result<Self> {
        let path = path
            .canonicalize()
            .with_context(|| format!("there is no {}", path.display()))?;
        let text = command::output(Command::new(&path).arg("vars"))?;
        let vars: HashMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        let port = |name: &str| -> Result<u16> {
            let text = vars.get(name).with_context(|| format!("no {name}"))?;
            text.parse().with_context(|| format!("{name}={text}"))
        };
        let redirect = if vars.contains_key("OUT_PORT") {
            let exempt = vars.get("IN_EXEMPT").copied().unwrap_or_default();
            let exempt = exempt.split(',').filter(|port| !port.is_empty());
            Some(Redirect {
                outbound: port("OUT_PORT")?,
                inbound: port("IN_PORT")?,
                inbound_exempt: exempt
                    .map(|port| port.parse().context("IN_EXEMPT"))
                    .collect::<Result<_>>()?,
            })
        } else {
            None
        };
        Ok(Self {
            name: name.to_owned(),
            redirect,
            program: vars.get("BIN").map(PathBuf::from),
            note: vars.get("NOTE").copied().unwrap_or_default().to_owned(),
            path,
        })
    }

    fn action(&self, action: &str, setup: &Setup) -> Command {
        let mut command = Command::new(&self.path);
        command
            .arg(action)
            .env("DIR", &setup.folder)
            .env("LINKERD_BENCH", &setup.tool);
        for (side, suffix) in [(Side::Client, "C"), (Side::Server, "S")] {
            command.env(format!("IP_{suffix}"), side.address().to_string());
            command.env(format!("ID_{suffix}"), identity(side).as_str());
        }
        command
    }

    fn action_of(&self, action: &str, side: Side, setup: &Setup) -> Command {
        let mut command = self.action(action, setup);
        command.arg(side.name());
        command
    }
}

impl Plane for Script {
    fn name(&self) -> &str {
        &self.name
    }

    fn note(&self) -> String {
        self.note.clone()
    }

    fn redirect(&self) -> Option<&Redirect> {
        self.redirect.as_ref()
    }

    fn program(&self) -> Option<&Path> {
        self.program.as_deref()
    }

    fn prepare(&self, setup: &Setup) -> Result<()> {
        command::run(&mut self.action("prepare", setup))
    }

    fn control(&self, side: Side, setup: &Setup) -> Option<Command> {
        self.redirect.as_ref()?;
        Some(self.action_of("control", side, setup))
    }

    fn sidecar(&self, side: Side, setup: &Setup) -> Result<Command> {
        Ok(self.action_of("run", side, setup))
    }

    fn is_ready(&self, side: Side, setup: &Setup) -> Result<bool> {
        let mut command = self.action_of("ready", side, setup);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        within(side, || Ok(command.status()?.success()))
    }

    fn evidence(&self, side: Side, setup: &Setup) -> Result<String> {
        let text = output(side, &mut self.action_of("prove", side, setup))?;
        Ok(text.trim().to_owned())
    }
}
