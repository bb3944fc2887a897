//! Tap of connections that carry no HTTP: what is seen of them on both sides of the mesh, once each, from
//! their opening to their end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::SocketAddr;

use common::{Endpoint, PATIENCE, SERVICE, app, mesh};
use http::Response;
use linkerd_proto::tap::{
    ObserveRequest, TapEvent,
    observe_request::{
        Match, Traffic,
        r#match::{
            self, Http, Seq,
            http::{self as http_match, StringMatch, string_match},
        },
    },
    tap_client::TapClient,
    tap_event::{
        Event, ProxyDirection,
        tcp::{self, Close, End, Open, Peer, Protocol},
    },
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::Streaming;

fn all_of(matches: Vec<Match>) -> Match {
    Match {
        r#match: Some(r#match::Match::All(Seq { matches })),
    }
}

async fn observe(
    control: SocketAddr,
    limit: u32,
    traffic: &[Traffic],
    wanted: Match,
) -> Streaming<TapEvent> {
    let client = TapClient::connect(format!("http://{control}")).await;
    let question = ObserveRequest {
        limit,
        r#match: Some(wanted),
        traffic: traffic.iter().map(|it| (*it).into()).collect(),
        ..ObserveRequest::default()
    };
    client
        .unwrap()
        .observe(question)
        .await
        .unwrap()
        .into_inner()
}

/// Watches for one connection.
async fn one_connection(control: SocketAddr) -> Streaming<TapEvent> {
    observe(control, 1, &[Traffic::Connections], all_of(vec![])).await
}

/// All events until the stream's own end.
async fn rest(mut stream: Streaming<TapEvent>) -> Vec<TapEvent> {
    let mut events = Vec::new();
    while let Some(event) = timeout(PATIENCE, stream.message()).await.unwrap().unwrap() {
        events.push(event);
    }
    events
}

/// The two events of the one connection that was watched.
async fn one(stream: Streaming<TapEvent>) -> (TapEvent, Open, Close) {
    let events = rest(stream).await;
    let [opened, closed] = &events[..] else {
        panic!("{events:#?}")
    };
    let tcp = |event: &TapEvent| match &event.event {
        Some(Event::Tcp(tcp)) => tcp.event.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    let (tcp::Event::Open(open), tcp::Event::Close(close)) = (tcp(opened), tcp(closed)) else {
        panic!("{events:#?}")
    };
    assert!(open.id.is_some() && open.id == close.id);
    assert_eq!((&opened.source, &opened.destination_meta), {
        (&closed.source, &closed.destination_meta)
    });
    (opened.clone(), open, close)
}

fn label<'a>(event: &'a TapEvent, direction: ProxyDirection, key: &str) -> Option<&'a str> {
    let meta = match direction {
        ProxyDirection::Inbound => event.source_meta.as_ref(),
        _ => event.destination_meta.as_ref(),
    };
    meta?.labels.get(key).map(String::as_str)
}

/// Sends `bytes` and its end, and reads to the end.
async fn talk(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    common::exchange(address, bytes).await
}

