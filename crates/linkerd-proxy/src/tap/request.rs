//! One request that somebody may watch, from its arrival to the end of its response. Entry:
//! [`Tapped`]; a request that is dropped on the way is reported as cancelled.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use http::{HeaderMap, StatusCode};
use linkerd_names::Tls;
use linkerd_proto::{
    http_types::Headers,
    tap::{
        Eos, TapEvent, eos,
        tap_event::{
            self,
            http::{Event, RequestInit, ResponseEnd, ResponseInit},
        },
    },
};

use super::{
    Taps,
    event::{self, Head},
    session::Session,
    watch::{Ends, Origin, Watch, since},
};
use crate::{endpoint::Endpoint, metrics::TlsLabel};

/// A request and those who may watch it.
pub(crate) struct Tapped {
    taps: Arc<Taps>,
    /// Those who have not decided yet. Weak, so that a request that waits keeps no tap open.
    candidates: Vec<Weak<Session>>,
    watches: Vec<Watch>,
    ends: Ends,
    head: Head,
    response_began: Option<Instant>,
    response_bytes: u64,
    trailers: Option<Headers>,
}

impl Tapped {
    pub(super) fn new(
        taps: Arc<Taps>,
        candidates: Vec<Weak<Session>>,
        head: Head,
        origin: Origin,
    ) -> Box<Self> {
        Box::new(Self {
            taps,
            candidates,
            watches: Vec::new(),
            ends: Ends::new(origin),
            head,
            response_began: None,
            response_bytes: 0,
            trailers: None,
        })
    }

    /// The request goes to `endpoint`; `tls` is the outcome on the way there. The first call lets
    /// everybody decide who watches; a later one means that another endpoint gets it after all.
    pub(crate) fn sent(&mut self, endpoint: Option<&Endpoint>, tls: Option<&Tls>) {
        self.ends.to(endpoint, tls.map(TlsLabel::from));
        for session in std::mem::take(&mut self.candidates) {
            let decide = |session| self.ends.decide(&self.taps, session, Some(&self.head));
            if let Some(watch) = session.upgrade().and_then(decide) {
                let headers = self.head.headers.clone();
                let event = Event::RequestInit(RequestInit {
                    id: Some(watch.id),
                    method: Some(event::method(&self.head.method)),
                    scheme: Some(event::scheme(&self.head.scheme)),
                    authority: self.head.authority.clone(),
                    path: self.head.path.clone(),
                    headers: headers.filter(|_| watch.session.with_headers),
                });
                watch.session.tell(self.event(event));
                self.watches.push(watch);
            }
        }
    }

    /// The head of the response is there, from the endpoint or from the proxy itself.
    pub(crate) fn responded(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.response_began = Some(Instant::now());
        let headers = self.headers(headers);
        for watch in &self.watches {
            let headers = headers.clone();
            let event = Event::ResponseInit(ResponseInit {
                id: Some(watch.id),
                since_request_init: since(self.ends.origin.began),
                http_status: status.as_u16().into(),
                headers: headers.filter(|_| watch.session.with_headers),
            });
            watch.session.tell(self.event(event));
        }
    }

    /// So many bytes of the response's body have come.
    pub(crate) fn data(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// So many bytes of the response's body have come in all.
    pub(crate) fn data_so_far(&mut self, bytes: u64) {
        self.response_bytes = bytes;
    }

    /// The response's trailers have come.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        self.trailers = self.headers(trailers);
    }

    /// The response has come to its end.
    pub(crate) fn ended(mut self: Box<Self>, grpc_status: Option<u16>) {
        let end = grpc_status.map(|status| eos::End::GrpcStatusCode(status.into()));
        self.end(end);
    }

    /// The response broke off, by a reset for `reason` if there was one; HTTP/1 has no such thing.
    pub(crate) fn broken(mut self: Box<Self>, reason: Option<h2::Reason>) {
        self.reset(reason.unwrap_or(h2::Reason::INTERNAL_ERROR));
    }

    fn reset(&mut self, reason: h2::Reason) {
        self.end(Some(eos::End::ResetErrorCode(reason.into())));
    }

    fn end(&mut self, end: Option<eos::End>) {
        for watch in std::mem::take(&mut self.watches) {
            let trailers = self.trailers.clone();
            let event = Event::ResponseEnd(ResponseEnd {
                id: Some(watch.id),
                since_request_init: since(self.ends.origin.began),
                since_response_init: self.response_began.and_then(since),
                response_bytes: self.response_bytes,
                eos: end.map(|end| Eos { end: Some(end) }),
                trailers: trailers.filter(|_| watch.session.with_headers),
            });
            watch.session.tell(self.event(event));
        }
    }

    fn event(&self, event: Event) -> TapEvent {
        let http = tap_event::Http { event: Some(event) };
        self.ends.event(tap_event::Event::Http(http))
    }

    fn headers(&self, map: &HeaderMap) -> Option<Headers> {
        let wanted = self.watches.iter().any(|watch| watch.session.with_headers);
        wanted.then(|| event::headers(map, &self.taps.headers))
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        self.reset(h2::Reason::CANCEL);
    }
}
