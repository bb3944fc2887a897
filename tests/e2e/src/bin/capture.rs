//! Copies the Ethernet frames of one interface to stdout until stdin is closed, each after its
//! length (four bytes, little-endian). A frame without bytes says that it has begun.

use std::{
    io::{BufWriter, ErrorKind, Read as _, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

/// `ETH_P_ALL` in network byte order: frames of every protocol.
const EVERY_PROTOCOL: u16 = 3_u16.to_be();
/// Larger than any frame, also than those that are split by the network card only.
const FRAME_BYTES_MAX: usize = 1 << 18;
/// Room for bursts between two reads.
const RECEIVE_BUFFER_BYTES: usize = 32 << 20;
/// How soon the end of stdin is noticed when nothing passes.
const READ_TIMEOUT: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let interface = std::env::args()
        .nth(1)
        .context("usage: capture INTERFACE")?;
    let address = hardware_address(&interface)?;
    let socket = Socket::new(
        Domain::PACKET,
        Type::RAW,
        Some(Protocol::from(i32::from(EVERY_PROTOCOL))),
    )
    .context("cannot open a packet socket")?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.set_read_timeout(Some(READ_TIMEOUT))?;
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    thread::spawn(move || {
        // Any end of stdin is the end.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        stop.store(true, Ordering::Relaxed);
    });
    let mut output = BufWriter::new(std::io::stdout().lock());
    write_frame(&mut output, &[])?;
    output.flush()?;
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    while !stopped.load(Ordering::Relaxed) {
        match (&socket).read(&mut buffer) {
            Ok(length) => {
                let frame = &buffer[..length];
                // The socket sees all interfaces; of this one, one address is the interface's own.
                if frame.get(..6) == Some(&address) || frame.get(6..12) == Some(&address) {
                    write_frame(&mut output, frame)?;
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error).context("cannot read frames"),
        }
    }
    output.flush()?;
    Ok(())
}

fn write_frame(output: &mut impl Write, frame: &[u8]) -> Result<()> {
    output.write_all(&u32::try_from(frame.len())?.to_le_bytes())?;
    output.write_all(frame)?;
    Ok(())
}

/// The interface's own address in this network namespace.
fn hardware_address(interface: &str) -> Result<[u8; 6]> {
    let path = format!("/sys/class/net/{interface}/address");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let bytes = text
        .trim()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16));
    let bytes = bytes
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{path}: {text}"))?;
    ensure!(bytes.len() == 6, "{path}: {text}");
    let mut address = [0; 6];
    address.copy_from_slice(&bytes);
    Ok(address)
}
