//! What the streams of one multiplexed connection and its driver share. Entry: [`Hub`].
//! A stream writes frames into `out` and wakes the driver, which sends everything that has
//! collected as one batch; the driver puts what comes into the streams' inboxes.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::BytesMut;
use parking_lot::Mutex;

use super::frame::{self, DATA_BYTES_MAX, Kind, Reason, Reset};
use crate::{io::Meter, metrics::Close, scratch::SCRATCH_BYTES, tls::Verdict};

/// Frames that wait for the driver; then writers wait. Two reads of a connection.
const OUT_BYTES_MAX: usize = 2 * SCRATCH_BYTES;
/// More is there only because the peer asks for answers and reads none: what is put beside the bytes of
/// writers is small.
const BACKLOG_BYTES_MAX: usize = 2 * OUT_BYTES_MAX;
/// Room for frames that is kept while there are none.
const IDLE_BYTES_MAX: usize = 16 * 1024;
/// What a stream's peer may send before its reader takes any of it. The same on both sides: it is
/// part of the protocol's version.
pub(super) const WINDOW_BYTES: usize = 256 * 1024;
/// As far as the window of a stream grows whose reader keeps up.
const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// By so much all windows of one connection may grow together.
const GROWTH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a peer may have sent on all streams of one connection and nobody has read: more than the windows of a
/// client of ours and their growth, and a quarter of those that a server takes.
const INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A connection without streams.
pub(super) struct Idle {
    pub(super) since: Instant,
    /// No stream will come: one end or the other has said so.
    pub(super) is_left: bool,
}

/// Shared by a connection's streams, its driver and whoever may open streams.
pub(crate) struct Hub {
    /// The peer of the connection below.
    pub(super) peer: Option<SocketAddr>,
    /// Counts the bytes of all requests: they are one connection to whoever counts connections.
    pub(super) requests_meter: OnceLock<Arc<Meter>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    out: Vec<u8>,
    /// One is in `out`: it answers every question that was asked meanwhile.
    pong_waits: bool,
    streams: HashMap<u32, Entry>,
    next_stream: u32,
    growth_bytes: usize,
    /// In the inboxes of all streams.
    inbox_bytes: usize,
    driver: Option<Waker>,
    /// Writers that wait until `out` has room.
    crowd: VecDeque<Waker>,
    /// The peer wants no new streams.
    peer_leaves: bool,
    /// Nobody will open streams any more.
    released: bool,
    /// The connection has ended, and how.
    ended: Option<io::ErrorKind>,
    /// Since when there is no stream.
    idle_since: Option<Instant>,
}

/// One stream.
struct Entry {
    inbox: BytesMut,
    inbox_ended: bool,
    outbox_ended: bool,
    reset: Option<Reset>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Bytes that the peer still takes.
    send_bytes: usize,
    /// Bytes that the peer may still send.
    receive_bytes: usize,
    /// Bytes that were read and not yet granted again.
    read_bytes: usize,
    window_bytes: usize,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            inbox: BytesMut::new(),
            inbox_ended: false,
            outbox_ended: false,
            reset: None,
            reader: None,
            writer: None,
            send_bytes: WINDOW_BYTES,
            receive_bytes: WINDOW_BYTES,
            read_bytes: 0,
            window_bytes: WINDOW_BYTES,
        }
    }
}

impl Entry {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }

    /// How reading or writing fails; none while the stream is sound.
    fn fault(&self) -> Option<io::Error> {
        self.reset.map(|reset| match reset.reason {
            Reason::Aborted => io::ErrorKind::ConnectionReset.into(),
            Reason::Refused => io::ErrorKind::ConnectionRefused.into(),
        })
    }
}

impl State {
    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    fn put(&mut self, stream: u32, kind: Kind, content: &[u8]) {
        frame::put(&mut self.out, stream, kind, content);
        self.wake_driver();
    }

    /// Lets the peer send what was read, and more when the reader keeps up.
    fn grant(&mut self, stream: u32) {
        let Some(entry) = self.streams.get_mut(&stream) else {
            return;
        };
        if entry.inbox_ended || entry.read_bytes < entry.window_bytes / 2 {
            return;
        }
        let mut bytes = std::mem::take(&mut entry.read_bytes);
        let more = entry.window_bytes;
        if entry.inbox.is_empty()
            && entry.window_bytes + more <= WINDOW_BYTES_MAX
            && self.growth_bytes + more <= GROWTH_BYTES_MAX
        {
            self.growth_bytes += more;
            entry.window_bytes += more;
            bytes += more;
        }
        entry.receive_bytes += bytes;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.put(stream, Kind::Window, &bytes.to_be_bytes());
    }
}

