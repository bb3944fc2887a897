//! No data plane: the client talks to the server.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::{Plane, Setup};
use crate::bench::namespaces::Redirect;
use crate::bench::side::Side;

pub(in crate::bench) struct Direct;

impl Plane for Direct {
    fn name(&self) -> &str {
        "direct"
    }

    fn note(&self) -> String {
        "the client talks to the server, without encryption".to_owned()
    }

    fn redirect(&self) -> Option<&Redirect> {
        None
    }

    fn program(&self) -> Option<&Path> {
        None
    }

    fn prepare(&self, _: &Setup) -> Result<()> {
        Ok(())
    }

    fn control(&self, _: Side, _: &Setup) -> Option<Command> {
        None
    }

    fn sidecar(&self, _: Side, _: &Setup) -> Result<Command> {
        bail!("there is no sidecar")
    }

    fn is_ready(&self, _: Side, _: &Setup) -> Result<bool> {
        Ok(true)
    }

    fn evidence(&self, _: Side, _: &Setup) -> Result<String> {
        Ok(String::new())
    }
}
