//! One endpoint: an address, who should be there, and what we remember of it.
//! It lives as long as discovery names it; requests that run keep it a little longer.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use linkerd_names::{Identity, NoTls};
use parking_lot::Mutex;

use crate::{
    breaker::{Breaker, Change, Outcome, Readiness, Reason},
    config::Limits,
    ejections::Ejections,
    http::pool::Pool,
    load::Load,
    metrics, mux,
    tls::connect::backoff,
};

/// Where requests of a target can go.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// Who must be there; none = plaintext.
    pub(crate) identity: Option<Identity>,
    /// Why there is no identity.
    pub(crate) no_identity: NoTls,
    /// The port at which the peer's proxy itself takes connections.
    pub(crate) inbound_port: Option<u16>,
    /// Somebody has written that nobody is to look at what goes there.
    pub(crate) is_opaque: bool,
    pub(crate) labels: Labels,
    pub(crate) load: Load,
    pub(crate) handshake: HandshakeMemory,
    /// Made when the first connection is: most of many endpoints are never used.
    pub(crate) pool: LazyLock<Box<Pool>>,
    /// Connections that carry the streams of many clients.
    pub(crate) shared: LazyLock<Box<mux::Pool>>,
    gone: AtomicBool,
    /// Its target has no other.
    alone: AtomicBool,
    breaker: Breaker,
    ejections: Arc<Ejections>,
}

/// What discovery says of an endpoint.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Labels {
    /// As `dst_…` labels of metrics, sorted. One text, because there may be 100,000 endpoints.
    pub(crate) rendered: Arc<str>,
}

const LABEL_PREFIX: &str = "dst_";

impl Labels {
    pub(crate) fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut rendered = String::new();
        for (name, value) in pairs {
            metrics::label(&mut rendered, &format!("{LABEL_PREFIX}{name}"), value);
        }
        Self {
            rendered: rendered.into(),
        }
    }

    /// Name and value of each, without the prefix.
    pub(crate) fn pairs(&self) -> BTreeMap<String, String> {
        let mut pairs = BTreeMap::new();
        let mut rest = &*self.rendered;
        while let Some((name, quoted)) = rest.split_once("=\"") {
            let (value, after) = unescape(quoted);
            let name = name.trim_start_matches(',');
            let name = name.strip_prefix(LABEL_PREFIX).unwrap_or(name);
            pairs.insert(name.to_owned(), value);
            rest = after;
        }
        pairs
    }
}

/// The value up to its closing quote, and what follows that.
fn unescape(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => {}
            },
            c => value.push(c),
        }
    }
    (value, "")
}

impl Endpoint {
    pub(crate) fn new(
        address: SocketAddr,
        identity: Option<Identity>,
        no_identity: NoTls,
        labels: Labels,
        ejections: Arc<Ejections>,
    ) -> Arc<Self> {
        Self::discovered(
            address,
            identity,
            no_identity,
            None,
            false,
            labels,
            ejections,
        )
    }

    /// An endpoint whose proxy is known.
    pub(crate) fn discovered(
        address: SocketAddr,
        identity: Option<Identity>,
        no_identity: NoTls,
        inbound_port: Option<u16>,
        is_opaque: bool,
        labels: Labels,
        ejections: Arc<Ejections>,
    ) -> Arc<Self> {
        Arc::new(Self {
            address,
            identity,
            no_identity,
            inbound_port,
            is_opaque,
            labels,
            load: Load::default(),
            handshake: HandshakeMemory::default(),
            pool: LazyLock::new(Box::default),
            shared: LazyLock::new(Box::default),
            gone: AtomicBool::new(false),
            alone: AtomicBool::new(true),
            breaker: Breaker::default(),
            ejections,
        })
    }

