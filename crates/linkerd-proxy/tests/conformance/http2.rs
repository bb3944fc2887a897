//! HTTP/2: streams, their flow control and their ends, connections, and tunnels.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use h2::Reason;
use http::{HeaderMap, Method, Response};
use tokio::time::timeout;

use crate::{
    common::PATIENCE,
    h2talk::{
        END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, SETTINGS, Server, client, collect, frame,
        get, post, raw_client, send_all, send_until_stuck,
    },
    talk::{Talk, Way, on_each_way, pause},
};

/// More than all windows on the way together.
const BUFFERED_BYTES_MAX: usize = 16 << 20;

/// Opens a stream by a POST whose body is not complete: client's and server's ends.
async fn opened(
    talk: &mut Talk,
) -> (
    h2::client::ResponseFuture,
    h2::SendStream<Bytes>,
    crate::h2talk::Asked,
    Server,
) {
    let mut sender = client(talk).await;
    let (response, body) = sender.send_request(post("/"), false).unwrap();
    let mut server = Server::on(talk.server().await).await;
    let asked = server.request().await;
    (response, body, asked, server)
}

fn ok() -> Response<()> {
    Response::new(())
}

#[tokio::test]
async fn bodies_and_trailers_arrive_both_ways() {
    on_each_way(async |mut talk| {
        let (response, mut body, (request, mut answer), _server) = opened(&mut talk).await;
        assert_eq!(request.uri(), "http://web.ns/");
        let trailers = |name: &'static str| {
            HeaderMap::from_iter([(name.parse().unwrap(), "1".parse().unwrap())])
        };
        let large = Bytes::from(vec![b'x'; 1 << 20]);
        let send = async {
            send_all(&mut body, large.clone(), false).await;
            body.send_trailers(trailers("x-sum")).unwrap();
        };
        let ((), received) = tokio::join!(send, collect(request.into_body()));
        assert_eq!(received.unwrap(), (large.to_vec(), Some(trailers("x-sum"))));
        let mut body = answer.send_response(ok(), false).unwrap();
        let send = async {
            send_all(&mut body, large.clone(), false).await;
            body.send_trailers(trailers("x-check")).unwrap();
        };
        let receive = async { collect(response.await.unwrap().into_body()).await };
        let ((), received) = tokio::join!(send, receive);
        assert_eq!(
            received.unwrap(),
            (large.to_vec(), Some(trailers("x-check")))
        );
    })
    .await;
}

#[tokio::test]
async fn large_and_many_headers_arrive_both_ways() {
    on_each_way(async |mut talk| {
        let mut sender = client(&talk).await;
        let mut request = get("/");
        let headers = request.headers_mut();
        headers.insert("x-large", "v".repeat(40_000).parse().unwrap());
        for n in 0..200 {
            headers.append("cookie", format!("c{n}=1").parse().unwrap());
        }
        let sent = headers.clone();
        let (response, _) = sender.send_request(request, true).unwrap();
        let mut server = Server::on(talk.server().await).await;
        let (request, mut answer) = server.request().await;
        assert_eq!(*request.headers(), sent);
        let mut head = ok();
        *head.headers_mut() = sent.clone();
        answer.send_response(head, true).unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(*response.headers(), sent);
    })
    .await;
}

