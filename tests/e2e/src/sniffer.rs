//! Reads what passes between the nodes of a local cluster, whose links meet on a bridge of this
//! machine: of a pod's traffic it carries just what leaves or enters the pod's node.
//! Entry: [`Sniffer::start`]; the frames are captured by the binary `capture` of this package.

use std::{
    io::Read,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, ensure};

use crate::Streams;

/// Most that is kept of one capture.
const BYTES_MAX: usize = 512 << 20;

/// A running capture.
#[derive(Debug)]
pub struct Sniffer {
    capture: Child,
    reader: JoinHandle<Result<Vec<Vec<u8>>>>,
}

impl Sniffer {
    /// Captures what leaves or enters the node of the pod with this address. `capture` is the path of
    /// the binary of that name. Returns when it is running.
    ///
    /// # Errors
    /// When it cannot be started; it needs to be root.
    pub fn start(capture: &str, pod: Ipv4Addr) -> Result<Self> {
        let mut capture = Command::new(capture)
            .arg(pod.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {capture}"))?;
        let mut stdout = capture.stdout.take().context("capture has no stdout")?;
        let started = read_frame(&mut stdout).context("capture did not start")?;
        ensure!(
            started.is_some_and(|frame| frame.is_empty()),
            "capture did not start"
        );
        let reader = thread::spawn(move || {
            let mut frames = Vec::new();
            let mut bytes = 0;
            while let Some(frame) = read_frame(&mut stdout)? {
                bytes += frame.len();
                ensure!(bytes <= BYTES_MAX, "more than {BYTES_MAX} bytes passed");
                frames.push(frame);
            }
            Ok(frames)
        });
        Ok(Self { capture, reader })
    }

    /// Ends the capture and returns the TCP streams in it.
    ///
    /// # Errors
    /// When the capture broke off.
    pub fn finish(self) -> Result<Streams> {
        let Self {
            mut capture,
            reader,
        } = self;
        drop(capture.stdin.take());
        let status = capture.wait()?;
        let frames = reader
            .join()
            .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        ensure!(status.success(), "capture ended with {status}");
        Ok(Streams::of(frames.iter().map(Vec::as_slice)))
    }
}

/// Reads a length of four bytes and as many bytes; none at the end.
fn read_frame(stdout: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stdout.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut frame = vec![0; usize::try_from(u32::from_le_bytes(length))?];
    stdout.read_exact(&mut frame)?;
    Ok(Some(frame))
}
