//! What requests and connections have in common: two ends, and those who watch. Entry: [`Ends`].

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use linkerd_proto::tap::{
    TapEvent,
    tap_event::{Event, ProxyDirection, http::StreamId},
};

use super::{
    Taps,
    event::{self, Head},
    matches::Subject,
    session::Session,
};
use crate::{
    endpoint::Endpoint,
    metrics::{Direction, TlsLabel},
};

/// Where something comes from.
pub(crate) struct Origin {
    pub(crate) direction: Direction,
    pub(crate) source: Option<SocketAddr>,
    /// What became of TLS on the client's connection.
    pub(crate) tls: TlsLabel,
    pub(crate) began: Instant,
}

/// Where something comes from and goes.
pub(super) struct Ends {
    pub(super) origin: Origin,
    pub(super) destination: Option<SocketAddr>,
    pub(super) destination_labels: BTreeMap<String, String>,
}

/// Somebody watches this one.
pub(super) struct Watch {
    pub(super) session: Arc<Session>,
    pub(super) id: StreamId,
}

impl Ends {
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            destination: None,
            destination_labels: BTreeMap::new(),
        }
    }

    /// It goes to `endpoint`; `tls` is the outcome on the way there. What is not known stays as it was.
    pub(super) fn to(&mut self, endpoint: Option<&Endpoint>, tls: Option<TlsLabel>) {
        if let Some(endpoint) = endpoint {
            self.destination = Some(endpoint.address);
            self.destination_labels = endpoint.labels.pairs();
        }
        if let Some(tls) = tls {
            event::add_tls(&mut self.destination_labels, tls);
        }
    }

    /// Whether `session` wants this and may still have one; a request has a `head`.
    pub(super) fn decide(
        &self,
        taps: &Taps,
        session: Arc<Session>,
        head: Option<&Head>,
    ) -> Option<Watch> {
        let subject = Subject {
            head,
            source: self.origin.source,
            destination: self.destination,
            destination_labels: &self.destination_labels,
        };
        if !session.matcher.matches(&subject) {
            return None;
        }
        let turn = session.take_turn(Instant::now())?;
        if turn.is_last {
            taps.remove(session.base);
        }
        let id = StreamId {
            base: session.base,
            stream: turn.number,
        };
        Some(Watch { session, id })
    }

    pub(super) fn event(&self, event: Event) -> TapEvent {
        let mut source_labels = BTreeMap::new();
        event::add_tls(&mut source_labels, self.origin.tls);
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
            event: Some(event),
        }
    }
}

/// The time since `instant`; none only if it does not fit the wire, which takes 300 billion years.
pub(super) fn since<D: TryFrom<Duration>>(instant: Instant) -> Option<D> {
    instant.elapsed().try_into().ok()
}
