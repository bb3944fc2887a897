//! Clients and servers of HTTP/2 that say what the test tells them, by frames where need be.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest, server::SendResponse};
use http::{HeaderMap, Request};
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

use crate::{
    common::PATIENCE,
    talk::{Peer, Talk},
};

/// A request as the server sees it, and the way to answer.
pub type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// One connection to the server.
pub struct Server {
    requests: mpsc::Receiver<Asked>,
    leave: Arc<Notify>,
    driver: tokio::task::JoinHandle<()>,
}

/// Kinds of frames, RFC 9113 section 6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Server {
    pub async fn on(peer: Peer) -> Self {
        let handshake = timeout(PATIENCE, h2::server::handshake(peer.stream)).await;
        Self::drive(handshake.expect("a handshake").unwrap())
    }

    /// One that allows connections to become other things, RFC 8441.
    pub async fn with_connect_protocol(peer: Peer) -> Self {
        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        Self::built(&builder, peer).await
    }

    pub async fn built(builder: &h2::server::Builder, peer: Peer) -> Self {
        let handshake = builder.handshake(peer.stream);
        Self::drive(
            timeout(PATIENCE, handshake)
                .await
                .expect("a handshake")
                .unwrap(),
        )
    }

    fn drive(mut connection: h2::server::Connection<tokio::net::TcpStream, Bytes>) -> Self {
        let (tell, requests) = mpsc::channel(1000);
        let leave = Arc::new(Notify::new());
        let leaving = leave.clone();
        let driver = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = leaving.notified() => connection.graceful_shutdown(),
                    asked = connection.accept() => match asked {
                        // The test may be over.
                        Some(Ok(asked)) => { let _ = tell.send(asked).await; }
                        Some(Err(_)) | None => return,
                    }
                }
            }
        });
        Self {
            requests,
            leave,
            driver,
        }
    }

    /// The next request; none when the connection has ended.
    pub async fn next(&mut self) -> Option<Asked> {
        self.requests.recv().await
    }

    pub async fn request(&mut self) -> Asked {
        let asked = timeout(PATIENCE, self.next()).await;
        asked
            .expect("a request arrives")
            .expect("the connection is open")
    }

    /// Closes the connection amid everything.
    pub fn abort(&self) {
        self.driver.abort();
    }

    /// Says GOAWAY; what is under way goes on.
    pub fn leave(&self) {
        self.leave.notify_one();
    }
}

/// A client's connection.
pub async fn client(talk: &Talk) -> SendRequest<Bytes> {
    let stream = talk.client().await.stream;
    let (sender, connection) = timeout(PATIENCE, h2::client::handshake(stream))
        .await
        .unwrap()
        .unwrap();
    tokio::spawn(async move {
        // Its requests tell of what breaks.
        let _ = connection.await;
    });
    sender.ready().await.unwrap()
}

pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://web.ns{path}"))
        .body(())
        .unwrap()
}

pub fn post(path: &str) -> Request<()> {
    Request::post(format!("http://web.ns{path}"))
        .body(())
        .unwrap()
}

/// All of a body and its trailers.
pub async fn collect(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let collect = async {
        let mut all = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            all.extend_from_slice(&chunk);
        }
        Ok((all, body.trailers().await?))
    };
    timeout(PATIENCE, collect)
        .await
        .expect("an end of the body")
}

/// Sends `bytes` as the other side takes them.
pub async fn send_all(stream: &mut SendStream<Bytes>, bytes: Bytes, end: bool) {
    timeout(PATIENCE, send_some(stream, bytes, end))
        .await
        .expect("taken in time");
}

async fn send_some(stream: &mut SendStream<Bytes>, mut bytes: Bytes, end: bool) {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let n = std::future::poll_fn(|cx| stream.poll_capacity(cx))
            .await
            .unwrap()
            .unwrap();
        let piece = bytes.split_to(n.min(bytes.len()));
        let is_last = end && bytes.is_empty();
        stream.send_data(piece, is_last).unwrap();
    }
}

/// Sends until nobody takes more for a while; returns how many bytes were taken.
pub async fn send_until_stuck(stream: &mut SendStream<Bytes>, bytes_max: usize) -> usize {
    let chunk = Bytes::from(vec![7; 64 * 1024]);
    let mut sent = 0;
    while sent < bytes_max {
        let send = send_some(stream, chunk.clone(), false);
        if timeout(Duration::from_millis(300), send).await.is_err() {
            break;
        }
        sent += chunk.len();
    }
    sent
}

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), content].concat()
}

/// The head of a GET: `:method`, `:scheme`, `:path` of the static table, and `:authority`.
pub fn get_head() -> Vec<u8> {
    [&[0x82, 0x86, 0x84, 0x41, 6][..], b"web.ns"].concat()
}

/// A client that speaks frames; it has said hello.
pub async fn raw_client(talk: &Talk) -> Peer {
    let mut client = talk.client().await;
    client
        .send([PREFACE.as_bytes(), &frame(SETTINGS, 0, 0, &[])].concat())
        .await;
    client
}
