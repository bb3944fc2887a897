//! A mesh connection after its handshake. Entry: [`TlsStream`].
//! Drives the session itself: ciphertext is read 256 KiB at a time into the thread's buffer, where
//! the session alone would ask the kernel for 4 KiB, and an idle connection owns no buffer.

use std::{
    io::{self, BufRead, IoSlice, Read, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use rustls::Connection as Session;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tracing::debug;

use crate::scratch;

/// Ciphertext that waits for the kernel to take it.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// At least so much is read at once, however little the reader has room for.
const RECEIVE_BYTES_MIN: usize = 4 * 1024;

/// An encrypted connection.
pub(crate) struct TlsStream {
    tcp: TcpStream,
    session: Session,
    /// Ciphertext for which the reader had no room yet.
    ahead: BytesMut,
    said_goodbye: bool,
}

/// What a look at the peer's bytes has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Some; `full` when the kernel may hold more.
    Some { full: bool },
    /// The peer has ended the stream properly.
    End,
}

impl TlsStream {
    /// Takes over after the handshake; `ahead` is ciphertext that was read beyond it.
    pub(crate) fn new(tcp: TcpStream, session: impl Into<Session>, ahead: BytesMut) -> Self {
        let mut session = session.into();
        session.set_buffer_limit(Some(SEND_BYTES_MAX));
        Self {
            tcp,
            session,
            ahead,
            said_goodbye: false,
        }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// For whoever queues whole batches by [`Self::queue`] and bounds them itself.
    pub(crate) fn without_send_limit(mut self) -> Self {
        self.session.set_buffer_limit(None);
        self
    }

    /// Encrypts all of `plaintext`, to be sent by [`Self::poll_send`].
    pub(crate) fn queue(&mut self, plaintext: &[u8]) -> io::Result<()> {
        self.session.writer().write_all(plaintext)
    }

    /// Whether there is ciphertext that the kernel has not taken.
    pub(crate) fn wants_send(&self) -> bool {
        self.session.wants_write()
    }

    /// Hands ciphertext to the kernel until none is left.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut socket = Sending {
                tcp: Pin::new(&mut self.tcp),
                cx,
            };
            match self.session.write_tls(&mut socket) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and gives what it decrypts to `take`, which must not use the thread's buffer.
    ///
    /// # Errors
    /// The kernel's, TLS's, `take`'s, and `UnexpectedEof` when the peer ended without saying so.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Poll<io::Result<Received>> {
        let received = ready!(self.poll_receive_once(cx, &mut take));
        if received.is_err() {
            self.tell(cx);
        }
        Poll::Ready(received)
    }

    /// Appends what comes to `buffer`; nothing at the end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        let before = buffer.len();
        loop {
            let received = ready!(self.poll_receive(cx, |bytes| {
                buffer.extend_from_slice(bytes);
                Ok(())
            }))?;
            // Answers of TLS itself; what the kernel does not take now goes with the next write.
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            if received == Received::End || buffer.len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// After a fault of the peer: the alert goes out as far as the kernel takes it at once.
    fn tell(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            debug!(%error, "the peer of a broken connection was not told");
        }
    }

    fn poll_receive_once(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Poll<io::Result<Received>> {
        // Plaintext and ciphertext that the handshake has left.
        if !drain(&mut self.session, take)? {
            return Poll::Ready(Ok(Received::End));
        }
        if !self.ahead.is_empty() {
            let ahead = std::mem::take(&mut self.ahead);
            decrypt(&mut self.session, &ahead, take)?;
            return Poll::Ready(Ok(Received::Some { full: true }));
        }
        scratch::with(|scratch| {
            let size = scratch.len();
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))?;
            let ciphertext = read.filled();
            let full = ciphertext.len() == size;
            if decrypt(&mut self.session, ciphertext, take)? {
                Poll::Ready(Ok(Received::Some { full }))
            } else {
                Poll::Ready(Ok(Received::End))
            }
        })
    }
}

/// Takes all plaintext that is there. False at the end of the stream.
fn drain(
    session: &mut Session,
    take: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    loop {
        let mut reader = session.reader();
        let taken = match reader.fill_buf() {
            Ok([]) => return Ok(false),
            Ok(chunk) => {
                take(chunk)?;
                chunk.len()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        reader.consume(taken);
    }
}

/// Decrypts `ciphertext`, none of which means its end. False at the end of the stream.
fn decrypt(
    session: &mut Session,
    mut ciphertext: &[u8],
    take: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    loop {
        session.read_tls(&mut ciphertext)?;
        session.process_new_packets().map_err(invalid)?;
        if !drain(session, take)? {
            return Ok(false);
        }
        if ciphertext.is_empty() {
            return Ok(true);
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match this.session.reader().read(buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            if this.ahead.is_empty() {
                ready!(this.poll_read_ahead(cx, buf.remaining()))?;
            } else {
                let mut ciphertext = &this.ahead[..];
                let n = this.session.read_tls(&mut ciphertext)?;
                this.ahead.advance(n);
                if this.ahead.is_empty() {
                    this.ahead = BytesMut::new();
                }
            }
            if let Err(error) = this.session.process_new_packets() {
                this.tell(cx);
                return Poll::Ready(Err(invalid(error)));
            }
            if this.session.wants_write() {
                // An answer of TLS itself, such as a new key. What the kernel does not take now goes
                // with the next write.
                if let Poll::Ready(Err(error)) = this.poll_send(cx) {
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl TlsStream {
    /// Reads about as much as the reader has room for; what the session does not take is kept.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<()>> {
        scratch::with(|scratch| {
            let size = room.max(RECEIVE_BYTES_MIN).min(scratch.len());
            let mut read = ReadBuf::new(&mut scratch[..size]);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))?;
            let mut ciphertext = read.filled();
            self.session.read_tls(&mut ciphertext)?;
            self.ahead.extend_from_slice(ciphertext);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        let n = this.session.writer().write_vectored(bufs)?;
        if let Poll::Ready(Err(error)) = this.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.said_goodbye {
            this.session.send_close_notify();
            this.said_goodbye = true;
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

/// The socket as the session writes to it.
struct Sending<'a, 'b> {
    tcp: Pin<&'a mut TcpStream>,
    cx: &'a mut Context<'b>,
}

impl Write for Sending<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.tcp.as_mut().poll_write_vectored(self.cx, bufs) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