#[tokio::test]
async fn a_connection_is_seen_once_on_each_side_although_it_shares_one_with_others() {
    let mesh = mesh(app::echo().await).await;
    // The first one makes what the next ones share.
    talk(mesh.client.outbound, b"\0first").await;
    let watched = [
        (mesh.client.control, ProxyDirection::Outbound),
        (mesh.server.control, ProxyDirection::Inbound),
    ];
    let mut streams = Vec::new();
    for (control, direction) in watched {
        streams.push((one_connection(control).await, direction));
    }
    assert_eq!(talk(mesh.client.outbound, b"\0second").await, b"\0second");
    for (stream, direction) in streams {
        let (event, open, close) = one(stream).await;
        assert_eq!(event.proxy_direction(), direction);
        assert_eq!(label(&event, direction, "tls"), Some("true"));
        assert_eq!(label(&event, direction, "no_tls_reason"), None);
        assert!(event.source.is_some() && event.destination.is_some());
        assert_eq!(
            (open.protocol(), open.server_name.as_str()),
            (Protocol::Opaque, "")
        );
        assert_eq!((close.source_bytes, close.destination_bytes), (7, 7));
        assert_eq!((close.end(), close.ended_by()), (End::Clean, Peer::Nobody));
        assert!(close.since_open.unwrap().nanos > 0);
        if direction == ProxyDirection::Outbound {
            assert_eq!(label(&event, direction, "service"), Some("web"));
        }
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_and_the_clients_own_tls_are_told() {
    let greeter = mesh(app::greeter().await).await;
    let stream = one_connection(greeter.client.control).await;
    let mut client = TcpStream::connect(greeter.client.outbound).await.unwrap();
    client.read_exact(&mut [0; 11]).await.unwrap();
    client.shutdown().await.unwrap();
    client.read_to_end(&mut Vec::new()).await.unwrap();
    let (_, open, close) = one(stream).await;
    assert_eq!(open.protocol(), Protocol::ServerFirst);
    assert_eq!((close.source_bytes, close.destination_bytes), (0, 11));

    let echo = mesh(app::echo().await).await;
    let stream = one_connection(echo.client.control).await;
    let hello = common::client_hello("db.example");
    assert_eq!(talk(echo.client.outbound, &hello).await, hello);
    let (_, open, close) = one(stream).await;
    assert_eq!(
        (open.protocol(), open.server_name.as_str()),
        (Protocol::Tls, "db.example")
    );
    assert_eq!(close.source_bytes, hello.len() as u64);
}

#[tokio::test]
async fn plaintext_has_its_reason_on_both_sides() {
    let app = app::echo().await;
    let mesh = mesh(app).await;
    mesh.destination.set(SERVICE, &[Endpoint::plain(app)]);
    for (control, address, direction, reason) in [
        (
            mesh.client.control,
            mesh.client.outbound,
            ProxyDirection::Outbound,
            "peer_not_meshed",
        ),
        (
            mesh.server.control,
            mesh.server.inbound,
            ProxyDirection::Inbound,
            "peer_sent_plaintext",
        ),
    ] {
        let stream = one_connection(control).await;
        talk(address, b"\0hello").await;
        let (event, _, _) = one(stream).await;
        assert_eq!(label(&event, direction, "no_tls_reason"), Some(reason));
    }
}

#[tokio::test]
async fn a_reset_is_told_with_whose_it_was() {
    let app = app::tcp(|mut stream| async move {
        stream.read_exact(&mut [0; 2]).await.unwrap();
        SockRef::from(&stream)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
    })
    .await;
    let mesh = mesh(app).await;
    let streams = [
        one_connection(mesh.client.control).await,
        one_connection(mesh.server.control).await,
    ];
    let mut client = TcpStream::connect(mesh.client.outbound).await.unwrap();
    client.write_all(b"\0\x01").await.unwrap();
    client.read_to_end(&mut Vec::new()).await.unwrap_err();
    for stream in streams {
        let (_, _, close) = one(stream).await;
        assert_eq!(
            (close.end(), close.ended_by()),
            (End::Reset, Peer::Destination)
        );
    }

    let echo = common::mesh(app::echo().await).await;
    let streams = [
        one_connection(echo.client.control).await,
        one_connection(echo.server.control).await,
    ];
    let mut client = TcpStream::connect(echo.client.outbound).await.unwrap();
    client.write_all(b"\0\x01").await.unwrap();
    client.read_exact(&mut [0; 2]).await.unwrap();
    SockRef::from(&client)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(client);
    for stream in streams {
        let (_, _, close) = one(stream).await;
        assert_eq!((close.end(), close.ended_by()), (End::Reset, Peer::Source));
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_an_error_in_words() {
    let nobody = "127.0.0.2:1".parse().unwrap();
    let mesh = mesh(nobody).await;
    mesh.destination.set(SERVICE, &[Endpoint::plain(nobody)]);
    for (control, address) in [
        (mesh.client.control, mesh.client.outbound),
        (mesh.server.control, mesh.server.inbound),
    ] {
        let stream = one_connection(control).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"\0\x01").await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap_err();
        let (event, _, close) = one(stream).await;
        assert!(event.destination.is_some(), "where the client was going");
        assert_eq!(
            (close.end(), close.ended_by()),
            (End::Error, Peer::Destination)
        );
        assert!(
            close.error.contains("Connection refused"),
            "{}",
            close.error
        );
    }
}

/// An older `linkerd-api`, and clients of Linkerd, ask for nothing in particular.
#[tokio::test]
async fn who_asks_for_requests_sees_no_connections_and_filters_on_http_match_none() {
    let hello = app::http1(|_| async { Response::new(app::full("hello")) }).await;
    let mesh = mesh(hello).await;
    let both = [Traffic::Requests, Traffic::Connections];
    let any_path = Match {
        r#match: Some(r#match::Match::Http(Http {
            r#match: Some(http_match::Match::Path(StringMatch {
                r#match: Some(string_match::Match::Prefix("/".to_owned())),
            })),
        })),
    };
    let control = mesh.client.control;
    let unsaid = observe(control, 1, &[], all_of(vec![])).await;
    let filtered = observe(control, 1, &both, any_path).await;
    let everything = observe(control, 2, &both, all_of(vec![])).await;
    talk(mesh.client.outbound, b"\0no HTTP").await;
    assert_eq!(common::get(mesh.client.outbound, "/").await.0, 200);
    for stream in [unsaid, filtered] {
        let events = rest(stream).await;
        assert_eq!(events.len(), 3, "{events:#?}");
        let about_http = |it: &TapEvent| matches!(it.event, Some(Event::Http(_)));
        assert!(events.iter().all(about_http), "{events:#?}");
    }
    assert_eq!(rest(everything).await.len(), 5);
}
