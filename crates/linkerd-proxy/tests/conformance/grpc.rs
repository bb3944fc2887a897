//! gRPC: the four kinds of calls, statuses, deadlines, and errors of the proxies themselves.

use bytes::{BufMut, Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::time::timeout;

use crate::{
    common::{Endpoint, PATIENCE, SERVICE},
    h2talk::{Asked, Server, client, collect, post, send_all},
    talk::{Talk, Way, on_each_way},
};

fn call(path: &str) -> Request<()> {
    let mut request = post(path);
    let headers = request.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("te", "trailers".parse().unwrap());
    request
}

fn accepted() -> Response<()> {
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(()).unwrap()
}

fn status(code: &str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
}

/// One message with its prefix.
fn message(content: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(content.len()).unwrap());
    bytes.put_slice(content);
    bytes.freeze()
}

/// The next message of a stream, which may come in any pieces.
async fn next(body: &mut RecvStream, buffer: &mut BytesMut) -> Bytes {
    let read = async {
        loop {
            if let [_, a, b, c, d, ..] = buffer[..] {
                let length = 5 + u32::from_be_bytes([a, b, c, d]) as usize;
                if buffer.len() >= length {
                    return buffer.split_to(length).freeze();
                }
            }
            let chunk = body.data().await.unwrap().unwrap();
            body.flow_control().release_capacity(chunk.len()).unwrap();
            buffer.extend_from_slice(&chunk);
        }
    };
    timeout(PATIENCE, read).await.expect("a message in time")
}

/// A call whose requests are not complete: both ends of it.
async fn called(
    talk: &mut Talk,
) -> (
    h2::client::ResponseFuture,
    h2::SendStream<Bytes>,
    Asked,
    Server,
) {
    let mut sender = client(talk).await;
    let (response, body) = sender
        .send_request(call("/web.v1.Chat/Talk"), false)
        .unwrap();
    let mut server = Server::on(talk.server().await).await;
    let asked = server.request().await;
    (response, body, asked, server)
}

#[tokio::test]
async fn large_messages_of_a_unary_call_arrive_with_their_status() {
    on_each_way(async |mut talk| {
        let (response, mut body, (request, mut answer), _server) = called(&mut talk).await;
        assert_eq!(request.uri().path(), "/web.v1.Chat/Talk");
        assert_eq!(request.headers()["te"], "trailers");
        let large = message(&vec![b'm'; 4 << 20]);
        let sending = send_all(&mut body, large.clone(), true);
        let ((), received) = tokio::join!(sending, collect(request.into_body()));
        assert!(received.unwrap().0 == large);
        let mut answer_body = answer.send_response(accepted(), false).unwrap();
        let sending = async {
            send_all(&mut answer_body, large.clone(), false).await;
            answer_body.send_trailers(status("0")).unwrap();
        };
        let receiving = async { collect(response.await.unwrap().into_body()).await };
        let ((), received) = tokio::join!(sending, receiving);
        let (bytes, trailers) = received.unwrap();
        assert!(bytes == large);
        assert_eq!(trailers, Some(status("0")));
    })
    .await;
}

#[tokio::test]
async fn many_messages_have_one_answer() {
    on_each_way(async |mut talk| {
        let (response, mut body, (request, mut answer), _server) = called(&mut talk).await;
        let (mut up, mut heard) = (request.into_body(), BytesMut::new());
        for n in 0..50_u8 {
            let text = message(&[n; 1000]);
            body.send_data(text.clone(), n == 49).unwrap();
            // Each is heard while the next is not written yet.
            assert_eq!(next(&mut up, &mut heard).await, text);
        }
        assert!(collect(up).await.unwrap().0.is_empty());
        let mut answer_body = answer.send_response(accepted(), false).unwrap();
        answer_body.send_data(message(b"all 50"), false).unwrap();
        answer_body.send_trailers(status("0")).unwrap();
        let received = collect(response.await.unwrap().into_body()).await;
        let expected = (message(b"all 50").to_vec(), Some(status("0")));
        assert_eq!(received.unwrap(), expected);
    })
    .await;
}

#[tokio::test]
async fn one_message_has_many_answers() {
    on_each_way(async |mut talk| {
        let (response, mut body, (request, mut answer), _server) = called(&mut talk).await;
        body.send_data(message(b"list"), true).unwrap();
        let asked = collect(request.into_body()).await.unwrap().0;
        assert_eq!(asked, message(b"list"));
        let mut answer_body = answer.send_response(accepted(), false).unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        let (mut down, mut heard) = (response.into_body(), BytesMut::new());
        for n in 0..50_u8 {
            let text = message(&[n; 1000]);
            answer_body.send_data(text.clone(), false).unwrap();
            assert_eq!(next(&mut down, &mut heard).await, text);
        }
        answer_body.send_trailers(status("0")).unwrap();
        assert_eq!(collect(down).await.unwrap().1, Some(status("0")));
    })
    .await;
}

