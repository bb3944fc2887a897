//! What tap prints, line by line.

use std::net::SocketAddr;

use expect_test::expect;
use linkerd_names::OwnerKind;
use linkerd_proto::tap::tap_event::{
    Http,
    http::{RequestInit, ResponseEnd, ResponseInit},
};

use super::*;

const DEPLOYMENT: ResourceType = ResourceType::Workload(OwnerKind::Deployment);

fn meta(labels: &[(&str, &str)]) -> Option<EndpointMeta> {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()));
    Some(EndpointMeta {
        labels: labels.collect(),
    })
}

fn event(direction: ProxyDirection, event: HttpEvent) -> TapEvent {
    let address = |text: &str| Some(text.parse::<SocketAddr>().expect("valid").into());
    TapEvent {
        source: address("10.0.0.1:4000"),
        destination: address("[fd00::9]:80"),
        proxy_direction: direction.into(),
        source_meta: meta(&[
            ("tls", "no_proxy_tls"),
            ("no_tls_reason", "peer_sent_plaintext"),
            ("pod", "bot-1"),
            ("namespace", "other"),
        ]),
        destination_meta: meta(&[
            ("tls", "true"),
            ("deployment", "web"),
            ("pod", "web-1"),
            ("namespace", "shop"),
        ]),
        event: Some(Event::Http(Http { event: Some(event) })),
        ..TapEvent::default()
    }
}

