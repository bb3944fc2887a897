//! Tap, asked by the client that Linkerd's own crates generate: what is seen on both sides of the
//! mesh, what is refused, and that watching costs traffic nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{future::Future, io, net::SocketAddr, path::Path, sync::Arc};

use common::{Endpoint, PATIENCE, SERVICE, app, config, destination, identity, mesh, with_control};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use linkerd2_proxy_api::{
    http_types::{Headers, http_method},
    tap::{
        ObserveRequest, TapEvent, eos,
        observe_request::{
            Extract, Match, extract,
            r#match::{
                self, Http, Seq,
                http::{self as http_match, StringMatch, string_match},
            },
        },
        tap_client::TapClient,
        tap_event::{
            Event, ProxyDirection,
            http::{self as seen, RequestInit, ResponseEnd, ResponseInit},
        },
    },
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use tokio_stream::StreamExt;
use tonic::{Code, Streaming, transport::Channel};

fn everything() -> Match {
    Match {
        r#match: Some(r#match::Match::All(Seq::default())),
    }
}

fn path_prefix(prefix: &str) -> Match {
    let text = StringMatch {
        r#match: Some(string_match::Match::Prefix(prefix.to_owned())),
    };
    Match {
        r#match: Some(r#match::Match::Http(Http {
            r#match: Some(http_match::Match::Path(text)),
        })),
    }
}

fn question(limit: u32, wanted: Match) -> ObserveRequest {
    ObserveRequest {
        limit,
        r#match: Some(wanted),
        extract: None,
    }
}

fn with_headers(mut question: ObserveRequest) -> ObserveRequest {
    let headers = extract::http::Extract::Headers(extract::http::Headers {});
    question.extract = Some(Extract {
        extract: Some(extract::Extract::Http(extract::Http {
            extract: Some(headers),
        })),
    });
    question
}

async fn client(control: SocketAddr) -> TapClient<Channel> {
    TapClient::connect(format!("http://{control}"))
        .await
        .unwrap()
}

async fn observe(control: SocketAddr, question: ObserveRequest) -> Streaming<TapEvent> {
    let answer = client(control).await.observe(question).await;
    answer.unwrap().into_inner()
}

/// All events until the stream's own end.
async fn rest(stream: Streaming<TapEvent>) -> Vec<TapEvent> {
    let events = stream.map(Result::unwrap).collect();
    timeout(PATIENCE, events).await.expect("an end in time")
}

/// The three events of the one request that was watched.
async fn one(stream: Streaming<TapEvent>) -> (TapEvent, (RequestInit, ResponseInit, ResponseEnd)) {
    let events = rest(stream).await;
    let first = events[0].clone();
    let mut kinds = events.into_iter().map(|event| {
        let Some(Event::Http(http)) = event.event else {
            panic!("not about HTTP")
        };
        http.event.unwrap()
    });
    let (request, response, end) = (kinds.next(), kinds.next(), kinds.next());
    let Some(seen::Event::RequestInit(request)) = request else {
        panic!("{request:?}")
    };
    let Some(seen::Event::ResponseInit(response)) = response else {
        panic!("{response:?}")
    };
    let Some(seen::Event::ResponseEnd(end)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(kinds.next(), None);
    assert!(request.id.is_some() && request.id == response.id && request.id == end.id);
    (first, (request, response, end))
}

fn source<'a>(event: &'a TapEvent, label: &str) -> Option<&'a str> {
    let labels = &event.source_meta.as_ref()?.labels;
    labels.get(label).map(String::as_str)
}

fn target<'a>(event: &'a TapEvent, label: &str) -> Option<&'a str> {
    let labels = &event.destination_meta.as_ref()?.labels;
    labels.get(label).map(String::as_str)
}

fn header<'a>(headers: Option<&'a Headers>, name: &str) -> Option<&'a [u8]> {
    let headers = &headers?.headers;
    let header = headers.iter().find(|header| header.name == name)?;
    Some(&header.value)
}

/// A mesh whose server answers every request with `hello`.
async fn hello() -> common::Mesh {
    mesh(app::http1(|_| async { Response::new(app::full("hello")) }).await).await
}