    /// Discovery does not name this endpoint any more.
    pub(crate) fn leave(&self) {
        self.gone.store(true, Relaxed);
        if let Some(pool) = LazyLock::get(&self.pool) {
            pool.clear();
        }
        if let Some(shared) = LazyLock::get(&self.shared) {
            shared.clear();
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// Says whether its target has no other endpoint.
    pub(crate) fn set_alone(&self, alone: bool) {
        self.alone.store(alone, Relaxed);
    }

    /// How long one TCP connect may take.
    pub(crate) fn connect_timeout(&self, limits: &Limits) -> Duration {
        match self.alone.load(Relaxed) {
            true => limits.lone_connect_timeout,
            false => limits.connect_timeout,
        }
    }

    /// Takes in what became of a request or connection that was sent here for `reason`.
    pub(crate) fn record(&self, outcome: Outcome, reason: Reason, now: Instant) {
        let policy = &self.ejections.policy;
        let change = self
            .breaker
            .record(outcome, reason, policy, now, rand::random);
        if change == Some(Change::Recovered) {
            self.load.forget();
        }
        if let Some(change) = change {
            self.ejections.note(self, outcome, change);
        }
    }

    /// Whether this endpoint can be asked.
    pub(crate) fn readiness(&self, now: Instant) -> Readiness {
        self.breaker.readiness(now)
    }

    /// Whether the caller may send the probe that is due.
    pub(crate) fn may_probe(&self, now: Instant) -> bool {
        self.breaker.may_probe(&self.ejections.policy, now)
    }
}

/// What earlier mesh handshakes with an endpoint have taught.
#[derive(Default)]
pub(crate) struct HandshakeMemory {
    /// The generation of our credentials that the peer has accepted; 0 = none yet.
    accepted: AtomicU64,
    failure: Mutex<Option<Failure>>,
    /// The peer has finished a handshake and known none of our ALPN names.
    is_foreign: AtomicBool,
    /// It could not be reached at its own port.
    refuses_header: AtomicBool,
}

struct Failure {
    count: u32,
    until: Instant,
}

impl HandshakeMemory {
    pub(crate) fn was_accepted(&self, generation: u64) -> bool {
        self.accepted.load(Relaxed) == generation
    }

    pub(crate) fn succeeded(&self, generation: u64) {
        self.accepted.store(generation, Relaxed);
        *self.failure.lock() = None;
    }

    /// Remembers a failure. Returns when to try again. Handshakes that were under way when an earlier one
    /// failed are one failure with it.
    pub(crate) fn failed(&self, min: Duration, max: Duration, now: Instant) -> Instant {
        self.accepted.store(0, Relaxed);
        let mut failure = self.failure.lock();
        if let Some(until) = failure
            .as_ref()
            .map(|f| f.until)
            .filter(|until| now < *until)
        {
            return until;
        }
        let count = failure.as_ref().map_or(0, |failure| failure.count);
        let until = now + backoff(count, min, max);
        *failure = Some(Failure {
            count: count.saturating_add(1),
            until,
        });
        until
    }

    /// The peer is a proxy of Linkerd.
    pub(crate) fn met_foreigner(&self) {
        self.is_foreign.store(true, Relaxed);
    }

    /// Remembers that connections by header are of no use.
    pub(crate) fn refuses_header(&self) {
        self.refuses_header.store(true, Relaxed);
    }

    pub(crate) fn takes_header(&self) -> bool {
        self.is_foreign.load(Relaxed) && !self.refuses_header.load(Relaxed)
    }

    /// Until when no handshake is tried; none when one may be.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        let failure = self.failure.lock();
        failure
            .as_ref()
            .map(|failure| failure.until)
            .filter(|until| Instant::now() < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_back_as_they_were() {
        let pairs = [
            ("a", ""),
            ("b", "say \"hi\", dst_x=\"1\"\\\n"),
            ("pod", "web-1"),
        ];
        let labels = Labels::new(pairs);
        let expected = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(labels.pairs(), expected.into());
        assert!(labels.rendered.starts_with("dst_a=\"\",dst_b=\"say "));
        assert!(Labels::default().pairs().is_empty());
    }

    #[test]
    fn the_pause_between_failing_handshakes_grows_up_to_its_limit() {
        let memory = HandshakeMemory::default();
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(8));
        let mut pauses = Vec::new();
        let mut now = Instant::now();
        for _ in 0..6 {
            let until = memory.failed(min, max, now);
            pauses.push(until - now);
            now = until;
        }
        assert!(pauses[0] <= min, "{pauses:?}");
        assert!(pauses[3] > Duration::from_secs(5), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= max), "{pauses:?}");
        assert!(memory.paused_until().is_some());
        memory.succeeded(1);
        assert!(memory.paused_until().is_none());
        assert!(memory.was_accepted(1));
    }

    #[test]
    fn handshakes_that_fail_together_are_one_failure() {
        let memory = HandshakeMemory::default();
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(60));
        let now = Instant::now();
        let until = memory.failed(min, max, now);
        for _ in 0..100 {
            assert_eq!(memory.failed(min, max, now), until);
        }
        assert!(memory.failed(min, max, until) <= until + 2 * min);
    }
}
