//! Requests of HTTP/2 are streams of the connection that two proxies share.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::let_underscore_must_use,
    reason = "a peer may close at any time"
)]

mod common;
#[allow(dead_code, reason = "each test file uses a part of it")]
#[path = "common/linkerd.rs"]
mod linkerd;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use common::{
    Authority, Endpoint, Mesh, PATIENCE, SERVICE,
    app::{self, Body, http2_client},
    config, destination, identity, mesh, start, wire, with_control, with_tls,
};
use futures::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::{SendRequest, handshake},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use linkerd_names::discovery::{OPAQUE_PORTS_LABEL, OPAQUE_PORTS_LISTED};
use linkerd_proto::destination::update::Update;
use linkerd_proxy::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

/// What proxies of earlier versions know, the best first; HTTP/2 comes as bytes.
const EARLIER: [&[u8]; 2] = [b"linkerd/mux1", b"linkerd/h2"];

/// A mesh whose connections between the proxies can be counted.
async fn counted(app: std::net::SocketAddr) -> (Mesh, wire::Wire) {
    let mesh = mesh(app).await;
    let wire = wire::to(mesh.server.inbound).await;
    let endpoint = Endpoint::meshed(wire.address, &identity("server"));
    mesh.destination.set(SERVICE, &[endpoint]);
    (mesh, wire)
}

fn get() -> Request<Body> {
    Request::get("http://web.ns/").body(app::full("")).unwrap()
}

async fn ask(sender: &mut SendRequest<Body>) -> Response<Incoming> {
    let response = timeout(PATIENCE, sender.send_request(get())).await;
    response.unwrap().unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let body = timeout(PATIENCE, response.into_body().collect()).await;
    String::from_utf8(body.unwrap().unwrap().to_bytes().into()).unwrap()
}

/// Answers at once.
async fn greets() -> std::net::SocketAddr {
    app::http2(|_| async { Response::new(app::full("hello")) }).await
}

/// Answers with what the test sends.
async fn says_what_it_is_told() -> (std::net::SocketAddr, mpsc::Sender<&'static str>) {
    let (tell, told) = mpsc::channel::<&'static str>(8);
    let told = Arc::new(tokio::sync::Mutex::new(told));
    let app = app::http2(move |_| {
        let told = told.clone();
        async move {
            let pieces = futures::stream::unfold(told, |told| async move {
                let piece = told.lock().await.recv().await?;
                let frame = Frame::data(Bytes::from(piece));
                Some((Ok::<_, std::convert::Infallible>(frame), told))
            });
            Response::new(BodyExt::boxed(StreamBody::new(Box::pin(sync(pieces)))))
        }
    })
    .await;
    (app, tell)
}

/// A stream that one task polls at a time.
fn sync<S>(stream: S) -> impl futures::Stream<Item = S::Item> + Send + Sync
where
    S: futures::Stream + Send,
{
    let mut stream = std::sync::Mutex::new(Box::pin(stream));
    futures::stream::poll_fn(move |cx| stream.get_mut().unwrap().as_mut().poll_next(cx))
}

#[tokio::test]
async fn all_clients_share_one_connection_that_counts_as_one() {
    let (mesh, wire) = counted(greets().await).await;
    let clients = (0..20).map(|_| async {
        let mut sender = http2_client(mesh.client.outbound).await;
        for _ in 0..10 {
            assert_eq!(text(ask(&mut sender).await).await, "hello");
        }
    });
    join_all(clients).await;
    assert_eq!(wire.connections(), 1);
    assert!(!wire.carried("hello"), "it is encrypted");
    let encrypted = "tls=\"true\"";
    for (proxy, direction, peer) in [
        (&mesh.server, "direction=\"inbound\"", "peer=\"src\""),
        (&mesh.client, "direction=\"outbound\"", "peer=\"dst\""),
    ] {
        let of = async |name| proxy.metric(&[name, direction, peer, encrypted]).await;
        assert_eq!(of("tcp_open_total{").await, Some(1.0), "{direction}");
        for bytes in ["tcp_read_bytes_total{", "tcp_write_bytes_total{"] {
            let bytes = of(bytes).await;
            let enough = bytes.is_some_and(|bytes| bytes > 200.0 * 20.0);
            assert!(enough, "{direction}: {bytes:?}");
        }
    }
    for proxy in [&mesh.client, &mesh.server] {
        proxy
            .metric_reaches(&["request_total{", encrypted], 200.0)
            .await;
    }
}