#[tokio::test]
async fn a_request_is_seen_on_both_sides_with_mutual_tls() {
    let mesh = hello().await;
    let outbound = observe(mesh.client.control, question(1, everything())).await;
    let inbound = observe(mesh.server.control, question(1, everything())).await;

    let (status, _) = common::get(mesh.client.outbound, "/vote?token=1").await;
    assert_eq!(status, 200);

    let (sent, (request, response, end)) = one(outbound).await;
    assert_eq!(sent.proxy_direction(), ProxyDirection::Outbound);
    assert_eq!(request.path, "/vote", "without the query");
    assert_eq!(request.authority, "web.ns");
    let get = http_method::Type::Registered(http_method::Registered::Get.into());
    assert_eq!(request.method.unwrap().r#type, Some(get));
    assert_eq!(request.headers, None, "nobody asked for them");
    assert_eq!(response.http_status, 200);
    assert_eq!(end.response_bytes, 5);
    assert_eq!(end.eos, None);
    assert!(end.since_request_init.unwrap().nanos > 0);
    assert!(end.since_response_init.is_some() && response.since_request_init.is_some());
    assert_eq!(source(&sent, "tls"), Some("internal_traffic"));
    assert_eq!(target(&sent, "tls"), Some("true"));
    assert_eq!(target(&sent, "service"), Some("web"));
    assert_eq!(target(&sent, "namespace"), Some("ns"));
    let pod = format!("pod-{}", mesh.server.inbound.port());
    assert_eq!(target(&sent, "pod"), Some(pod.as_str()));
    let address: SocketAddr = mesh.server.inbound;
    let told = sent.destination.unwrap();
    assert_eq!(told.port, u32::from(address.port()));

    let (received, (request, response, end)) = one(inbound).await;
    assert_eq!(received.proxy_direction(), ProxyDirection::Inbound);
    assert_eq!(
        (request.path.as_str(), response.http_status),
        ("/vote", 200)
    );
    assert_eq!(end.response_bytes, 5);
    assert_eq!(source(&received, "tls"), Some("true"));
    assert_eq!(source(&received, "no_tls_reason"), None);
    assert!(received.source.is_some() && received.destination.is_some());
}

#[tokio::test]
async fn grpc_is_seen_with_its_status_and_without_credentials() {
    let app = app::http2(|_| async {
        let mut response = Response::new(app::frames(&["abc"], &[("grpc-status", "7")]));
        let kind = "application/grpc".parse().unwrap();
        response.headers_mut().insert("content-type", kind);
        response
    })
    .await;
    let mesh = mesh(app).await;
    let question = || with_headers(question(1, everything()));
    let outbound = observe(mesh.client.control, question()).await;
    let inbound = observe(mesh.server.control, question()).await;

    let mut client = app::http2_client(mesh.client.outbound).await;
    let request = Request::post("http://voting.ns:8080/Vote")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", "Bearer s3cret")
        .body(app::full("vote"))
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    response.into_body().collect().await.unwrap();

    for (stream, side) in [(outbound, "outbound"), (inbound, "inbound")] {
        let (_, (request, response, end)) = one(stream).await;
        let headers = request.headers.as_ref();
        assert_eq!(request.authority, "voting.ns:8080", "{side}");
        assert_eq!(header(headers, "authorization"), Some(&b"(redacted)"[..]));
        assert_eq!(header(headers, "te"), Some(&b"trailers"[..]), "{side}");
        let kind = header(response.headers.as_ref(), "content-type");
        assert_eq!(kind, Some(&b"application/grpc"[..]), "{side}");
        let status = Some(eos::End::GrpcStatusCode(7));
        assert_eq!(end.eos.unwrap().end, status, "{side}");
        assert_eq!(end.response_bytes, 3, "{side}");
        let trailer = header(end.trailers.as_ref(), "grpc-status");
        assert_eq!(trailer, Some(&b"7"[..]), "{side}");
    }
}

#[tokio::test]
async fn only_matching_requests_are_seen_up_to_the_limit() {
    let mesh = hello().await;
    let stream = observe(mesh.client.control, question(2, path_prefix("/b"))).await;
    let other = observe(mesh.client.control, question(1, everything())).await;
    for path in ["/a", "/b1", "/a", "/b2", "/b3"] {
        common::get(mesh.client.outbound, path).await;
    }
    let paths = |events: Vec<TapEvent>| -> Vec<(u64, String)> {
        let kinds = events.into_iter().filter_map(|event| match event.event {
            Some(Event::Http(http)) => http.event,
            None => None,
        });
        let inits = kinds.filter_map(|kind| match kind {
            seen::Event::RequestInit(init) => Some((init.id.unwrap().stream, init.path)),
            _ => None,
        });
        inits.collect()
    };
    let (events, others) = (rest(stream).await, rest(other).await);
    assert_eq!(events.len(), 6);
    let base = |events: &[TapEvent]| match &events[0].event {
        Some(Event::Http(http)) => match http.event.clone().unwrap() {
            seen::Event::RequestInit(init) => init.id.unwrap().base,
            other => panic!("{other:?}"),
        },
        None => panic!("no event"),
    };
    assert_ne!(base(&events), base(&others));
    let expected = [(1, "/b1".to_owned()), (2, "/b2".to_owned())];
    assert_eq!(paths(events), expected);
    assert_eq!(paths(others), [(1, "/a".to_owned())]);
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused_in_words() {
    let mut settings = config();
    settings.limits.taps_max = 1;
    let proxy = common::start(settings);
    let mut client = client(proxy.control).await;
    let mut refused = async |question| {
        let status = client.observe(question).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let invalid = |text: &str| (Code::InvalidArgument, text.to_owned());
    assert_eq!(
        refused(question(0, everything())).await,
        invalid("limit must not be 0")
    );
    let without = ObserveRequest {
        limit: 1,
        ..Default::default()
    };
    assert_eq!(refused(without).await, invalid("match is not set"));
    assert_eq!(
        refused(question(1, Match { r#match: None })).await,
        invalid("match is not valid: a match is empty: exactly one kind of match must be set")
    );
    let _first = observe(proxy.control, question(1, everything())).await;
    let (code, text) = refused(question(1, everything())).await;
    assert_eq!(code, Code::ResourceExhausted);
    assert_eq!(text, "1 taps are under way already");
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_events_and_slows_nobody() {
    const REQUESTS: u32 = 1_000;
    let app = app::http2(|_| async { Response::new(app::full("hello")) }).await;
    let destination = destination::start().await;
    destination.set(SERVICE, &[Endpoint::plain(app)]);
    let mut settings = with_control(config(), destination.address);
    settings.outbound_forward = Some(SERVICE.parse().unwrap());
    settings.limits.tap_events_max = 8;
    let proxy = common::start(settings);
    let channel = Channel::from_shared(format!("http://{}", proxy.control))
        .unwrap()
        .initial_stream_window_size(65_535);
    let mut tap = TapClient::new(channel.connect().await.unwrap());
    let stream = tap.observe(question(REQUESTS, everything())).await;
    let stream = stream.unwrap().into_inner();

    let mut client = app::http2_client(proxy.outbound).await;
    let traffic = async {
        for _ in 0..REQUESTS {
            let request = Request::get("http://web.ns/").body(app::full("")).unwrap();
            let response = client.send_request(request).await.unwrap();
            response.into_body().collect().await.unwrap();
        }
    };
    timeout(PATIENCE, traffic).await.expect("nobody waited");

    let seen = rest(stream).await.len();
    assert!(seen > 8 && seen < 3 * REQUESTS as usize, "{seen} events");
}

#[tokio::test]
async fn plaintext_is_seen_with_its_reason() {
    let app = app::http1(|_| async { Response::new(app::full("hello")) }).await;
    let mesh = mesh(app).await;
    mesh.destination.set(SERVICE, &[Endpoint::plain(app)]);
    let stream = observe(mesh.client.control, question(1, everything())).await;
    common::get(mesh.client.outbound, "/").await;
    let (event, _) = one(stream).await;
    assert_eq!(target(&event, "tls"), Some("no_identity"));
    assert_eq!(target(&event, "no_tls_reason"), Some("peer_not_meshed"));
}

#[tokio::test]
async fn the_proxys_own_answers_are_seen() {
    let destination = destination::start().await;
    destination.tell(SERVICE, destination::none(true));
    let mut settings = with_control(config(), destination.address);
    settings.outbound_forward = Some(SERVICE.parse().unwrap());
    settings.limits.endpoint_wait = std::time::Duration::from_millis(1);
    let proxy = common::start(settings);
    let stream = observe(proxy.control, question(1, everything())).await;
    assert_eq!(common::get(proxy.outbound, "/").await.0, 503);
    let (event, (_, response, _)) = one(stream).await;
    assert_eq!(response.http_status, 503);
    assert_eq!((event.destination, target(&event, "tls")), (None, None));
}

#[tokio::test]
async fn a_client_that_goes_away_is_seen_as_a_cancelled_request() {
    let app = app::http2(|_| async {
        let endless = tokio_stream::once(Ok(hyper::body::Frame::data("hello".into())))
            .chain(tokio_stream::pending());
        Response::new(BodyExt::boxed(http_body_util::StreamBody::new(endless)))
    })
    .await;
    let mesh = mesh(app).await;
    let stream = observe(mesh.client.control, question(1, everything())).await;
    let mut client = app::http2_client(mesh.client.outbound).await;
    let request = Request::get("http://web.ns/").body(app::full("")).unwrap();
    let mut response = client.send_request(request).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    let (_, (_, _, end)) = one(stream).await;
    const CANCEL: u32 = 8;
    assert_eq!(end.eos.unwrap().end, Some(eos::End::ResetErrorCode(CANCEL)));
    assert_eq!(end.response_bytes, 5);
}

#[tokio::test]
async fn an_open_tap_does_not_delay_the_end_of_the_proxy() {
    let proxy = common::start(config());
    let _stream = observe(proxy.control, question(1, everything())).await;
    proxy.shutdown.cancel();
    timeout(PATIENCE, proxy.task)
        .await
        .expect("an end")
        .unwrap();
}

/// A mesh connection to `address` by whoever has the credentials in `folder`.
async fn mesh_tls(
    address: SocketAddr,
    name: &str,
    folder: &Path,
) -> io::Result<TlsStream<TcpStream>> {
    let read = |file| std::fs::read(folder.join(file)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    for anchor in CertificateDer::pem_slice_iter(&read("trust-anchors.pem")) {
        roots.add(anchor.unwrap()).unwrap();
    }
    let key = PrivateKeyDer::try_from(read("private-key.p8")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![read("certificate.crt").into()], key)
        .unwrap();
    let tcp = TcpStream::connect(address).await?;
    let name = name.to_owned().try_into().unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}

fn connector(
    connect: impl Future<Output = io::Result<TlsStream<TcpStream>>> + Send + 'static,
) -> impl Future<Output = Channel> {
    let mut connect = Some(Box::pin(connect));
    let service = tower::service_fn(move |_: http::Uri| {
        let connect = connect.take().expect("one connection is enough");
        async move { connect.await.map(TokioIo::new) }
    });
    async {
        let endpoint = tonic::transport::Endpoint::from_static("http://proxy.invalid");
        endpoint.connect_with_connector(service).await.unwrap()
    }
}

#[tokio::test]
async fn tap_is_served_through_mesh_tls() {
    let mesh = hello().await;
    let folder = mesh.authority.issue("watcher");
    let name = identity("server").to_string();
    let control = mesh.server.control;
    let channel = connector(async move { mesh_tls(control, &name, &folder).await }).await;
    let mut watcher = TapClient::new(channel);
    let answer = watcher.observe(question(1, everything())).await;
    let stream = answer.unwrap().into_inner();
    common::get(mesh.client.outbound, "/").await;
    let (event, _) = one(stream).await;
    assert_eq!(source(&event, "tls"), Some("true"));
}

/// As `linkerd-api` does: its own proxy makes the connection mutual TLS.
#[tokio::test]
async fn tap_is_served_through_the_watchers_own_proxy() {
    let mesh = hello().await;
    let control = Endpoint::meshed(mesh.server.control, &identity("server"));
    mesh.destination.set(SERVICE, &[control]);
    let credentials = mesh.authority.issue("watcher");
    let settings = common::with_tls(config(), &credentials, &identity("watcher"));
    let mut settings = with_control(settings, mesh.destination.address);
    settings.outbound_forward = Some(SERVICE.parse().unwrap());
    let watcher = common::start(settings);
    watcher.ready().await;
    let stream = observe(watcher.outbound, question(1, everything())).await;
    common::get(mesh.server.inbound, "/").await;
    let (event, _) = one(stream).await;
    assert_eq!(source(&event, "tls"), Some("no_proxy_tls"));
}

#[tokio::test]
async fn a_workload_of_the_mesh_may_not_watch_another() {
    let mesh = hello().await;
    let folder = mesh.authority.issue("nosy");
    let name = identity("server").to_string();
    let control = mesh.server.control;
    let channel = connector(async move { mesh_tls(control, &name, &folder).await }).await;
    let mut watcher = TapClient::new(channel);
    let answer = watcher.observe(question(1, everything())).await;
    assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_mesh_handshake_for_another_workload_is_refused_by_the_proxys_own_ports() {
    let mesh = hello().await;
    let folder = mesh.authority.issue("watcher");
    let name = identity("other").to_string();
    for address in [mesh.server.control, mesh.server.admin] {
        let error = mesh_tls(address, &name, &folder).await.unwrap_err();
        assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    }
}

/// As Prometheus does: its proxy would share a connection, and the metrics port has none to share.
#[tokio::test]
async fn metrics_are_served_through_mesh_tls_to_another_proxy() {
    let mesh = hello().await;
    let server = Endpoint::meshed(mesh.server.admin, &identity("server"));
    mesh.destination.set(SERVICE, &[server]);
    for count in [1.0, 2.0] {
        let (status, body) = common::get(mesh.client.outbound, "/metrics").await;
        assert_eq!(status, 200, "{body}");
        assert!(body.contains("process_start_time_seconds"));
        let encrypted = ["response_total{", "direction=\"outbound\"", "tls=\"true\""];
        mesh.client.metric_reaches(&encrypted, count).await;
    }
}

#[tokio::test]
async fn metrics_are_served_through_mesh_tls() {
    let mesh = hello().await;
    let folder = mesh.authority.issue("prometheus");
    let name = identity("server").to_string();
    let mut stream = mesh_tls(mesh.server.admin, &name, &folder).await.unwrap();
    let scrape = async {
        let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(PATIENCE, scrape).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("process_start_time_seconds"));
}