#[tokio::test]
async fn a_sender_waits_for_a_slow_reader() {
    on_each_way(async |mut talk| {
        let (response, mut body, (request, mut answer), _server) = opened(&mut talk).await;
        let sent = send_until_stuck(&mut body, 2 * BUFFERED_BYTES_MAX).await;
        assert!(sent < BUFFERED_BYTES_MAX, "{sent} bytes of a request");
        let mut answer_body = answer.send_response(ok(), false).unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        let sent = send_until_stuck(&mut answer_body, 2 * BUFFERED_BYTES_MAX).await;
        assert!(sent < BUFFERED_BYTES_MAX, "{sent} bytes of a response");
        // Both go on as soon as somebody reads.
        let reading = tokio::spawn(collect(request.into_body()));
        send_all(&mut body, Bytes::from_static(b"the end"), true).await;
        assert!(reading.await.unwrap().unwrap().0.ends_with(b"the end"));
        let reading = tokio::spawn(collect(response.into_body()));
        send_all(&mut answer_body, Bytes::from_static(b"the end"), true).await;
        assert!(reading.await.unwrap().unwrap().0.ends_with(b"the end"));
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody_else() {
    on_each_way(async |mut talk| {
        let (_response, mut body, (_request, _answer), mut server) = opened(&mut talk).await;
        send_until_stuck(&mut body, BUFFERED_BYTES_MAX).await;
        let mut other = client(&talk).await;
        let (response, _) = other.send_request(get("/other"), true).unwrap();
        let (request, mut answer) = server.request().await;
        assert_eq!(request.uri().path(), "/other");
        answer.send_response(ok(), true).unwrap();
        assert_eq!(
            timeout(PATIENCE, response).await.unwrap().unwrap().status(),
            200
        );
    })
    .await;
}

#[tokio::test]
async fn many_that_do_not_read_hold_up_nobody_else() {
    const MANY: usize = 12;
    on_each_way(async |mut talk| {
        let (mut stuck, mut bodies) = (Vec::new(), Vec::new());
        for _ in 0..MANY {
            let mut sender = client(&talk).await;
            let (response, _) = sender.send_request(get("/"), true).unwrap();
            stuck.push((sender, response));
        }
        let mut server = Server::on(talk.server().await).await;
        for _ in 0..MANY {
            let (_, mut answer) = server.request().await;
            bodies.push(answer.send_response(ok(), false).unwrap());
        }
        let sends = bodies
            .iter_mut()
            .map(|body| send_until_stuck(body, BUFFERED_BYTES_MAX));
        join_all(sends).await;
        let mut other = client(&talk).await;
        let (response, _) = other.send_request(get("/other"), true).unwrap();
        let (request, mut answer) = server.request().await;
        assert_eq!(request.uri().path(), "/other");
        let mut body = answer.send_response(ok(), false).unwrap();
        let sent = send_all(&mut body, Bytes::from_static(b"heard"), true);
        let heard = async { collect(response.await.unwrap().into_body()).await };
        let ((), heard) = tokio::join!(sent, heard);
        assert_eq!(heard.unwrap().0, b"heard");
    })
    .await;
}

#[tokio::test]
async fn a_client_whose_requests_are_stuck_may_ask_more() {
    const MANY: usize = 6;
    on_each_way(async |mut talk| {
        let mut sender = client(&talk).await;
        let (mut stuck, mut bodies) = (Vec::new(), Vec::new());
        for _ in 0..MANY {
            let (response, body) = sender.send_request(post("/"), false).unwrap();
            sender = sender.ready().await.unwrap();
            stuck.push(response);
            bodies.push(body);
        }
        // A server whose own windows are for each request.
        let mut builder = h2::server::Builder::new();
        builder.initial_connection_window_size(1 << 24);
        let mut server = Server::built(&builder, talk.server().await).await;
        let mut asked = Vec::new();
        for _ in 0..MANY {
            asked.push(server.request().await);
        }
        let sends = bodies
            .iter_mut()
            .map(|body| send_until_stuck(body, BUFFERED_BYTES_MAX));
        join_all(sends).await;
        let (_response, mut body) = sender.send_request(post("/other"), false).unwrap();
        let (request, _answer) = server.request().await;
        assert_eq!(request.uri().path(), "/other");
        let sent = send_all(&mut body, Bytes::from_static(b"heard"), true);
        let ((), heard) = tokio::join!(sent, collect(request.into_body()));
        assert_eq!(heard.unwrap().0, b"heard");
    })
    .await;
}

/// As those of gRPC, which close the connection of everybody on the third PING while they are silent.
#[test]
fn a_server_that_is_silent_for_long_is_not_asked_whether_it_is_there() {
    for way in [Way::Both, Way::Outbound, Way::Inbound] {
        // Its clock is put forward, and is no other test's.
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let mut talk = Talk::start(way).await;
            let mut sender = client(&talk).await;
            let (_response, _) = sender.send_request(get("/"), true).unwrap();
            let mut server = talk.server().await;
            server.send(frame(SETTINGS, 0, 0, &[])).await;
            for _ in 0..5 {
                for _ in 0..5 {
                    pause().await;
                }
                tokio::time::pause();
                tokio::time::advance(Duration::from_secs(11)).await;
                tokio::time::resume();
            }
            pause().await;
            while let Ok(1..) = server.stream.try_read_buf(&mut server.seen) {}
            let kinds = kinds(&server.seen[PREFACE.len()..]);
            assert!(kinds.contains(&HEADERS), "{way:?}: {kinds:?}");
            assert!(!kinds.contains(&PING), "{way:?}: {kinds:?}");
        });
    }
}

/// The kinds of the whole frames in `bytes`.
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, ..] = *bytes
        && let Some(rest) = bytes.get(9 + u32::from_be_bytes([0, a, b, c]) as usize..)
    {
        kinds.push(kind);
        bytes = rest;
    }
    kinds
}