#[tokio::test]
async fn more_requests_than_a_connection_takes_make_another() {
    let (app, tell) = says_what_it_is_told().await;
    let (mesh, wire) = counted(app).await;
    let mut sender = http2_client(mesh.client.outbound).await;
    let mut open = Vec::new();
    for _ in 0..150 {
        open.push(ask(&mut sender).await);
    }
    assert!(
        (2..=3).contains(&wire.connections()),
        "{}",
        wire.connections()
    );
    drop(tell);
    for response in open {
        assert_eq!(text(response).await, "");
    }
}

#[tokio::test]
async fn a_server_of_an_earlier_version_gets_http2_as_it_is() {
    let app = greets().await;
    let mesh = mesh(app).await;
    let server = linkerd::passes_bytes(&mesh.authority, &EARLIER, app).await;
    let endpoint = Endpoint::meshed(server, &identity("server"));
    mesh.destination.set(SERVICE, &[endpoint]);
    let mut sender = http2_client(mesh.client.outbound).await;
    for _ in 0..3 {
        assert_eq!(text(ask(&mut sender).await).await, "hello");
    }
    let counted = ["request_total{", "direction=\"outbound\"", "tls=\"true\""];
    mesh.client.metric_reaches(&counted, 3.0).await;
}

#[tokio::test]
async fn a_client_of_an_earlier_version_is_served_as_before() {
    let mesh = mesh(greets().await).await;
    let folder = mesh.authority.issue("client");
    let inbound = mesh.server.inbound;
    let client = linkerd::connect(&folder, inbound, &EARLIER[1..]).await;
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(EARLIER[1]));
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(client))
        .await
        .unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    assert_eq!(text(ask(&mut sender).await).await, "hello");

    let client = linkerd::connect(&folder, inbound, &EARLIER).await;
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(EARLIER[0]));
}

#[tokio::test]
async fn a_port_that_is_never_parsed_gets_http2_as_it_is() {
    let app = greets().await;
    let authority = Authority::new();
    let destination = destination::start().await;
    let mut opaque = with_tls(config(), &authority.issue("server"), &identity("server"));
    opaque.inbound_forward = Some(app);
    opaque.inbound_opaque_ports.insert(app.port());
    let server = start(opaque);
    let client = start(Config {
        outbound_forward: Some(SERVICE.parse().unwrap()),
        ..with_control(
            with_tls(config(), &authority.issue("client"), &identity("client")),
            destination.address,
        )
    });
    let endpoint = Endpoint::meshed(server.inbound, &identity("server"));
    destination.set(SERVICE, &[endpoint]);
    server.ready().await;
    client.ready().await;
    let mut sender = http2_client(client.outbound).await;
    assert_eq!(text(ask(&mut sender).await).await, "hello");
    let requests = ["request_total{", "tls=\"true\""];
    client.metric_reaches(&requests, 1.0).await;
    assert_eq!(server.metric(&requests).await, None);
}

