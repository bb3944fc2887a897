//! HTTP/2: clients that mean harm. Their connection is ended or held back; others go on.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{
    common::PATIENCE,
    h2talk::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, Server,
        client, frame, get, get_head, raw_client,
    },
    talk::{Peer, Talk, Way, on_each_way},
};

/// What became of a client that sends without end.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Ended,
    HeldBack,
    Served,
}

/// Sends `frames` over and over, and reads nothing.
async fn flood(client: &mut Peer, frames: &[u8], times: usize) -> Fate {
    let batch = frames.repeat((64 * 1024 / frames.len()).max(1));
    let mut left = times * frames.len();
    while left > 0 {
        let n = batch.len().min(left);
        match timeout(
            Duration::from_millis(500),
            client.stream.write_all(&batch[..n]),
        )
        .await
        {
            Ok(Ok(())) => left -= n,
            Ok(Err(_)) => return Fate::Ended,
            Err(_) => return Fate::HeldBack,
        }
    }
    Fate::Served
}

/// Answers everything on every connection.
fn answer_everything(mut talk: Talk) -> (Talk, tokio::task::JoinHandle<()>) {
    let (_, nobody) = tokio::sync::mpsc::channel(1);
    let mut servers = std::mem::replace(&mut talk.servers, nobody);
    let answering = tokio::spawn(async move {
        while let Some(peer) = servers.recv().await {
            tokio::spawn(async move {
                let mut server = Server::on(peer).await;
                while let Some((_request, mut answer)) = server.next().await {
                    // The client may have cancelled.
                    let _ = answer.send_response(http::Response::new(()), true);
                }
            });
        }
    });
    (talk, answering)
}

/// Asserts that another client is served.
async fn others_go_on(talk: &Talk) {
    let mut other = client(talk).await;
    let (response, _) = other.send_request(get("/other"), true).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_head_without_end_ends_its_connection() {
    on_each_way(async |talk| {
        let (talk, _answering) = answer_everything(talk);
        let mut client = raw_client(&talk).await;
        client
            .send(frame(HEADERS, END_STREAM, 1, &get_head()))
            .await;
        // Literal headers of some size; then ones of no size at all.
        let field = [&[0, 1, b'x', 100][..], &[b'v'; 100]].concat();
        let large = frame(CONTINUATION, 0, 1, &field.repeat(100));
        assert_eq!(flood(&mut client, &large, 10_000).await, Fate::Ended);
        let mut client = raw_client(&talk).await;
        client
            .send(frame(HEADERS, END_STREAM, 1, &get_head()))
            .await;
        let empty = frame(CONTINUATION, 0, 1, &[]);
        assert_eq!(flood(&mut client, &empty, 1_000_000).await, Fate::Ended);
        others_go_on(&talk).await;
    })
    .await;
}

#[tokio::test]
async fn a_head_that_is_small_only_while_compressed_is_refused() {
    on_each_way(async |talk| {
        let (talk, _answering) = answer_everything(talk);
        let mut client = raw_client(&talk).await;
        // A value of 4000 bytes goes into the table once; then each byte repeats it.
        let mut head = get_head();
        head.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
        head.extend_from_slice(&[b'v'; 4000]);
        head.extend_from_slice(&[0xbe; 4000]);
        client
            .send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &head))
            .await;
        // By a status or a reset of the stream, or by the end of the connection: not by silence.
        client.more().await;
        others_go_on(&talk).await;
    })
    .await;
}

#[tokio::test]
async fn streams_that_are_reset_at_once_hold_up_nobody() {
    on_each_way(async |talk| {
        let (talk, _answering) = answer_everything(talk);
        let mut client = raw_client(&talk).await;
        for batch in 0..50_u32 {
            let mut frames = Vec::new();
            for n in 0..100 {
                let stream = 1 + 2 * (batch * 100 + n);
                frames.extend(frame(
                    HEADERS,
                    END_STREAM | END_HEADERS,
                    stream,
                    &get_head(),
                ));
                frames.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            }
            let sent = timeout(PATIENCE, client.stream.write_all(&frames)).await;
            if sent.is_err() || sent.is_ok_and(|sent| sent.is_err()) {
                break;
            }
        }
        others_go_on(&talk).await;
    })
    .await;
}

#[tokio::test]
async fn questions_without_end_hold_up_nobody() {
    let (talk, _answering) = answer_everything(Talk::start(Way::Inbound).await);
    for frames in [
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
        frame(SETTINGS, 0, 0, &[]),
    ] {
        let mut client = raw_client(&talk).await;
        // Its answers are not read: whoever kept them for it would keep them for ever.
        let fate = flood(&mut client, &frames, 2_000_000).await;
        assert_ne!(fate, Fate::Served);
        others_go_on(&talk).await;
    }
}

#[tokio::test]
async fn empty_data_without_end_ends_its_connection() {
    on_each_way(async |talk| {
        let (talk, _answering) = answer_everything(talk);
        let mut client = raw_client(&talk).await;
        client
            .send(frame(HEADERS, END_HEADERS, 1, &get_head()))
            .await;
        let fate = flood(&mut client, &frame(DATA, 0, 1, &[]), 1_000_000).await;
        assert_eq!(fate, Fate::Ended);
        others_go_on(&talk).await;
    })
    .await;
}