#[tokio::test]
async fn a_client_that_cancels_is_heard_by_the_server() {
    on_each_way(async |mut talk| {
        // While the body is sent, and when all has been said but the answer.
        let (_response, mut body, (request, _answer), mut server) = opened(&mut talk).await;
        body.send_reset(Reason::CANCEL);
        let error = collect(request.into_body()).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CANCEL));

        let mut sender = client(&talk).await;
        let (response, _) = sender.send_request(get("/"), true).unwrap();
        let (_request, mut answer) = server.request().await;
        drop(response);
        let reset = std::future::poll_fn(|cx| answer.poll_reset(cx));
        let reason = timeout(PATIENCE, reset).await.unwrap().unwrap();
        assert_eq!(reason, Reason::CANCEL);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_resets_a_response_is_heard_with_its_reason() {
    on_each_way(async |mut talk| {
        let mut sender = client(&talk).await;
        let (first, _) = sender.send_request(get("/"), true).unwrap();
        let mut server = Server::on(talk.server().await).await;
        server.request().await.1.send_response(ok(), true).unwrap();
        first.await.unwrap();
        for reason in [
            Reason::CANCEL,
            Reason::INTERNAL_ERROR,
            Reason::ENHANCE_YOUR_CALM,
        ] {
            let (response, _) = sender.send_request(get("/"), true).unwrap();
            let (_request, mut answer) = server.request().await;
            let mut body = answer.send_response(ok(), false).unwrap();
            body.send_data(Bytes::from_static(b"begun"), false).unwrap();
            let mut response = timeout(PATIENCE, response).await.unwrap().unwrap();
            let begun = timeout(PATIENCE, response.body_mut().data()).await.unwrap();
            assert_eq!(begun.unwrap().unwrap(), "begun");
            body.send_reset(reason);
            let error = collect(response.into_body()).await.unwrap_err();
            assert_eq!(error.reason(), Some(reason));
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_resets_a_request_is_heard_with_its_reason() {
    on_each_way(async |mut talk| {
        let (response, _body, (_request, mut answer), _server) = opened(&mut talk).await;
        answer.send_reset(Reason::ENHANCE_YOUR_CALM);
        let error = timeout(PATIENCE, response).await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    })
    .await;
}

#[tokio::test]
async fn no_request_is_lost_when_servers_go_away() {
    on_each_way(async |mut talk| {
        let mut sender = client(&talk).await;
        let requests = tokio::spawn(async move {
            for n in 0..60 {
                let (response, _) = sender.send_request(get(&format!("/{n}")), true).unwrap();
                let response = timeout(PATIENCE, response).await.unwrap().unwrap();
                assert_eq!(response.status(), 200, "{n}: {:?}", response.headers());
                sender = sender.ready().await.unwrap();
            }
        });
        let serve = async {
            loop {
                let mut server = Server::on(talk.server().await).await;
                for _ in 0..5 {
                    let (_, mut answer) = server.request().await;
                    answer.send_response(ok(), true).unwrap();
                }
                server.leave();
            }
        };
        tokio::select! {
            () = serve => {}
            done = requests => done.unwrap(),
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_under_way_ends_although_its_server_goes_away() {
    on_each_way(async |mut talk| {
        let (response, mut body, (request, mut answer), server) = opened(&mut talk).await;
        server.leave();
        pause().await;
        send_all(&mut body, Bytes::from_static(b"late"), true).await;
        assert_eq!(collect(request.into_body()).await.unwrap().0, b"late");
        answer.send_response(ok(), true).unwrap();
        assert_eq!(
            timeout(PATIENCE, response).await.unwrap().unwrap().status(),
            200
        );
    })
    .await;
}

#[tokio::test]
async fn a_request_that_names_no_usable_host_goes_where_its_connection_went() {
    on_each_way(async |mut talk| {
        for host in ["", "a b", "<web>"] {
            let length = u8::try_from(host.len()).unwrap();
            let field = [&[0, 4][..], b"host", &[length], host.as_bytes()].concat();
            let head = [&[0x82, 0x86, 0x44, 5][..], b"/path", &field].concat();
            let mut client = raw_client(&talk).await;
            let flags = END_STREAM | END_HEADERS;
            client.send(frame(HEADERS, flags, 1, &head)).await;
            let mut server = Server::on(talk.server().await).await;
            let (request, mut answer) = server.request().await;
            assert_eq!(request.uri().path(), "/path", "{host:?}");
            let authority = request.uri().authority().unwrap();
            assert!(
                authority.as_str().parse::<SocketAddr>().is_ok(),
                "{authority}"
            );
            answer.send_response(ok(), true).unwrap();
            // The next connection to the server is to be a new one.
            server.abort();
        }
    })
    .await;
}

#[tokio::test]
async fn connect_opens_a_tunnel_of_one_stream() {
    for protocol in [None, Some("websocket")] {
        on_each_way(async |mut talk| {
            let mut sender = client(&talk).await;
            let mut request = match protocol {
                None => http::Request::connect("db.ns:5432").body(()).unwrap(),
                Some(_) => get("/chat"),
            };
            *request.method_mut() = Method::CONNECT;
            if let Some(protocol) = protocol {
                request
                    .extensions_mut()
                    .insert(h2::ext::Protocol::from(protocol));
                timeout(PATIENCE, async {
                    while !sender.is_extended_connect_protocol_enabled() {
                        tokio::task::yield_now().await;
                    }
                })
                .await
                .expect("extended CONNECT is offered");
            }
            let (response, mut body) = sender.send_request(request, false).unwrap();
            let mut server = Server::with_connect_protocol(talk.server().await).await;
            let (request, mut answer) = server.request().await;
            assert_eq!(request.method(), Method::CONNECT);
            let asked = request.extensions().get::<h2::ext::Protocol>();
            assert_eq!(asked.map(h2::ext::Protocol::as_str), protocol);
            let mut answer_body = answer.send_response(ok(), false).unwrap();
            let response = timeout(PATIENCE, response).await.unwrap().unwrap();
            assert_eq!(response.status(), 200);
            let (mut up, mut down) = (request.into_body(), response.into_body());
            for text in ["one", "two"] {
                body.send_data(text.into(), false).unwrap();
                let heard = timeout(PATIENCE, up.data())
                    .await
                    .unwrap()
                    .unwrap()
                    .unwrap();
                assert_eq!(heard, text);
                answer_body.send_data(text.into(), false).unwrap();
                let heard = timeout(PATIENCE, down.data())
                    .await
                    .unwrap()
                    .unwrap()
                    .unwrap();
                assert_eq!(heard, text);
            }
            body.send_data(Bytes::new(), true).unwrap();
            assert!(collect(up).await.unwrap().0.is_empty());
            answer_body.send_data("bye".into(), true).unwrap();
            assert_eq!(collect(down).await.unwrap().0, b"bye");
        })
        .await;
    }
}
