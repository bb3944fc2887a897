//! Moves the frames of one multiplexed connection. Entry: [`Driver::run`].

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::AsyncWrite,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tracing::debug;

use super::{
    frame::{Event, Kind, Parser, Reset, invalid},
    hub::{Hub, Idle},
    stream::Stream,
};
use crate::{
    metrics::Close,
    tls::{
        Verdict,
        stream::{Received, TlsStream},
    },
};

/// A peer that is silent for so long while streams are open, or something waits to be sent, is asked whether
/// it is there, and has as long to answer.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// So long a peer may take to hear that a connection has ended: the kernel drops what it has not delivered when
/// more comes for a socket that is gone.
const GOODBYE: Duration = Duration::from_secs(5);

/// What one end of a connection does with the peer's wishes.
pub(super) trait Side {
    /// The peer has begun a stream. False when it may not.
    fn opened(&mut self, stream: Stream, verdict: Verdict) -> bool;
    /// Streams that the peer may have open.
    fn streams_max(&self) -> usize;
    /// Whether a connection without streams is to end.
    fn is_done(&self, idle: &Idle) -> bool;
}

/// Who has ended a connection in good order.
enum EndedBy {
    Us,
    Peer,
}

/// One end of a connection.
pub(super) struct Driver<S> {
    tls: TlsStream,
    hub: Arc<Hub>,
    side: S,
    parser: Parser,
    batch: Vec<u8>,
    /// The next look at the peer's silence and at idleness.
    timer: Pin<Box<Sleep>>,
    heard_at: Instant,
    asked: bool,
}

impl<S: Side> Driver<S> {
    pub(super) fn new(tls: TlsStream, hub: Arc<Hub>, side: S) -> Self {
        let now = Instant::now();
        Self {
            tls: tls.without_send_limit(),
            hub,
            side,
            parser: Parser::default(),
            batch: Vec::new(),
            timer: Box::pin(sleep_until(now + SILENCE_MAX)),
            heard_at: now,
            asked: false,
        }
    }

    /// Runs until the connection ends or nobody needs it.
    ///
    /// # Errors
    /// What has ended it other than a proper end.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let result = poll_fn(|cx| self.poll(cx)).await;
        let (how, close) = match &result {
            Ok(_) => (io::ErrorKind::ConnectionReset, Close::Clean),
            Err(error) => (error.kind(), error.into()),
        };
        self.hub.ended(how, close);
        if let EndedBy::Us = result? {
            let goodbye = poll_fn(|cx| self.poll_goodbye(cx));
            if !matches!(timeout(GOODBYE, goodbye).await, Ok(Ok(()))) {
                debug!("a peer has not heard the end of a multiplexed connection");
            }
        }
        Ok(())
    }

    /// Says that nothing more comes, and waits until the peer has heard it.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.tls).poll_shutdown(cx))?;
        while ready!(self.tls.poll_receive(cx, |_| Ok(())))? != Received::End {}
        Poll::Ready(Ok(()))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<EndedBy>> {
        self.hub.driven_by(cx);
        let mut heard = false;
        loop {
            self.transmit(cx)?;
            match self.receive(cx)? {
                Poll::Ready(Received::Some { full }) => {
                    heard = true;
                    if full {
                        // Those who read get their turn, so that no inbox grows while they could.
                        cx.waker().wake_by_ref();
                        break;
                    }
                }
                Poll::Ready(Received::End) => return Poll::Ready(Ok(EndedBy::Peer)),
                Poll::Pending => break,
            }
        }
        if heard {
            self.heard_at = Instant::now();
            self.asked = false;
        }
        let idle = self.hub.idle();
        let is_sent = !self.tls.wants_send();
        let is_done = idle.as_ref().is_some_and(|idle| self.side.is_done(idle));
        if is_done && is_sent && self.hub.end_if_unused() {
            return Poll::Ready(Ok(EndedBy::Us));
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            self.look(idle.is_some() && is_sent)?;
        }
        Poll::Pending
    }

    /// Sends what has collected, as far as the kernel takes it.
    fn transmit(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            if self.tls.wants_send() && self.tls.poll_send(cx)?.is_pending() {
                return self.hub.check_backlog();
            }
            if !self.hub.take_out(&mut self.batch) {
                if self.batch.capacity() > 0 {
                    self.batch = Vec::new();
                }
                return Ok(());
            }
            self.tls.queue(&self.batch)?;
            self.batch.clear();
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<Received>> {
        let Self {
            tls,
            parser,
            hub,
            side,
            ..
        } = self;
        let received = tls.poll_receive(cx, |bytes| {
            parser.read(bytes, |event| heed(hub, side, &event))
        });
        match received {
            Poll::Ready(Ok(received)) => Ok(Poll::Ready(received)),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Asks a silent peer whether it is there, and gives up one that does not answer.
    fn look(&mut self, idle: bool) -> io::Result<()> {
        let now = Instant::now();
        if !idle && now.duration_since(self.heard_at) >= SILENCE_MAX {
            if self.asked {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.asked = true;
            self.hub.put(0, Kind::Ping, &[]);
        }
        self.timer.as_mut().reset(now + SILENCE_MAX);
        Ok(())
    }
}

/// Does what a frame says.
fn heed(hub: &Arc<Hub>, side: &mut impl Side, event: &Event<'_>) -> io::Result<()> {
    match *event {
        Event::Data(stream, bytes) => hub.received(stream, bytes)?,
        Event::Frame(stream, Kind::Open, content) => {
            let verdict = content
                .first()
                .and_then(|byte| Verdict::from_byte(*byte))
                .ok_or_else(|| invalid("a stream was opened for nothing known"))?;
            if hub.opened(stream, side.streams_max())? {
                let opened = Stream::new(hub.clone(), stream);
                if !side.opened(opened, verdict) {
                    return Err(invalid("only clients open streams"));
                }
            }
        }
        Event::Frame(stream, Kind::End, _) => hub.received_end(stream),
        Event::Frame(stream, Kind::Reset, content) => {
            hub.received_reset(stream, Reset::from_content(content));
        }
        Event::Frame(stream, Kind::Window, content) => {
            let bytes = content
                .try_into()
                .map(u32::from_be_bytes)
                .map_err(|_| invalid("a window is not a number"))?;
            hub.received_window(stream, bytes);
        }
        Event::Frame(_, Kind::GoAway, _) => hub.peer_leaves(),
        Event::Frame(_, Kind::Ping, _) => hub.answer_ping(),
        // Hearing anything at all is the answer.
        Event::Frame(_, Kind::Pong | Kind::Data, _) => {}
    }
    Ok(())
}
