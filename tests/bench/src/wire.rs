//! What can be seen on the wire between the namespaces: plaintext, handshakes, TLS records.
//! Reads every packet of this network namespace but those of loopback.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{MARKER, answer};

/// Texts of HTTP that no TLS record contains but by chance.
const HTTP_TEXTS: [&[u8]; 3] = [b"GET / HTTP/1.1", b"HTTP/1.1 200", b"PRI * HTTP/2.0"];
/// Larger than any packet, also those that the kernel has joined.
const PACKET_BYTES_MAX: usize = 70_000;
/// Packets that wait for us.
const BUFFER_BYTES: usize = 8 << 20;
/// ETH_P_ALL.
const EVERY_PROTOCOL: u16 = 3;

static STOP: AtomicBool = AtomicBool::new(false);

#[derive(clap::Args)]
pub(crate) struct Args {}

/// Counts of packets with payload, and of what is in them.
#[derive(Default, Serialize)]
struct Seen {
    packets: u64,
    with_marker: u64,
    with_http_text: u64,
    client_hellos: u64,
    tls_records: u64,
    /// Cipher suites that servers chose.
    cipher_suites: BTreeMap<String, u64>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args {} = args;
    let protocol = Protocol::from(i32::from(EVERY_PROTOCOL.to_be()));
    let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))
        .context("cannot open a packet socket")?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    println!("ready");
    std::thread::spawn(|| {
        // Whether stdin ends or breaks: whoever started us has seen enough.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        STOP.store(true, Ordering::Relaxed);
    });
    let mut seen = Seen::default();
    let mut packet = vec![0; PACKET_BYTES_MAX];
    while !STOP.load(Ordering::Relaxed) {
        match socket.read(&mut packet) {
            Ok(length) => {
                if let Some(payload) = tcp_payload(&packet[..length]) {
                    seen.look_at(payload);
                }
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("cannot read packets"),
        }
    }
    answer(&seen)
}

/// The payload of an Ethernet frame with IPv4 and TCP; none when it has none or was on loopback.
fn tcp_payload(frame: &[u8]) -> Option<&[u8]> {
    let (ethernet, packet) = frame.split_at_checked(14)?;
    let on_loopback = ethernet[..12].iter().all(|byte| *byte == 0);
    let is_tcp = ethernet[12..] == [8, 0] && *packet.get(9)? == 6;
    if on_loopback || !is_tcp {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let segment = packet.get(usize::from(packet[0] & 15) * 4..length)?;
    let payload = segment.get(usize::from(segment.get(12)? >> 4) * 4..)?;
    (!payload.is_empty()).then_some(payload)
}

impl Seen {
    fn look_at(&mut self, payload: &[u8]) {
        let has = |text: &[u8]| payload.windows(text.len()).any(|window| window == text);
        self.packets += 1;
        self.with_marker += u64::from(has(MARKER.as_bytes()));
        self.with_http_text += u64::from(HTTP_TEXTS.iter().any(|text| has(text)));
        // Record type, version, length; then the type of the handshake message.
        match payload {
            [0x16, 3, _, _, _, 1, ..] => self.client_hellos += 1,
            [0x16, 3, _, _, _, 2, ..] => {
                let suite = cipher_suite(payload).unwrap_or_else(|| "unknown".to_owned());
                *self.cipher_suites.entry(suite).or_default() += 1;
            }
            [0x17, 3, 3, ..] => self.tls_records += 1,
            _ => {}
        }
    }
}

/// The cipher suite in a record that begins with a ServerHello.
fn cipher_suite(record: &[u8]) -> Option<String> {
    // Record header 5, message header 4, version 2, random 32; then the session id with its length.
    let session_length = usize::from(*record.get(43)?);
    let suite = record.get(44 + session_length..46 + session_length)?;
    Some(match suite {
        [0x13, 1] => "TLS13_AES_128_GCM_SHA256".to_owned(),
        [0x13, 2] => "TLS13_AES_256_GCM_SHA384".to_owned(),
        [0x13, 3] => "TLS13_CHACHA20_POLY1305_SHA256".to_owned(),
        other => format!("{other:02x?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0]);
        let mut ip = vec![0x45, 0];
        ip.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
        ip.extend([0, 0, 0, 0, 64, 6]);
        ip.resize(20, 0);
        let mut tcp = vec![0; 20];
        tcp[12] = 5 << 4;
        frame.extend(ip);
        frame.extend(tcp);
        frame.extend(payload);
        frame
    }

    #[test]
    fn the_payload_ends_where_the_ip_packet_says() {
        let mut padded = frame(b"abc");
        padded.extend([0; 7]);
        assert_eq!(tcp_payload(&padded), Some(&b"abc"[..]));
        assert_eq!(tcp_payload(&frame(b"")), None);
        assert_eq!(tcp_payload(&padded[..10]), None);
    }

    #[test]
    fn loopback_is_not_the_wire() {
        let mut looped = frame(b"abc");
        looped[..12].fill(0);
        assert_eq!(tcp_payload(&looped), None);
    }

    #[test]
    fn plaintext_and_handshakes_are_seen() {
        let mut server_hello = vec![0x16, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3];
        server_hello.extend([7; 32]);
        server_hello.push(32);
        server_hello.extend([8; 32]);
        server_hello.extend([0x13, 1, 0]);
        let mut seen = Seen::default();
        seen.look_at(format!("HTTP/1.1 200 OK\r\n\r\n{MARKER}").as_bytes());
        seen.look_at(&[0x16, 3, 1, 0, 200, 1]);
        seen.look_at(&server_hello);
        seen.look_at(&[0x17, 3, 3, 0, 1]);
        assert_eq!(
            (seen.packets, seen.with_marker, seen.with_http_text),
            (4, 1, 1)
        );
        assert_eq!((seen.client_hellos, seen.tls_records), (1, 1));
        assert_eq!(seen.cipher_suites["TLS13_AES_128_GCM_SHA256"], 1);
    }
}
