//! Requests that a server has certainly not processed, RFC 9113 sections 6.8 and 8.7: they are sent once
//! more where nothing is lost by that, and otherwise the client hears that it may do so.

use bytes::Bytes;
use h2::Reason;
use http::Response;
use tokio::time::timeout;

use crate::{
    common::{Mesh, PATIENCE},
    h2talk::{HEADERS, PREFACE, SETTINGS, Server, client, collect, frame, get, post, send_all},
    talk::{Peer, Talk, Way, on_each_way},
};

/// RFC 9113 section 6.8.
const GOAWAY: u8 = 7;

fn ok() -> Response<()> {
    Response::new(())
}

/// Takes one request on each connection, and refuses it by GOAWAY: nothing at all was processed.
async fn go_away_at_once(mut peer: Peer) {
    peer.bytes(PREFACE.len()).await;
    loop {
        let [high, middle, low, kind, ..] = peer.bytes(9).await[..] else {
            unreachable!("nine bytes are the head of a frame");
        };
        let length = u32::from_be_bytes([0, high, middle, low]);
        peer.bytes(length as usize).await;
        if kind == HEADERS {
            break;
        }
    }
    let nothing_and_no_error = [0; 8];
    let words = [
        frame(SETTINGS, 0, 0, &[]),
        frame(GOAWAY, 0, 0, &nothing_and_no_error),
    ];
    peer.send(words.concat()).await;
    // The proxy closes when it has nothing left to wait for.
    peer.rest().await;
}

#[tokio::test]
async fn a_refused_request_is_sent_again_by_another_connection() {
    on_each_way(async |mut talk| {
        let mut sender = client(&talk).await;
        let (response, _) = sender.send_request(get("/once"), true).unwrap();
        let mut first = Server::on(talk.server().await).await;
        let (_, mut answer) = first.request().await;
        answer.send_reset(Reason::REFUSED_STREAM);
        let mut second = Server::on(talk.server().await).await;
        let (request, mut answer) = second.request().await;
        assert_eq!(request.uri(), "http://web.ns/once");
        answer.send_response(ok(), true).unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        let Mesh { client, server, .. } = &talk.mesh;
        let passed = match talk.way {
            Way::Both => vec![client, server],
            Way::Outbound => vec![client],
            Way::Inbound => vec![server],
        };
        for proxy in passed {
            let counted = ["request_total{"];
            proxy.metric_reaches(&counted, 1.0).await;
            assert_eq!(proxy.metric(&counted).await, Some(1.0), "it is one request");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_that_a_goaway_leaves_out_is_sent_again() {
    on_each_way(async |mut talk| {
        let mut sender = client(&talk).await;
        let (response, _) = sender.send_request(get("/once"), true).unwrap();
        let leaving = tokio::spawn(go_away_at_once(talk.server().await));
        let mut second = Server::on(talk.server().await).await;
        let (request, mut answer) = second.request().await;
        assert_eq!(request.uri(), "http://web.ns/once");
        answer.send_response(ok(), true).unwrap();
        let response = timeout(PATIENCE, response).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        leaving.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn one_frame_of_a_refused_body_is_sent_again_and_the_rest_follows() {
    on_each_way(async |mut talk| {
        for is_whole in [true, false] {
            let mut sender = client(&talk).await;
            let (response, mut body) = sender.send_request(post("/call"), false).unwrap();
            send_all(&mut body, Bytes::from_static(b"message"), is_whole).await;
            let mut first = Server::on(talk.server().await).await;
            let (request, mut answer) = first.request().await;
            let mut up = request.into_body();
            let heard = timeout(PATIENCE, up.data()).await.unwrap();
            assert_eq!(heard.unwrap().unwrap(), "message");
            answer.send_reset(Reason::REFUSED_STREAM);
            let mut second = Server::on(talk.server().await).await;
            let (request, mut answer) = second.request().await;
            let expected: &[u8] = if is_whole {
                b"message"
            } else {
                send_all(&mut body, Bytes::from_static(b" and more"), true).await;
                b"message and more"
            };
            assert_eq!(collect(request.into_body()).await.unwrap().0, expected);
            answer.send_response(ok(), true).unwrap();
            let response = timeout(PATIENCE, response).await.unwrap().unwrap();
            assert_eq!(response.status(), 200);
            // The next connection is to be a new one.
            first.abort();
            second.abort();
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_body_of_which_more_was_sent_is_the_clients_to_send_again() {
    on_each_way(async |mut talk| {
        let mut sender = client(&talk).await;
        let (response, mut body) = sender.send_request(post("/upload"), false).unwrap();
        let mut server = Server::on(talk.server().await).await;
        let (request, mut answer) = server.request().await;
        let mut up = request.into_body();
        for piece in ["one", "two"] {
            send_all(&mut body, piece.into(), false).await;
            let heard = timeout(PATIENCE, up.data()).await.unwrap();
            assert_eq!(heard.unwrap().unwrap(), piece);
        }
        answer.send_reset(Reason::REFUSED_STREAM);
        let error = timeout(PATIENCE, response).await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
        assert!(talk.servers.try_recv().is_err(), "it was sent again");
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_always_refused_ends_as_refused() {
    on_each_way(async |mut talk| {
        let mut sender = client(&talk).await;
        let (response, _) = sender.send_request(get("/never"), true).unwrap();
        let answer = timeout(PATIENCE, response);
        let error = refuse_until(&mut talk, answer).await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
    })
    .await;
}

/// Refuses every request by GOAWAY until `end`.
async fn refuse_until<T>(talk: &mut Talk, end: impl Future<Output = T>) -> T {
    let refuse = async {
        loop {
            tokio::spawn(go_away_at_once(talk.server().await));
        }
    };
    tokio::select! {
        () = refuse => unreachable!("it has no end"),
        end = end => end,
    }
}
