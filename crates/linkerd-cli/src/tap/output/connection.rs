//! What is printed of connections that carry no HTTP. Entries: [`connection_line`], [`connection_event`].
//! Pure; the fields and keys are an interface.

use linkerd_proto::tap::tap_event::tcp::{End, Event, Peer, Protocol};
use serde_json::{Value, json};

use super::{id, json_id, micros, span, unknown};
use crate::visible::visible;

/// The line, up to what `-o wide` adds.
pub(super) fn connection_line(event: Option<&Event>, ends: &str) -> String {
    match event {
        None => unknown(ends),
        Some(Event::Open(open)) => {
            let protocol = protocol(open.protocol());
            let mut text = format!("opn id={} {ends} protocol={protocol}", id(open.id));
            if !open.server_name.is_empty() {
                text.push_str(" server-name=");
                text.push_str(&visible(&open.server_name));
            }
            text
        }
        Some(Event::Close(close)) => {
            let how = match (close.end(), peer(close.ended_by())) {
                (End::Clean, _) => String::new(),
                (End::Reset, None) => "reset ".to_owned(),
                (End::Reset, Some((side, _))) => format!("reset-by={side} "),
                // In quotes, which escape whatever could steer the terminal.
                (End::Error, None) => format!("error={:?} ", close.error),
                (End::Error, Some((side, _))) => {
                    format!("error-by={side} error={:?} ", close.error)
                }
            };
            format!(
                "cls id={} {ends} {how}duration={}µs src-sent={}B dst-sent={}B",
                id(close.id),
                micros(close.since_open.as_ref()),
                close.source_bytes,
                close.destination_bytes,
            )
        }
    }
}

/// Key and value of the event in the object.
pub(super) fn connection_event(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Open(open) => {
            let mut value = json!({
                "id": json_id(open.id),
                "protocol": protocol(open.protocol()),
            });
            if !open.server_name.is_empty() {
                value["serverName"] = json!(open.server_name);
            }
            ("connectionOpenEvent", value)
        }
        Event::Close(close) => {
            let mut value = json!({
                "id": json_id(close.id),
                "sinceOpen": span(close.since_open),
                "sourceBytes": close.source_bytes,
                "destinationBytes": close.destination_bytes,
                "end": match close.end() {
                    End::Clean => "clean",
                    End::Reset => "reset",
                    End::Error => "error",
                },
            });
            if let Some((_, side)) = peer(close.ended_by()) {
                value["endedBy"] = json!(side);
            }
            if !close.error.is_empty() {
                value["error"] = json!(close.error);
            }
            ("connectionCloseEvent", value)
        }
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Opaque => "opaque",
        Protocol::Tls => "tls",
        Protocol::ServerFirst => "server-first",
    }
}