fn request(kind: http_method::Type, path: &str) -> HttpEvent {
    HttpEvent::RequestInit(RequestInit {
        id: Some(StreamId { base: 1, stream: 0 }),
        method: Some(HttpMethod { r#type: Some(kind) }),
        scheme: Some(Scheme {
            r#type: Some(scheme::Type::Registered(0)),
        }),
        authority: "web.shop:80".into(),
        path: path.into(),
        headers: None,
    })
}

fn response() -> HttpEvent {
    HttpEvent::ResponseInit(ResponseInit {
        id: Some(StreamId { base: 1, stream: 0 }),
        since_request_init: Some(prost_types::Duration {
            seconds: 2,
            nanos: 345_678,
        }),
        http_status: 200,
        headers: None,
    })
}

fn ended(end: Option<eos::End>) -> HttpEvent {
    HttpEvent::ResponseEnd(ResponseEnd {
        id: Some(StreamId { base: 1, stream: 0 }),
        since_request_init: Some(prost_types::Duration {
            seconds: 0,
            nanos: 5_000,
        }),
        response_bytes: 1337,
        eos: end.map(|end| Eos { end: Some(end) }),
        ..ResponseEnd::default()
    })
}

fn all() -> Vec<TapEvent> {
    let get = http_method::Type::Registered(0);
    let purge = http_method::Type::Unregistered("PURGE".into());
    let (inbound, outbound) = (ProxyDirection::Inbound, ProxyDirection::Outbound);
    vec![
        event(outbound, request(get.clone(), "/some/path")),
        event(outbound, response()),
        event(outbound, ended(None)),
        event(inbound, request(purge, "/\u{1b}[2J x\n")),
        event(inbound, ended(Some(eos::End::GrpcStatusCode(5)))),
        event(inbound, ended(Some(eos::End::GrpcStatusCode(666)))),
        event(inbound, ended(Some(eos::End::ResetErrorCode(8)))),
        TapEvent::default(),
    ]
}

#[test]
fn each_event_is_a_line_with_the_word_for_tls_and_no_line_steers_the_terminal() {
    let lines: String = all().iter().map(|event| line(event, None)).collect();
    expect![[r#"
        req id=1:0 proxy=out src=10.0.0.1:4000 dst=[fd00::9]:80 tls=true :method=GET :authority=web.shop:80 :path=/some/path
        rsp id=1:0 proxy=out src=10.0.0.1:4000 dst=[fd00::9]:80 tls=true :status=200 latency=2000345µs
        end id=1:0 proxy=out src=10.0.0.1:4000 dst=[fd00::9]:80 tls=true duration=5µs response-length=1337B
        req id=1:0 proxy=in  src=10.0.0.1:4000 dst=[fd00::9]:80 tls=no_proxy_tls :method=PURGE :authority=web.shop:80 :path=/\u{1b}[2J\u{20}x\n
        end id=1:0 proxy=in  src=10.0.0.1:4000 dst=[fd00::9]:80 tls=no_proxy_tls grpc-status=NotFound duration=5µs response-length=1337B
        end id=1:0 proxy=in  src=10.0.0.1:4000 dst=[fd00::9]:80 tls=no_proxy_tls grpc-status=Code(666) duration=5µs response-length=1337B
        end id=1:0 proxy=in  src=10.0.0.1:4000 dst=[fd00::9]:80 tls=no_proxy_tls reset-error=8 duration=5µs response-length=1337B
        unknown proxy=??? src=- dst=- tls=
    "#]]
    .assert_eq(&lines);
}

#[test]
fn wide_lines_say_who_is_at_both_ends_and_why_it_is_plaintext() {
    let lines = |targets: &[ResourceType]| -> String {
        let events = all();
        [&events[1], &events[4]]
            .map(|event| line(event, Some(targets)))
            .concat()
    };
    expect![[r#"
        rsp id=1:0 proxy=out src=10.0.0.1:4000 dst=[fd00::9]:80 tls=true :status=200 latency=2000345µs src_pod=bot-1 src_ns=other dst_res=deploy/web dst_ns=shop
        end id=1:0 proxy=in  src=10.0.0.1:4000 dst=[fd00::9]:80 tls=no_proxy_tls grpc-status=NotFound duration=5µs response-length=1337B no_tls_reason=peer_sent_plaintext src_pod=bot-1 src_ns=other dst_res=deploy/web dst_ns=shop
    "#]]
    .assert_eq(&lines(&[DEPLOYMENT]));
    let by_namespace = lines(&[ResourceType::Namespace]);
    assert!(
        by_namespace.contains(" src_res=ns/other dst_res=ns/shop\n"),
        "{by_namespace}"
    );
    const STATEFUL_SET: ResourceType = ResourceType::Workload(OwnerKind::StatefulSet);
    assert_eq!(lines(&[STATEFUL_SET, DEPLOYMENT]), lines(&[DEPLOYMENT]));
}

#[test]
fn json_has_an_object_a_line_with_linkerds_keys() {
    let events = all();
    let lines: String = [&events[0], &events[1], &events[4]].map(json).concat();
    expect![[r#"
        {"source":{"ip":"10.0.0.1","port":4000,"metadata":{"namespace":"other","no_tls_reason":"peer_sent_plaintext","pod":"bot-1","tls":"no_proxy_tls"}},"destination":{"ip":"fd00::9","port":80,"metadata":{"deployment":"web","namespace":"shop","pod":"web-1","tls":"true"}},"proxyDirection":"OUTBOUND","tls":"true","requestInitEvent":{"id":{"base":1,"stream":0},"method":"GET","scheme":"http","authority":"web.shop:80","path":"/some/path"}}
        {"source":{"ip":"10.0.0.1","port":4000,"metadata":{"namespace":"other","no_tls_reason":"peer_sent_plaintext","pod":"bot-1","tls":"no_proxy_tls"}},"destination":{"ip":"fd00::9","port":80,"metadata":{"deployment":"web","namespace":"shop","pod":"web-1","tls":"true"}},"proxyDirection":"OUTBOUND","tls":"true","responseInitEvent":{"id":{"base":1,"stream":0},"sinceRequestInit":{"seconds":2,"nanos":345678},"httpStatus":200}}
        {"source":{"ip":"10.0.0.1","port":4000,"metadata":{"namespace":"other","no_tls_reason":"peer_sent_plaintext","pod":"bot-1","tls":"no_proxy_tls"}},"destination":{"ip":"fd00::9","port":80,"metadata":{"deployment":"web","namespace":"shop","pod":"web-1","tls":"true"}},"proxyDirection":"INBOUND","tls":"no_proxy_tls","noTlsReason":"peer_sent_plaintext","responseEndEvent":{"id":{"base":1,"stream":0},"sinceRequestInit":{"seconds":0,"nanos":5000},"sinceResponseInit":null,"responseBytes":1337,"grpcStatusCode":5}}
    "#]]
    .assert_eq(&lines);
}
