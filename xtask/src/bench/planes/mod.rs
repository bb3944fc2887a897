//! The data planes that are compared. Entry: [`Plane`], one implementation a file.

mod direct;
mod envoy;
mod ours;
mod script;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

pub(super) use self::direct::Direct;
pub(super) use self::envoy::Envoy;
pub(super) use self::ours::{CALLGRIND, Ours};
pub(super) use self::script::Script;
use super::namespaces::Redirect;
use super::side::{Side, within};

/// No answer of a sidecar's own endpoints takes longer.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What all planes are given.
pub(super) struct Setup {
    /// The program `linkerd-bench`.
    pub(super) tool: PathBuf,
    /// Files that the sidecars' user can read; it has what `linkerd-bench certificates` writes in `certs`.
    pub(super) folder: PathBuf,
}

impl Setup {
    /// A file of a side, as `linkerd-bench certificates` has written it.
    pub(super) fn certificate_file(&self, side: Side, file: &str) -> PathBuf {
        self.folder.join("certs").join(side.name()).join(file)
    }

    pub(super) fn trust_anchors(&self) -> PathBuf {
        self.folder.join("certs/ca.crt")
    }
}

/// A pair of sidecars, or none.
pub(super) trait Plane {
    /// How it is called in the table.
    fn name(&self) -> &str;

    /// What a reader of the table must know.
    fn note(&self) -> String;

    /// Where its sidecars listen; none when it has no sidecars.
    fn redirect(&self) -> Option<&Redirect>;

    /// The program whose size is told.
    fn program(&self) -> Option<&Path>;

    /// Writes what the sidecars read.
    fn prepare(&self, setup: &Setup) -> Result<()>;

    /// The control plane of a side, when it needs one.
    fn control(&self, side: Side, setup: &Setup) -> Option<Command>;

    /// The sidecar of a side. Its process must be the one that does the work.
    fn sidecar(&self, side: Side, setup: &Setup) -> Result<Command>;

    /// Whether the sidecar takes connections.
    fn is_ready(&self, side: Side, setup: &Setup) -> Result<bool>;

    /// What the sidecar itself says of mutual TLS.
    fn evidence(&self, side: Side, setup: &Setup) -> Result<String>;
}

/// Asks a sidecar's own HTTP server on loopback; none when it does not answer with 200.
fn ask_admin(side: Side, port: u16, path: &str) -> Result<Option<String>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    within(side, || {
        let exchange = || -> std::io::Result<Vec<u8>> {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let mut stream = TcpStream::connect_timeout(&address, ADMIN_TIMEOUT)?;
            stream.set_read_timeout(Some(ADMIN_TIMEOUT))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        // One that cannot be reached is not ready yet.
        let Ok(answer) = exchange() else {
            return Ok(None);
        };
        let answer = String::from_utf8(answer).context("an answer that is not text")?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
        Ok(body
            .filter(|_| answer.starts_with("HTTP/1.1 200"))
            .map(str::to_owned))
    })
}