/// The end of a connection, as lines and as objects call it.
fn peer(peer: Peer) -> Option<(&'static str, &'static str)> {
    match peer {
        Peer::Nobody => None,
        Peer::Source => Some(("src", "source")),
        Peer::Destination => Some(("dst", "destination")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use linkerd_proto::tap::{
        TapEvent,
        tap_event::{
            self, Tcp,
            http::StreamId,
            tcp::{Close, Open},
        },
    };

    use super::*;

    fn event(event: Event) -> TapEvent {
        TapEvent {
            event: Some(tap_event::Event::Tcp(Tcp { event: Some(event) })),
            ..TapEvent::default()
        }
    }

    fn all() -> Vec<TapEvent> {
        let id = Some(StreamId { base: 3, stream: 7 });
        let open = |protocol: Protocol, name: &str| {
            Event::Open(Open {
                id,
                protocol: protocol.into(),
                server_name: name.into(),
            })
        };
        let close = |end: End, by: Peer, error: &str| {
            Event::Close(Close {
                id,
                since_open: Some(prost_types::Duration {
                    seconds: 1,
                    nanos: 2_000_000,
                }),
                source_bytes: 12,
                destination_bytes: 3456,
                end: end.into(),
                error: error.into(),
                ended_by: by.into(),
            })
        };
        let events = [
            open(Protocol::ServerFirst, ""),
            open(Protocol::Tls, "db.example\u{1b}"),
            close(End::Clean, Peer::Nobody, ""),
            close(End::Reset, Peer::Source, ""),
            close(End::Error, Peer::Destination, "no answer\n"),
            close(End::Error, Peer::Nobody, "the proxy has ended"),
        ];
        events.map(event).into()
    }

    #[test]
    fn a_connection_is_two_lines() {
        let lines: String = all()
            .iter()
            .map(|it| super::super::line(it, None))
            .collect();
        expect![[r#"
            opn id=3:7 proxy=??? src=- dst=- tls= protocol=server-first
            opn id=3:7 proxy=??? src=- dst=- tls= protocol=tls server-name=db.example\u{1b}
            cls id=3:7 proxy=??? src=- dst=- tls= duration=1002000µs src-sent=12B dst-sent=3456B
            cls id=3:7 proxy=??? src=- dst=- tls= reset-by=src duration=1002000µs src-sent=12B dst-sent=3456B
            cls id=3:7 proxy=??? src=- dst=- tls= error-by=dst error="no answer\n" duration=1002000µs src-sent=12B dst-sent=3456B
            cls id=3:7 proxy=??? src=- dst=- tls= error="the proxy has ended" duration=1002000µs src-sent=12B dst-sent=3456B
        "#]].assert_eq(&lines);
    }

    #[test]
    fn a_connection_is_two_objects() {
        let lines: String = all().iter().map(super::super::json).collect();
        expect![[r#"
            {"source":{"ip":null,"port":null,"metadata":{}},"destination":{"ip":null,"port":null,"metadata":{}},"proxyDirection":"UNKNOWN","connectionOpenEvent":{"id":{"base":3,"stream":7},"protocol":"server-first"}}
            {"source":{"ip":null,"port":null,"metadata":{}},"destination":{"ip":null,"port":null,"metadata":{}},"proxyDirection":"UNKNOWN","connectionOpenEvent":{"id":{"base":3,"stream":7},"protocol":"tls","serverName":"db.example\u001b"}}
            {"source":{"ip":null,"port":null,"metadata":{}},"destination":{"ip":null,"port":null,"metadata":{}},"proxyDirection":"UNKNOWN","connectionCloseEvent":{"id":{"base":3,"stream":7},"sinceOpen":{"seconds":1,"nanos":2000000},"sourceBytes":12,"destinationBytes":3456,"end":"clean"}}
            {"source":{"ip":null,"port":null,"metadata":{}},"destination":{"ip":null,"port":null,"metadata":{}},"proxyDirection":"UNKNOWN","connectionCloseEvent":{"id":{"base":3,"stream":7},"sinceOpen":{"seconds":1,"nanos":2000000},"sourceBytes":12,"destinationBytes":3456,"end":"reset","endedBy":"source"}}
            {"source":{"ip":null,"port":null,"metadata":{}},"destination":{"ip":null,"port":null,"metadata":{}},"proxyDirection":"UNKNOWN","connectionCloseEvent":{"id":{"base":3,"stream":7},"sinceOpen":{"seconds":1,"nanos":2000000},"sourceBytes":12,"destinationBytes":3456,"end":"error","endedBy":"destination","error":"no answer\n"}}
            {"source":{"ip":null,"port":null,"metadata":{}},"destination":{"ip":null,"port":null,"metadata":{}},"proxyDirection":"UNKNOWN","connectionCloseEvent":{"id":{"base":3,"stream":7},"sinceOpen":{"seconds":1,"nanos":2000000},"sourceBytes":12,"destinationBytes":3456,"end":"error","error":"the proxy has ended"}}
        "#]].assert_eq(&lines);
    }
}