impl Hub {
    pub(super) fn new(peer: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            peer,
            requests_meter: OnceLock::new(),
            state: Mutex::new(State {
                idle_since: Some(Instant::now()),
                ..State::default()
            }),
        })
    }

    // For whoever opens streams.

    /// Begins a stream; none when this connection takes no more.
    pub(super) fn open(&self, verdict: Verdict, streams_max: usize) -> Option<u32> {
        let mut state = self.state.lock();
        if state.ended.is_some() || state.peer_leaves || state.streams.len() >= streams_max {
            return None;
        }
        let stream = state.next_stream;
        // Numbers are never used twice; a connection that has used them all is left.
        state.next_stream = stream.checked_add(1)?;
        state.streams.insert(stream, Entry::default());
        state.idle_since = None;
        state.put(stream, Kind::Open, &[verdict.byte()]);
        Some(stream)
    }

    /// Whether streams can be opened, but for their number.
    pub(super) fn is_open(&self) -> bool {
        let state = self.state.lock();
        state.ended.is_none() && !state.peer_leaves
    }

    /// Nobody will open streams any more.
    pub(super) fn release(&self) {
        let mut state = self.state.lock();
        state.released = true;
        state.wake_driver();
    }

    // For streams.

    pub(super) fn poll_read<T>(
        &self,
        stream: u32,
        cx: &Context<'_>,
        take: impl FnOnce(&mut BytesMut) -> T,
    ) -> Poll<io::Result<Option<T>>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let ended = state.ended;
        let Some(entry) = state.streams.get_mut(&stream) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if entry.inbox.is_empty() {
            if entry.inbox_ended {
                return Poll::Ready(Ok(None));
            }
            if let Some(error) = entry.fault().or(ended.map(Into::into)) {
                return Poll::Ready(Err(error));
            }
            store(&mut entry.reader, cx);
            return Poll::Pending;
        }
        let before = entry.inbox.len();
        let taken = take(&mut entry.inbox);
        let after = entry.inbox.len();
        if after == 0 {
            entry.inbox = BytesMut::new();
        }
        entry.read_bytes += before - after;
        state.inbox_bytes -= before - after;
        state.grant(stream);
        Poll::Ready(Ok(Some(taken)))
    }

    pub(super) fn poll_write(
        &self,
        stream: u32,
        cx: &Context<'_>,
        mut bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        let crowded = state.out.len() >= OUT_BYTES_MAX;
        let Some(entry) = state.streams.get_mut(&stream) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Some(error) = entry.fault().or(state.ended.map(Into::into)) {
            return Poll::Ready(Err(error));
        }
        if entry.outbox_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if entry.send_bytes == 0 {
            store(&mut entry.writer, cx);
            return Poll::Pending;
        }
        if crowded {
            if !state.crowd.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.crowd.push_back(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let room = entry
            .send_bytes
            .min(OUT_BYTES_MAX - state.out.len())
            .min(bytes.len());
        entry.send_bytes -= room;
        bytes = &bytes[..room];
        for piece in bytes.chunks(DATA_BYTES_MAX) {
            frame::put(&mut state.out, stream, Kind::Data, piece);
        }
        state.wake_driver();
        Poll::Ready(Ok(room))
    }

    pub(super) fn end(&self, stream: u32) {
        let mut state = self.state.lock();
        let Some(entry) = state.streams.get_mut(&stream) else {
            return;
        };
        if !entry.outbox_ended && entry.reset.is_none() {
            entry.outbox_ended = true;
            state.put(stream, Kind::End, &[]);
        }
    }

    /// Gives the stream up, and says why. Nothing more is written or read.
    pub(super) fn reset(&self, stream: u32, reset: Reset) {
        let mut state = self.state.lock();
        let Some(entry) = state.streams.get_mut(&stream) else {
            return;
        };
        if entry.reset.is_none() {
            entry.reset = Some(reset);
            state.put(stream, Kind::Reset, &reset.content());
        }
    }

    /// How the stream was given up; none while it is sound.
    pub(super) fn was_reset(&self, stream: u32) -> Option<Reset> {
        self.state.lock().streams.get(&stream)?.reset
    }

    /// Waits until the peer gives the stream up, or the connection ends.
    pub(super) fn poll_reset(&self, stream: u32, cx: &Context<'_>) -> Poll<Reset> {
        let mut state = self.state.lock();
        let has_ended = state.ended.is_some();
        match state.streams.get_mut(&stream) {
            Some(entry) if entry.reset.is_none() && !has_ended => {
                store(&mut entry.writer, cx);
                Poll::Pending
            }
            entry => Poll::Ready(
                entry
                    .and_then(|entry| entry.reset)
                    .unwrap_or(Reset::ABORTED),
            ),
        }
    }

    /// Whether all that the peer had to say has been read.
    pub(super) fn is_read(&self, stream: u32) -> bool {
        let state = self.state.lock();
        let entry = state.streams.get(&stream);
        entry.is_none_or(|entry| entry.inbox.is_empty() && entry.inbox_ended)
    }

    /// Nobody holds the stream any more.
    pub(super) fn close(&self, stream: u32) {
        let mut state = self.state.lock();
        let Some(entry) = state.streams.remove(&stream) else {
            return;
        };
        state.growth_bytes -= entry.window_bytes - WINDOW_BYTES;
        state.inbox_bytes -= entry.inbox.len();
        let finished = entry.outbox_ended && entry.inbox_ended;
        if !finished && entry.reset.is_none() && state.ended.is_none() {
            state.put(stream, Kind::Reset, &Reset::ABORTED.content());
        }
        if state.streams.is_empty() {
            state.idle_since = Some(Instant::now());
            state.wake_driver();
        }
    }

    // For the driver.

    /// Whom to wake when there is something to send.
    pub(super) fn driven_by(&self, cx: &Context<'_>) {
        store(&mut self.state.lock().driver, cx);
    }

    /// Swaps the frames that have collected with the empty `batch`. False when there are none.
    pub(super) fn take_out(&self, batch: &mut Vec<u8>) -> bool {
        let mut state = self.state.lock();
        if state.out.is_empty() {
            if state.out.capacity() > IDLE_BYTES_MAX {
                state.out = Vec::new();
            }
            return false;
        }
        std::mem::swap(&mut state.out, batch);
        state.pong_waits = false;
        for waker in state.crowd.drain(..) {
            waker.wake();
        }
        true
    }

    pub(super) fn put(&self, stream: u32, kind: Kind, content: &[u8]) {
        self.state.lock().put(stream, kind, content);
    }

    /// Says that somebody is here.
    pub(super) fn answer_ping(&self) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.pong_waits, true) {
            state.put(0, Kind::Pong, &[]);
        }
    }

    /// To be asked while the kernel takes no more.
    ///
    /// # Errors
    /// The peer makes us answer and does not read the answers.
    pub(super) fn check_backlog(&self) -> io::Result<()> {
        match self.state.lock().out.len() {
            0..=BACKLOG_BYTES_MAX => Ok(()),
            _ => Err(frame::invalid("the peer reads no answers")),
        }
    }

    /// The peer has begun a stream. False when it has too many.
    ///
    /// # Errors
    /// When its number was used before.
    pub(super) fn opened(&self, stream: u32, streams_max: usize) -> io::Result<bool> {
        let mut state = self.state.lock();
        if stream < state.next_stream {
            return Err(frame::invalid("a stream was opened twice"));
        }
        state.next_stream = stream
            .checked_add(1)
            .ok_or_else(|| frame::invalid("no number is left for a stream"))?;
        if state.streams.len() >= streams_max {
            state.put(stream, Kind::Reset, &Reset::REFUSED.content());
            return Ok(false);
        }
        state.streams.insert(stream, Entry::default());
        state.idle_since = None;
        Ok(true)
    }

    pub(super) fn received(&self, stream: u32, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        let state = &mut *state;
        // Bytes that were under way when the stream was given up.
        let Some(entry) = state.streams.get_mut(&stream) else {
            return Ok(());
        };
        let Some(left) = entry.receive_bytes.checked_sub(bytes.len()) else {
            return Err(frame::invalid("a stream has sent more than its window"));
        };
        if entry.inbox_ended {
            return Err(frame::invalid("a stream has sent bytes after its end"));
        }
        state.inbox_bytes += bytes.len();
        if state.inbox_bytes > INBOX_BYTES_MAX {
            return Err(frame::invalid("a peer has sent more than is read"));
        }
        entry.receive_bytes = left;
        entry.inbox.extend_from_slice(bytes);
        if let Some(reader) = entry.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    pub(super) fn received_end(&self, stream: u32) {
        if let Some(entry) = self.state.lock().streams.get_mut(&stream) {
            entry.inbox_ended = true;
            entry.wake();
        }
    }

    pub(super) fn received_reset(&self, stream: u32, reset: Reset) {
        if let Some(entry) = self.state.lock().streams.get_mut(&stream) {
            entry.reset = Some(reset);
            entry.wake();
        }
    }

    pub(super) fn received_window(&self, stream: u32, bytes: u32) {
        if let Some(entry) = self.state.lock().streams.get_mut(&stream) {
            entry.send_bytes = entry.send_bytes.saturating_add(bytes as usize);
            if let Some(writer) = entry.writer.take() {
                writer.wake();
            }
        }
    }

    pub(super) fn peer_leaves(&self) {
        self.state.lock().peer_leaves = true;
    }

    /// How long there has been no stream; none while there is one.
    pub(super) fn idle(&self) -> Option<Idle> {
        let state = self.state.lock();
        state.idle_since.map(|since| Idle {
            since,
            is_left: state.released || state.peer_leaves,
        })
    }

    /// Ends the connection if it has no stream and nothing to send. A stream is opened before that, and keeps it, or
    /// not any more.
    pub(super) fn end_if_unused(&self) -> bool {
        let mut state = self.state.lock();
        let is_unused = state.streams.is_empty() && state.out.is_empty();
        if is_unused {
            state.ended.get_or_insert(io::ErrorKind::ConnectionReset);
        }
        is_unused
    }

    /// The connection has ended: every stream fails once it has read its inbox.
    pub(super) fn ended(&self, how: io::ErrorKind, close: Close) {
        // Whoever may open streams holds this until the next one is wanted.
        if let Some(meter) = self.requests_meter.get() {
            meter.end(close);
        }
        let mut state = self.state.lock();
        state.ended.get_or_insert(how);
        for entry in state.streams.values_mut() {
            entry.wake();
        }
        for waker in state.crowd.drain(..) {
            waker.wake();
        }
    }
}

