//! One connection of the proxy: TCP or TLS, with the bytes that detection has read put back in front.
//! Counts bytes and, when dropped, how it ended. Entry: [`Socket`].

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tracing::debug;

use crate::{
    metrics::{Close, TcpSeries},
    mux, scratch,
    tls::stream::TlsStream,
};

/// The rest of a connection's life. Boxed for itself, so that a connection that is idle for long does
/// not keep room for how it began.
pub(crate) type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What carries the bytes.
pub(crate) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
    /// A stream of a connection that others use too.
    Shared(mux::Stream),
}

/// A connection.
pub(crate) struct Socket {
    transport: Transport,
    /// Read, but not yet taken by a reader.
    replay: BytesMut,
    meter: Option<Meter>,
    /// Set whenever something is read.
    heard: Option<Arc<AtomicBool>>,
}

/// What is broken where bytes of one connection pass to another.
pub(crate) enum PassError {
    /// Where they come from.
    Read(io::Error),
    /// Where they go.
    Write(io::Error),
}

/// Counts one connection: its bytes and, when dropped, how it has ended.
pub(crate) struct Meter {
    series: Arc<TcpSeries>,
    opened: Instant,
    close: Close,
    /// The end is counted.
    ended: AtomicBool,
}

impl Meter {
    pub(crate) fn new(series: Arc<TcpSeries>, opened: Instant) -> Self {
        series.opened();
        Self {
            series,
            opened,
            close: Close::Clean,
            ended: AtomicBool::new(false),
        }
    }

    pub(crate) fn read(&self, bytes: usize) {
        self.series.read_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn wrote(&self, bytes: usize) {
        self.series.written_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// The connection has ended, whoever may still hold this.
    pub(crate) fn end(&self, close: Close) {
        if !self.ended.swap(true, Relaxed) {
            self.series.closed(close, self.opened.elapsed());
        }
    }
}

impl From<&io::Error> for Close {
    fn from(error: &io::Error) -> Self {
        Self::Error(error.raw_os_error().unwrap_or(0))
    }
}

impl Socket {
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            transport,
            replay: BytesMut::new(),
            meter: None,
            heard: None,
        }
    }

    /// Counts this connection in `series` from now on, what detection has read included.
    pub(crate) fn metered(mut self, series: Arc<TcpSeries>, opened: Instant) -> Self {
        let meter = Meter::new(series, opened);
        meter.read(self.replay.len());
        self.meter = Some(meter);
        self
    }

    /// What is set from now on whenever something is read.
    pub(crate) fn heard(&mut self) -> Arc<AtomicBool> {
        self.heard.get_or_insert_default().clone()
    }

    /// Since when it is open; none before it is counted.
    pub(crate) fn opened(&self) -> Option<Instant> {
        self.meter.as_ref().map(|meter| meter.opened)
    }

    /// What was read and not yet taken.
    pub(crate) fn seen(&self) -> &[u8] {
        &self.replay
    }

    /// Takes the first `n` bytes of [`Self::seen`].
    pub(crate) fn consume(&mut self, n: usize) {
        self.replay.advance(n);
    }

    /// Frees the memory of what was read, when all of it was taken.
    pub(crate) fn rest(&mut self) {
        if self.replay.is_empty() {
            self.replay = BytesMut::new();
        }
    }

