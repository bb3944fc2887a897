//! One request that somebody may watch, from its arrival to the end of its response. Entry:
//! [`Tapped`]; a request that is dropped on the way is reported as cancelled.

use std::{
    collections::BTreeMap,
    error::Error,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use linkerd_names::Tls;
use linkerd_proto::{
    http_types::Headers,
    tap::{
        Eos, TapEvent, eos,
        tap_event::{
            self, ProxyDirection,
            http::{Event, RequestInit, ResponseEnd, ResponseInit, StreamId},
        },
    },
};

use super::{
    Taps,
    event::{self, Head},
    matches::Subject,
    session::Session,
};
use crate::{endpoint::Endpoint, metrics::Direction};

/// Where a request comes from.
pub(crate) struct Origin {
    pub(crate) direction: Direction,
    pub(crate) source: Option<SocketAddr>,
    /// What became of TLS on the client's connection.
    pub(crate) tls: Tls,
    pub(crate) began: Instant,
}

/// A request and those who may watch it.
pub(crate) struct Tapped {
    taps: Arc<Taps>,
    /// Those who have not decided yet. Weak, so that a request that waits keeps no tap open.
    candidates: Vec<Weak<Session>>,
    watches: Vec<Watch>,
    origin: Origin,
    head: Head,
    destination: Option<SocketAddr>,
    destination_labels: BTreeMap<String, String>,
    response_began: Option<Instant>,
    response_bytes: u64,
    trailers: Option<Headers>,
}

struct Watch {
    session: Arc<Session>,
    id: StreamId,
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
            origin,
            head,
            destination: None,
            destination_labels: BTreeMap::new(),
            response_began: None,
            response_bytes: 0,
            trailers: None,
        })
    }

    /// The request goes to `endpoint`; `tls` is the outcome on the way there. The first call lets
    /// everybody decide who watches; a later one means that another endpoint gets it after all.
    pub(crate) fn sent(&mut self, endpoint: Option<&Endpoint>, tls: Option<&Tls>) {
        if let Some(endpoint) = endpoint {
            self.destination = Some(endpoint.address);
            self.destination_labels = endpoint.labels.pairs();
        }
        if let Some(tls) = tls {
            event::add_tls(&mut self.destination_labels, tls);
        }
        for session in std::mem::take(&mut self.candidates) {
            if let Some(watch) = session.upgrade().and_then(|session| self.decide(session)) {
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
                since_request_init: since(self.origin.began),
                http_status: status.as_u16().into(),
                headers: headers.filter(|_| watch.session.with_headers),
            });
            watch.session.tell(self.event(event));
        }
    }

    /// A piece of the response's body, or its trailers.
    pub(crate) fn frame(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.response_bytes += data.len() as u64;
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = self.headers(trailers);
        }
    }

    /// So many bytes of the response's body have come.
    pub(crate) fn body(&mut self, bytes: u64) {
        self.response_bytes = bytes;
    }

    /// The response has come to its end.
    pub(crate) fn ended(mut self: Box<Self>, grpc_status: Option<u16>) {
        let end = grpc_status.map(|status| eos::End::GrpcStatusCode(status.into()));
        self.end(end);
    }

    /// The response broke off.
    pub(crate) fn broken(mut self: Box<Self>, error: &(dyn Error + 'static)) {
        let mut source = error.source();
        let mut reason = None;
        while let Some(error) = source {
            reason = error
                .downcast_ref::<h2::Error>()
                .and_then(h2::Error::reason);
            source = error.source().filter(|_| reason.is_none());
        }
        // HTTP/1 has no such codes.
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
                since_request_init: since(self.origin.began),
                since_response_init: self.response_began.and_then(since),
                response_bytes: self.response_bytes,
                eos: end.map(|end| Eos { end: Some(end) }),
                trailers: trailers.filter(|_| watch.session.with_headers),
            });
            watch.session.tell(self.event(event));
        }
    }

    /// Whether `session` wants this request and may still have one.
    fn decide(&self, session: Arc<Session>) -> Option<Watch> {
        let subject = Subject {
            head: &self.head,
            source: self.origin.source,
            destination: self.destination,
            destination_labels: &self.destination_labels,
        };
        if !session.matcher.matches(&subject) {
            return None;
        }
        let turn = session.take_turn()?;
        if turn.is_last {
            self.taps.remove(session.base);
        }
        let id = StreamId {
            base: session.base,
            stream: turn.number,
        };
        Some(Watch { session, id })
    }

    fn event(&self, event: Event) -> TapEvent {
        let mut source_labels = BTreeMap::new();
        event::add_tls(&mut source_labels, &self.origin.tls);
        let direction = match self.origin.direction {
            Direction::Inbound => ProxyDirection::Inbound,
            Direction::Outbound => ProxyDirection::Outbound,
        };
        TapEvent {
            source: self.origin.source.map(Into::into),
            source_meta: event::meta(&source_labels),
            route_meta: None,
            destination: self.destination.map(Into::into),
            destination_meta: event::meta(&self.destination_labels),
            proxy_direction: direction.into(),
            event: Some(tap_event::Event::Http(tap_event::Http {
                event: Some(event),
            })),
        }
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

/// The time since `instant`; none only if it does not fit the wire, which takes 300 billion years.
fn since<D: TryFrom<std::time::Duration>>(instant: Instant) -> Option<D> {
    instant.elapsed().try_into().ok()
}