fn store(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *place = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_ends_only_when_nobody_uses_it_and_then_takes_no_stream() {
        let hub = Hub::new(None);
        let stream = hub.open(Verdict::Detect, 1).unwrap();
        assert!(!hub.end_if_unused(), "there is a stream");
        hub.close(stream);
        assert!(!hub.end_if_unused(), "its end is to be sent");
        assert!(hub.take_out(&mut Vec::new()));
        assert!(hub.end_if_unused());
        assert_eq!(hub.open(Verdict::Detect, 1), None);
    }

    #[test]
    fn what_nobody_reads_has_a_bound_for_the_whole_connection() {
        let hub = Hub::new(None);
        let bytes = vec![0; WINDOW_BYTES];
        let fill = |streams: std::ops::Range<usize>| {
            streams.map(|_| {
                let stream = hub.open(Verdict::Detect, usize::MAX).unwrap();
                hub.received(stream, &bytes).map(|()| stream)
            })
        };
        let full: Vec<u32> = fill(0..256).map(Result::unwrap).collect();
        // Read, or given up: there is room again.
        let cx = Context::from_waker(Waker::noop());
        let read = hub.poll_read(full[0], &cx, BytesMut::split);
        assert!(read.is_ready());
        hub.close(full[1]);
        let last: Vec<_> = fill(0..3).collect();
        assert_eq!(last.iter().filter(|filled| filled.is_err()).count(), 1);
        assert!(last[2].is_err());
    }

    #[test]
    fn however_often_a_peer_asks_it_is_owed_one_answer() {
        let hub = Hub::new(None);
        let mut batch = Vec::new();
        for _ in 0..2 {
            (0..1_000).for_each(|_| hub.answer_ping());
            assert!(hub.take_out(&mut batch));
            assert_eq!(batch.len(), frame::HEADER_BYTES);
            batch.clear();
        }
    }
}