    /// Reads more behind [`Self::seen`]. Returns the number of bytes, 0 at the end. Cancel-safe.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// As [`Self::fill`]. Owns no memory while nothing comes.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = self.replay.len();
        let result = ready!(match &mut self.transport {
            Transport::Tcp(stream) => scratch::with(|scratch| {
                let mut read = ReadBuf::new(scratch);
                let result = ready!(Pin::new(stream).poll_read(cx, &mut read));
                self.replay.extend_from_slice(read.filled());
                Poll::Ready(result)
            }),
            Transport::Tls(stream) => stream.poll_fill(cx, &mut self.replay),
            Transport::Shared(stream) => stream.poll_fill(cx, &mut self.replay),
        });
        let n = self.replay.len() - before;
        match &result {
            Ok(()) => self.count_read(n),
            Err(error) => Self::note(&mut self.meter, error),
        }
        Poll::Ready(result.map(|()| n))
    }

    fn count_read(&self, n: usize) {
        if let Some(meter) = &self.meter {
            meter.read(n);
        }
    }

    /// Passes what comes on to `to`. Returns the number of bytes that have come, 0 at the end.
    ///
    /// # Errors
    /// Which of the two is broken, and how.
    pub(crate) fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Self,
    ) -> Poll<Result<usize, PassError>> {
        let Transport::Tcp(stream) = &mut self.transport else {
            return self.poll_fill(cx).map_err(PassError::Read);
        };
        let passed = ready!(scratch::with(|scratch| {
            let mut read = ReadBuf::new(scratch);
            if let Err(error) = ready!(Pin::new(stream).poll_read(cx, &mut read)) {
                Self::note(&mut self.meter, &error);
                return Poll::Ready(Err(PassError::Read(error)));
            }
            let bytes = read.filled();
            let mut written = 0;
            while written < bytes.len() {
                match Pin::new(&mut *to).poll_write(cx, &bytes[written..]) {
                    Poll::Ready(result) => written += result.map_err(PassError::Write)?,
                    // The kernel will say when there is room; until then these wait here.
                    Poll::Pending => break,
                }
            }
            self.replay.extend_from_slice(&bytes[written..]);
            Poll::Ready(Ok(bytes.len()))
        }))?;
        self.count_read(passed);
        Poll::Ready(Ok(passed))
    }

    /// Asks the kernel whether nothing has come, not even the end.
    pub(crate) fn is_silent(&self) -> bool {
        let Some(tcp) = self.tcp() else {
            return true;
        };
        let peeked = SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Takes a plain connection apart, for a handshake on it.
    ///
    /// # Panics
    /// When it is TLS already, or counted already.
    pub(crate) fn into_replay(self) -> Replay {
        assert!(
            self.meter.is_none(),
            "a connection is counted once its TLS is known"
        );
        match self.transport {
            Transport::Tcp(stream) => Replay {
                seen: self.replay,
                stream,
            },
            _ => panic!("TLS is accepted on plain connections only"),
        }
    }

    /// The stream of a connection that others use too, before anything was read of it; else itself.
    pub(crate) fn into_stream(self) -> Result<mux::Stream, Self> {
        match self.transport {
            Transport::Shared(stream) => Ok(stream),
            transport => Err(Self { transport, ..self }),
        }
    }

    /// The TCP connection below; none when others use it too.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match &self.transport {
            Transport::Tcp(stream) => Some(stream),
            Transport::Tls(stream) => Some(stream.tcp()),
            Transport::Shared(_) => None,
        }
    }

    /// The other end; none when the connection is broken already.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        let address = match &self.transport {
            Transport::Shared(stream) => stream.peer()?,
            Transport::Tcp(stream) => stream.peer_addr().ok()?,
            Transport::Tls(stream) => stream.tcp().peer_addr().ok()?,
        };
        Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// Makes the end of this connection one that its peer cannot take for the end of a whole stream,
    /// as the end of one that others use too always is.
    pub(crate) fn reset_when_dropped(&self) {
        if let Some(Err(error)) = self.tcp().map(TcpStream::set_zero_linger) {
            debug!(%error, "a connection cannot be reset");
        }
    }

    /// Ends a connection on which nothing is under way, before it is dropped: a proxy of ours would take the end of a
    /// stream that nobody has announced for a break.
    pub(crate) fn leave(&self) {
        if let Transport::Shared(stream) = &self.transport {
            stream.end();
        }
    }

    /// As [`Self::reset_when_dropped`], because nobody is there to whom this connection could lead; a proxy of ours
    /// hears that it is so.
    pub(crate) fn lead_nowhere(&self) {
        match &self.transport {
            Transport::Shared(stream) => stream.refuse(),
            Transport::Tcp(_) | Transport::Tls(_) => self.reset_when_dropped(),
        }
    }

    /// Tells a proxy of ours at the other end, where there is one, that what it has said since the last answer was not
    /// looked at. Nobody else can be told.
    pub(crate) fn refuse(&self) {
        if let Transport::Shared(stream) = &self.transport {
            stream.refuse();
        }
    }

    /// Whether the other end has said [`Self::refuse`].
    pub(crate) fn was_refused(&self) -> bool {
        match &self.transport {
            Transport::Shared(stream) => stream
                .was_reset()
                .is_some_and(|reset| reset.reason == mux::Reason::Refused),
            _ => false,
        }
    }

    fn note(meter: &mut Option<Meter>, error: &io::Error) {
        if let Some(meter) = meter {
            meter.close = error.into();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.end(self.close);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if take_seen(&mut this.replay, buf) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = ready!(match &mut this.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Shared(stream) => Pin::new(stream).poll_read(cx, buf),
        });
        match &result {
            Ok(()) => {
                let n = buf.filled().len() - before;
                this.count_read(n);
                if let (Some(heard), 1..) = (&this.heard, n) {
                    heard.store(true, Relaxed);
                }
            }
            Err(error) => Self::note(&mut this.meter, error),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = ready!(match &mut this.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Shared(stream) => Pin::new(stream).poll_write(cx, buf),
        });
        this.wrote(&result);
        Poll::Ready(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = ready!(match &mut this.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Shared(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        });
        this.wrote(&result);
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
            Transport::Shared(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Shared(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Shared(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Socket {
    fn wrote(&mut self, result: &io::Result<usize>) {
        match result {
            Ok(n) => {
                if let Some(meter) = &self.meter {
                    meter.series.written_bytes.fetch_add(*n as u64, Relaxed);
                }
            }
            Err(error) => Self::note(&mut self.meter, error),
        }
    }
}

/// A TCP connection below TLS, with the ClientHello that was peeked put back.
pub(crate) struct Replay {
    seen: BytesMut,
    stream: TcpStream,
}

impl Replay {
    /// The connection, and what was not taken of the bytes put back.
    pub(crate) fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.stream, self.seen)
    }
}

impl AsyncRead for Replay {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if take_seen(&mut this.seen, buf) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Replay {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Moves what fits from `seen` to `buf`; false when there was nothing. Frees `seen` when it is empty.
fn take_seen(seen: &mut BytesMut, buf: &mut ReadBuf<'_>) -> bool {
    if seen.is_empty() {
        return false;
    }
    let n = seen.len().min(buf.remaining());
    buf.put_slice(&seen[..n]);
    seen.advance(n);
    if seen.is_empty() {
        *seen = BytesMut::new();
    }
    true
}
