//! Whether a plane encrypts: reads the packets between the namespaces while HTTP/1.1, opaque TCP
//! and gRPC go through. Entries: [`prove`], and [`watch`] with [`check`].

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::deployed::Deployed;
use super::ports::{GRPC, HTTP, OPAQUE_HTTP};
use super::side::{Side, output, spawn};

/// What was on the wire: numbers of packets with payload.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Wire {
    packets: u64,
    /// With the text that is in every body.
    with_marker: u64,
    with_http_text: u64,
    client_hellos: u64,
    tls_records: u64,
    /// Cipher suites that servers chose.
    cipher_suites: BTreeMap<String, u64>,
}

/// What is known of a plane's encryption.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Proof {
    plane: String,
    note: String,
    wire: Wire,
    /// What the sidecars themselves say, outbound and inbound.
    evidence: Vec<String>,
}

impl Proof {
    /// What the plane is, and what was on the wire, as a line of a Markdown list.
    pub(super) fn line(&self) -> String {
        let Wire {
            packets,
            with_marker,
            with_http_text,
            client_hellos,
            tls_records,
            cipher_suites,
        } = &self.wire;
        let suites: Vec<&str> = cipher_suites.keys().map(String::as_str).collect();
        let suites = if suites.is_empty() {
            "no cipher suite".to_owned()
        } else {
            suites.join(", ")
        };
        format!(
            "- {}: {}. On the wire: {packets} packets with payload, {with_marker} with the body's \
             text, {with_http_text} with HTTP's, {client_hellos} ClientHello, {tls_records} that \
             begin with a TLS record, {suites}.",
            self.plane, self.note
        )
    }
}

/// Makes requests of every kind and looks at the wire. The outbound sidecar is started anew, so that
/// its handshakes are seen.
///
/// # Errors
/// When a plane with sidecars shows plaintext or no handshake.
pub(super) fn prove(deployed: &mut Deployed) -> Result<Proof> {
    let plane = deployed.plane.name().to_owned();
    let wire = watch(deployed, |deployed| {
        deployed.restart(Side::Client)?;
        for (subcommand, port, more) in [
            ("rate", HTTP, ["--rate", "50"]),
            ("connections", OPAQUE_HTTP, ["--clients", "1"]),
            ("ping", GRPC, ["--streams", "1"]),
        ] {
            let mut load = deployed.tool(subcommand);
            load.arg(Side::Server.at(port).to_string()).args(more);
            output(Side::Client, load.args(["--seconds", "0.3"]))?;
        }
        Ok(())
    })?;
    let evidence = deployed.evidence()?;
    if deployed.plane.redirect().is_some() {
        check(&wire).with_context(|| format!("{plane} is not encrypted"))?;
    }
    Ok(Proof {
        plane,
        note: deployed.plane.note(),
        wire,
        evidence,
    })
}

/// Looks at the wire while `work` is done.
///
/// # Errors
/// When packets cannot be read, and those of `work`.
pub(super) fn watch(
    deployed: &mut Deployed,
    work: impl FnOnce(&mut Deployed) -> Result<()>,
) -> Result<Wire> {
    let mut eyes: Command = deployed.tool("wire");
    eyes.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut eyes = spawn(Side::Server, &mut eyes)?;
    let mut lines = BufReader::new(eyes.stdout.take().expect("stdout is piped")).lines();
    ensure!(
        lines.next().transpose()?.as_deref() == Some("ready"),
        "the wire cannot be read"
    );
    let worked = work(deployed);
    drop(eyes.stdin.take());
    let seen = lines.next().transpose()?;
    let status = eyes.wait()?;
    worked?;
    let seen = seen.with_context(|| format!("linkerd-bench wire ended with {status}"))?;
    serde_json::from_str(&seen).with_context(|| format!("linkerd-bench wire printed {seen}"))
}

/// # Errors
/// When there is plaintext on the wire, or no handshake.
pub(super) fn check(wire: &Wire) -> Result<()> {
    if wire.with_marker > 0 || wire.with_http_text > 0 {
        bail!("there is plaintext on the wire: {wire:?}");
    }
    if wire.client_hellos == 0 || wire.tls_records == 0 {
        bail!("there is no handshake on the wire: {wire:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encrypted() -> Wire {
        Wire {
            packets: 9,
            with_marker: 0,
            with_http_text: 0,
            client_hellos: 1,
            tls_records: 5,
            cipher_suites: BTreeMap::new(),
        }
    }

    #[test]
    fn one_packet_in_plaintext_refuses_a_plane() {
        assert!(check(&encrypted()).is_ok());
        for wire in [
            Wire {
                with_marker: 1,
                ..encrypted()
            },
            Wire {
                with_http_text: 1,
                ..encrypted()
            },
            Wire {
                client_hellos: 0,
                ..encrypted()
            },
        ] {
            assert!(check(&wire).is_err(), "{wire:?}");
        }
    }
}