#[tokio::test]
async fn both_sides_of_a_stream_talk_in_turns() {
    on_each_way(async |mut talk| {
        let (response, mut body, (request, mut answer), _server) = called(&mut talk).await;
        let mut answer_body = answer.send_response(accepted(), false).unwrap();
        let mut up = request.into_body();
        let mut down = timeout(PATIENCE, response)
            .await
            .unwrap()
            .unwrap()
            .into_body();
        let (mut heard_up, mut heard_down) = (BytesMut::new(), BytesMut::new());
        for n in 0..50_u8 {
            let text = message(&[n; 100]);
            body.send_data(text.clone(), false).unwrap();
            assert_eq!(next(&mut up, &mut heard_up).await, text);
            answer_body.send_data(text.clone(), false).unwrap();
            assert_eq!(next(&mut down, &mut heard_down).await, text);
        }
        // The client has said all, the server has not.
        body.send_data(Bytes::new(), true).unwrap();
        assert!(collect(up).await.unwrap().0.is_empty());
        let last = message(b"last");
        answer_body.send_data(last.clone(), false).unwrap();
        assert_eq!(next(&mut down, &mut heard_down).await, last);
        answer_body.send_trailers(status("0")).unwrap();
        assert_eq!(collect(down).await.unwrap().1, Some(status("0")));
    })
    .await;
}

#[tokio::test]
async fn a_server_may_end_a_stream_that_its_client_has_not_ended() {
    on_each_way(async |mut talk| {
        let (response, mut body, (request, mut answer), _server) = called(&mut talk).await;
        body.send_data(message(b"one of many"), false).unwrap();
        let mut answer_body = answer.send_response(accepted(), false).unwrap();
        answer_body.send_trailers(status("8")).unwrap();
        let down = timeout(PATIENCE, response)
            .await
            .unwrap()
            .unwrap()
            .into_body();
        assert_eq!(collect(down).await.unwrap().1, Some(status("8")));
        drop(request);
    })
    .await;
}

#[tokio::test]
async fn a_status_may_come_without_a_message() {
    on_each_way(async |mut talk| {
        let (response, _body, (_request, mut answer), _server) = called(&mut talk).await;
        let mut only = accepted();
        only.headers_mut().extend(status("5"));
        only.headers_mut()
            .insert("grpc-message", "no%20such%20thing".parse().unwrap());
        answer.send_response(only, true).unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.headers()["grpc-status"], "5");
        assert_eq!(response.headers()["grpc-message"], "no%20such%20thing");
        assert!(response.body().is_end_stream());
    })
    .await;
}

#[tokio::test]
async fn a_deadline_is_passed_on_and_its_passing_ends_the_servers_work() {
    on_each_way(async |mut talk| {
        let mut sender = client(&talk).await;
        let mut request = call("/web.v1.Chat/Slow");
        request
            .headers_mut()
            .insert("grpc-timeout", "100m".parse().unwrap());
        let (response, _) = sender.send_request(request, true).unwrap();
        let mut server = Server::on(talk.server().await).await;
        let (request, mut answer) = server.request().await;
        assert_eq!(request.headers()["grpc-timeout"], "100m");
        // What a client's library does at the deadline.
        drop(response);
        let reset = std::future::poll_fn(|cx| answer.poll_reset(cx));
        assert_eq!(
            timeout(PATIENCE, reset).await.unwrap().unwrap(),
            Reason::CANCEL
        );
    })
    .await;
}

#[tokio::test]
async fn an_error_of_the_proxies_is_a_status_with_a_message() {
    let talk = Talk::start(Way::Both).await;
    talk.mesh
        .destination
        .set(SERVICE, &[Endpoint::plain("127.0.0.2:1".parse().unwrap())]);
    let mut sender = client(&talk).await;
    let (response, _) = sender
        .send_request(call("/web.v1.Chat/Talk"), true)
        .unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert_eq!(response.headers()["grpc-status"], "14");
    let message = response.headers()["grpc-message"].to_str().unwrap();
    assert!(message.contains("refused"), "{message}");
    assert!(response.body().is_end_stream());
}

#[tokio::test]
async fn a_call_whose_server_breaks_off_has_the_status_unavailable() {
    on_each_way(async |mut talk| {
        let (response, _body, (_request, _answer), server) = called(&mut talk).await;
        server.abort();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.headers()["grpc-status"], "14");
    })
    .await;
}
