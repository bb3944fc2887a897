//! A live view of requests and connections for whoever asks on the control port. Entries: [`Taps::begin`]
//! and [`Taps::connection`] on the data path, [`Server`] on the control port. While nobody asks, either
//! costs one relaxed load.

mod connection;
mod event;
mod matches;
mod request;
mod server;
mod session;
mod watch;

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
};

use http::Request;
use parking_lot::RwLock;

pub(crate) use connection::{Connection, Facts};
pub(crate) use request::Tapped;
pub(crate) use server::Server;
pub(crate) use watch::Origin;

use event::{Head, HeaderBounds};
use session::Session;

/// Everybody who watches at the moment.
pub(crate) struct Taps {
    /// The length of `sessions`.
    active: AtomicUsize,
    sessions: RwLock<Vec<Arc<Session>>>,
    next_base: AtomicU32,
    headers: HeaderBounds,
}

impl Taps {
    /// `headers_max` and `headers_bytes_max` bound the header fields that one event reports.
    pub(crate) fn new(headers_max: usize, headers_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            active: AtomicUsize::new(0),
            sessions: RwLock::default(),
            next_base: AtomicU32::new(1),
            headers: HeaderBounds {
                fields: headers_max,
                bytes: headers_bytes_max,
            },
        })
    }

    /// Whether anybody watches.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.active.load(Relaxed) > 0
    }

    /// Notes a request that has just come; none when nobody watches.
    #[inline]
    pub(crate) fn begin<B>(
        self: &Arc<Self>,
        request: &Request<B>,
        authority: &str,
        origin: impl FnOnce() -> Origin,
    ) -> Option<Box<Tapped>> {
        if !self.is_watched() {
            return None;
        }
        let sessions = self.sessions(|session| session.wanted.requests)?;
        let with_headers = sessions.iter().any(|session| session.with_headers);
        let head = Head::new(request, authority, with_headers.then_some(&self.headers));
        let candidates = sessions.iter().map(Arc::downgrade).collect();
        Some(Tapped::new(self.clone(), candidates, head, origin()))
    }

    /// Tells of a connection that carries no HTTP, when its server has been reached or cannot be; none
    /// when nobody watches it.
    #[inline]
    pub(crate) fn connection<'a>(
        &self,
        facts: impl FnOnce() -> Facts<'a>,
    ) -> Option<Box<Connection>> {
        if !self.is_watched() {
            return None;
        }
        let sessions = self.sessions(|session| session.wanted.connections)?;
        Connection::open(self, sessions, &facts())
    }

    /// Those who want one kind of traffic; none when there are none.
    fn sessions(&self, wanted: impl Fn(&Session) -> bool) -> Option<Vec<Arc<Session>>> {
        let sessions = self.sessions.read();
        let sessions = sessions.iter().filter(|session| wanted(session));
        let sessions: Vec<_> = sessions.cloned().collect();
        (!sessions.is_empty()).then_some(sessions)
    }

    fn add(&self, session: Arc<Session>) {
        let mut sessions = self.sessions.write();
        sessions.push(session);
        self.active.store(sessions.len(), Relaxed);
    }

    /// The session sees nothing further; what it watches it sees to the end.
    fn remove(&self, base: u32) {
        let mut sessions = self.sessions.write();
        sessions.retain(|session| session.base != base);
        self.active.store(sessions.len(), Relaxed);
    }
}
