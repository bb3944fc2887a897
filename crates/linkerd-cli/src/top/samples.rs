//! Events as proxies send them, for tests. Entry: [`Sample::add_to`].

use std::{net::SocketAddr, time::Duration};

use linkerd_proto::{
    http_types::{HttpMethod, http_method},
    tap::{
        Eos, TapEvent, eos,
        tap_event::{
            EndpointMeta, Event, Http, ProxyDirection, Tcp,
            http::{Event as HttpEvent, RequestInit, ResponseEnd, ResponseInit, StreamId},
            tcp::{Close, End, Event as TcpEvent, Open},
        },
    },
};

use super::figures::{Figures, Names};

/// One request from a pod of vote-bot to one of web that went well.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) direction: ProxyDirection,
    pub(super) source: &'static [(&'static str, &'static str)],
    pub(super) destination: &'static [(&'static str, &'static str)],
    pub(super) path: &'static str,
    /// The labels of TLS.
    pub(super) tls: &'static [(&'static str, &'static str)],
    pub(super) status: u32,
    pub(super) end: Option<eos::End>,
    pub(super) latency: Duration,
}

pub(super) const BOT: &[(&str, &str)] = &[
    ("namespace", "emojivoto"),
    ("deployment", "vote-bot"),
    ("pod", "vote-bot-5d7b6c-x2x9z"),
];
pub(super) const WEB: &[(&str, &str)] = &[
    ("namespace", "emojivoto"),
    ("deployment", "web"),
    ("pod", "web-58f9d-7tq4c"),
];
pub(super) const EMOJI: &[(&str, &str)] = &[
    ("namespace", "emojivoto"),
    ("deployment", "emoji"),
    ("pod", "emoji-66b8c-q8zpl"),
];
pub(super) const NOBODY: &[(&str, &str)] = &[];
pub(super) const ENCRYPTED: &[(&str, &str)] = &[("tls", "true")];
pub(super) const PLAINTEXT: &[(&str, &str)] = &[
    ("tls", "no_proxy_tls"),
    ("no_tls_reason", "peer_sent_plaintext"),
];

impl Default for Sample {
    fn default() -> Self {
        Self {
            direction: ProxyDirection::Inbound,
            source: BOT,
            destination: WEB,
            path: "/api/vote",
            tls: ENCRYPTED,
            status: 200,
            end: None,
            latency: Duration::from_millis(3),
        }
    }
}

/// Figures of the deployments in emojivoto.
pub(super) fn figures() -> Figures {
    Figures::new(Names {
        of_pods: false,
        namespace: "emojivoto".into(),
    })
}

impl Sample {
    /// Adds the whole request.
    pub(super) fn add_to(&self, figures: &mut Figures, stream: u64) {
        for event in [self.request(stream), self.head(stream), self.end(stream)] {
            figures.add(&event);
        }
    }

    pub(super) fn request(&self, stream: u64) -> TapEvent {
        let get = http_method::Type::Registered(0);
        self.event(HttpEvent::RequestInit(RequestInit {
            id: id(stream),
            method: Some(HttpMethod { r#type: Some(get) }),
            path: self.path.into(),
            ..RequestInit::default()
        }))
    }

    pub(super) fn head(&self, stream: u64) -> TapEvent {
        self.event(HttpEvent::ResponseInit(ResponseInit {
            id: id(stream),
            http_status: self.status,
            ..ResponseInit::default()
        }))
    }

    pub(super) fn end(&self, stream: u64) -> TapEvent {
        self.event(HttpEvent::ResponseEnd(ResponseEnd {
            id: id(stream),
            since_request_init: self.latency.try_into().ok(),
            eos: self.end.map(|end| Eos { end: Some(end) }),
            ..ResponseEnd::default()
        }))
    }

    /// The connection is open.
    pub(super) fn opened(&self, stream: u64) -> TapEvent {
        self.connection(TcpEvent::Open(Open {
            id: id(stream),
            ..Open::default()
        }))
    }

    /// The connection has closed.
    pub(super) fn closed(&self, stream: u64, end: End) -> TapEvent {
        self.connection(TcpEvent::Close(Close {
            id: id(stream),
            since_open: self.latency.try_into().ok(),
            end: end.into(),
            ..Close::default()
        }))
    }

    fn connection(&self, event: TcpEvent) -> TapEvent {
        self.about(Event::Tcp(Tcp { event: Some(event) }))
    }

    fn event(&self, event: HttpEvent) -> TapEvent {
        self.about(Event::Http(Http { event: Some(event) }))
    }

    fn about(&self, event: Event) -> TapEvent {
        let address = |text: &str| Some(text.parse::<SocketAddr>().expect("valid").into());
        let meta = |labels: &[&[(&str, &str)]]| {
            let labels = labels.concat().into_iter();
            Some(EndpointMeta {
                labels: labels
                    .map(|(key, value)| (key.into(), value.into()))
                    .collect(),
            })
        };
        let inbound = self.direction == ProxyDirection::Inbound;
        let tls_of = |wanted| if inbound == wanted { self.tls } else { &[] };
        TapEvent {
            source: address("10.0.0.1:40612"),
            destination: address("10.0.0.2:8080"),
            proxy_direction: self.direction.into(),
            source_meta: meta(&[self.source, tls_of(true)]),
            destination_meta: meta(&[self.destination, tls_of(false)]),
            event: Some(event),
            ..TapEvent::default()
        }
    }
}

fn id(stream: u64) -> Option<StreamId> {
    Some(StreamId { base: 0, stream })
}
