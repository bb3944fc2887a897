//! Copies the Ethernet frames from or to one IPv4 address, on any interface of this network namespace,
//! to stdout until stdin is closed: each after its length (four bytes, little-endian). A frame
//! without bytes says that it has begun.

use std::{
    io::{BufWriter, ErrorKind, Read as _, Write},
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
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
    let address = std::env::args().nth(1).context("usage: capture ADDRESS")?;
    let address: Ipv4Addr = address.parse().with_context(|| format!("{address:?}"))?;
    let protocol = Protocol::from(i32::from(EVERY_PROTOCOL));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))
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
                if concerns(frame, address) {
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

/// Whether the frame is IPv4 from or to the address.
fn concerns(frame: &[u8], address: Ipv4Addr) -> bool {
    let octets = address.octets();
    frame.get(12..14) == Some(&[8, 0])
        && (frame.get(26..30) == Some(&octets) || frame.get(30..34) == Some(&octets))
}

fn write_frame(output: &mut impl Write, frame: &[u8]) -> Result<()> {
    output.write_all(&u32::try_from(frame.len())?.to_le_bytes())?;
    output.write_all(frame)?;
    Ok(())
}
