//! A live view of requests for whoever asks on the control port. Entries: [`Taps::begin`] on the
//! data path, [`Server`] on the control port. While nobody asks, a request costs one relaxed load.

mod event;
mod matches;
mod request;
mod server;
mod session;

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
};

use http::Request;
use parking_lot::RwLock;

pub(crate) use request::{Origin, Tapped};
pub(crate) use server::Server;

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
        let sessions = self.sessions.read();
        let with_headers = sessions.iter().any(|session| session.with_headers);
        let head = Head::new(request, authority, with_headers.then_some(&self.headers));
        let candidates = sessions.iter().map(Arc::downgrade).collect();
        drop(sessions);
        Some(Tapped::new(self.clone(), candidates, head, origin()))
    }

    fn add(&self, session: Arc<Session>) {
        let mut sessions = self.sessions.write();
        sessions.push(session);
        self.active.store(sessions.len(), Relaxed);
    }

    /// The session sees no further requests; those that it watches it sees to their ends.
    fn remove(&self, base: u32) {
        let mut sessions = self.sessions.write();
        sessions.retain(|session| session.base != base);
        self.active.store(sessions.len(), Relaxed);
    }
}