/// Whose client was silent at first, so that its proxy says nothing of what it speaks.
#[tokio::test]
async fn a_port_that_is_never_parsed_gets_what_only_looks_like_http1() {
    let app = app::echo().await;
    let authority = Authority::new();
    let mut opaque = with_tls(config(), &authority.issue("server"), &identity("server"));
    opaque.inbound_forward = Some(app);
    opaque.inbound_opaque_ports.insert(app.port());
    let server = start(opaque);
    server.ready().await;
    let folder = authority.issue("client");
    let mut client = linkerd::connect(&folder, server.inbound, &[b"linkerd/detect"]).await;
    let said = b"GET / HTTP/1.1\r\nno field\r\n\r\n";
    client.write_all(said).await.unwrap();
    let mut heard = vec![0; said.len()];
    timeout(PATIENCE, client.read_exact(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard, said);
}

/// As the destination service tells of the annotation `config.linkerd.io/opaque-ports`, of a Service and of a pod. The
/// echo is no answer to a request.
#[tokio::test]
async fn what_nobody_is_to_look_at_goes_as_bytes_over_mutual_tls_though_it_is_http() {
    for is_of_service in [true, false] {
        let mesh = mesh(app::echo().await).await;
        let endpoint = Endpoint::meshed(mesh.server.inbound, &identity("server"));
        let Update::Add(mut set) = destination::add(&[endpoint]) else {
            panic!("endpoints");
        };
        let labels = match is_of_service {
            true => &mut set.metric_labels,
            false => &mut set.addrs[0].metric_labels,
        };
        labels.insert(OPAQUE_PORTS_LABEL.into(), OPAQUE_PORTS_LISTED.into());
        mesh.destination.tell(SERVICE, Update::Add(set));
        let mut client = TcpStream::connect(mesh.client.outbound).await.unwrap();
        let said = b"GET / HTTP/1.1\r\nhost: web.ns\r\n\r\n";
        client.write_all(said).await.unwrap();
        let mut heard = vec![0; said.len()];
        timeout(PATIENCE, client.read_exact(&mut heard))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(heard, said);
        let connections = [
            "tcp_open_total{direction=\"outbound\"",
            "dst_service=\"web\",peer=\"dst\",tls=\"true\"",
        ];
        mesh.client.metric_reaches(&connections, 1.0).await;
        for absent in ["request_total{", "dst_opaque_ports"] {
            assert_eq!(mesh.client.metric(&[absent]).await, None, "{absent}");
        }
        assert_eq!(mesh.server.metric(&["request_total{"]).await, None);
    }
}

#[tokio::test]
async fn a_server_that_leaves_lets_requests_end() {
    let (app, tell) = says_what_it_is_told().await;
    let (mesh, _wire) = counted(app).await;
    let mut sender = http2_client(mesh.client.outbound).await;
    let response = ask(&mut sender).await;
    mesh.server.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    tell.send("a last word").await.unwrap();
    drop(tell);
    assert_eq!(text(response).await, "a last word");
    timeout(PATIENCE, mesh.server.task)
        .await
        .expect("it has drained")
        .unwrap();
}

#[tokio::test]
async fn a_broken_connection_breaks_each_request_and_no_later_one() {
    let (app, tell) = says_what_it_is_told().await;
    let (mesh, wire) = counted(app).await;
    let mut sender = http2_client(mesh.client.outbound).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(ask(&mut sender).await);
    }
    wire.cut();
    for response in open {
        let end = timeout(PATIENCE, response.into_body().collect()).await;
        assert!(
            end.unwrap().is_err(),
            "an answer that broke off is no whole one"
        );
    }
    let next = ask(&mut sender).await;
    tell.send("a new one").await.unwrap();
    drop(tell);
    assert_eq!(text(next).await, "a new one");
}

#[tokio::test]
async fn requests_that_are_cancelled_leave_nothing_behind() {
    let under_way = Arc::new(AtomicUsize::new(0));
    let seen = under_way.clone();
    let app = app::http2(move |_| {
        let seen = seen.clone();
        async move {
            /// Notices that nobody waits any more.
            struct Waits(Arc<AtomicUsize>);
            impl Drop for Waits {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, SeqCst);
                }
            }
            seen.fetch_add(1, SeqCst);
            let _waits = Waits(seen);
            std::future::pending().await
        }
    })
    .await;
    let (mesh, wire) = counted(app).await;
    let sender = http2_client(mesh.client.outbound).await;
    let are_under_way = async |wanted| {
        let wait = async {
            while under_way.load(SeqCst) != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, wait).await;
        waited.unwrap_or_else(|_| panic!("{}, not {wanted}", under_way.load(SeqCst)));
    };
    // More in all than a connection takes at once.
    for _ in 0..3 {
        let asked: Vec<_> = (0..100)
            .map(|_| tokio::spawn(sender.clone().send_request(get())))
            .collect();
        are_under_way(100).await;
        asked.iter().for_each(tokio::task::JoinHandle::abort);
        are_under_way(0).await;
    }
    assert_eq!(wire.connections(), 1);
    mesh.server.shutdown.cancel();
    let drained = timeout(PATIENCE, mesh.server.task).await;
    drained.expect("nothing is under way").unwrap();
}

#[tokio::test]
async fn a_shared_connection_that_broke_is_not_counted_as_open() {
    let app = app::http2(|_| async { Response::new(app::full("hello")) }).await;
    let (mesh, wire) = counted(app).await;
    let mut sender = http2_client(mesh.client.outbound).await;
    assert_eq!(text(ask(&mut sender).await).await, "hello");
    let of_endpoint = "direction=\"outbound\",dst_";
    let open = ["tcp_open_connections{", of_endpoint, "tls=\"true\"}"];
    assert_eq!(mesh.client.metric(&open).await, Some(1.0));
    wire.cut();
    let failed = [
        "tcp_close_total{",
        of_endpoint,
        "classification=\"failure\"",
    ];
    mesh.client.metric_reaches(&failed, 1.0).await;
    assert_eq!(mesh.client.metric(&open).await, Some(0.0));
}
