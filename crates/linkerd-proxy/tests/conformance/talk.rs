//! A conversation through proxies: the test plays the client and the server, byte by byte.
//! Entry: [`on_each_way`].

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use crate::{
    common::{Endpoint, Mesh, PATIENCE, SERVICE, mesh},
    message::{self, Message, Stop},
};

/// A server's shortest answer.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What is between the client and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Two proxies and mutual TLS.
    Both,
    /// The client's proxy alone, in plaintext.
    Outbound,
    /// The server's proxy alone, in plaintext.
    Inbound,
}

/// A server that waits for clients behind one or two proxies.
pub struct Talk {
    pub mesh: Mesh,
    pub way: Way,
    pub entrance: SocketAddr,
    /// Connections to the server on which something was said.
    pub servers: mpsc::Receiver<Peer>,
}

/// One end of a connection.
pub struct Peer {
    pub stream: TcpStream,
    /// Read, and not yet taken by the test.
    pub seen: Vec<u8>,
}

/// How the other side has ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Clean,
    Reset,
}

/// Runs `test` through two proxies, and through each alone.
pub async fn on_each_way(test: impl AsyncFn(Talk)) {
    for way in [Way::Both, Way::Outbound, Way::Inbound] {
        // Shown with a failure.
        eprintln!("way: {way:?}");
        test(Talk::start(way).await).await;
    }
}

impl Talk {
    pub async fn start(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let app = listener.local_addr().unwrap();
        let (arrived, servers) = mpsc::channel(64);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let arrived = arrived.clone();
                tokio::spawn(async move {
                    // A proxy may dial early and not need it: such a connection says nothing.
                    if let Ok(1) = stream.peek(&mut [0]).await {
                        // The test may be over.
                        let _ = arrived.send(Peer::new(stream)).await;
                    }
                });
            }
        });
        let mesh = mesh(app).await;
        let entrance = match way {
            Way::Both => mesh.client.outbound,
            Way::Inbound => mesh.server.inbound,
            Way::Outbound => {
                mesh.destination.set(SERVICE, &[Endpoint::plain(app)]);
                mesh.client.outbound
            }
        };
        Self {
            way,
            mesh,
            entrance,
            servers,
        }
    }

    /// A client's connection.
    pub async fn client(&self) -> Peer {
        Peer::connect(self.entrance).await
    }

    /// The next connection to the server on which something was said.
    pub async fn server(&mut self) -> Peer {
        let server = timeout(PATIENCE, self.servers.recv()).await;
        server.expect("a connection arrives").unwrap()
    }

    /// The next request, on `server` or on another connection, which then takes its place.
    pub async fn request(&mut self, server: &mut Peer) -> Message {
        while server.seen.is_empty() {
            tokio::select! {
                end = server.more() => if end.is_some() {
                    *server = self.server().await;
                },
                other = self.servers.recv() => *server = other.unwrap(),
            }
        }
        server.request().await
    }

    /// A client and the connection to the server that its requests use: one was answered already.
    pub async fn pair(&mut self) -> (Peer, Peer) {
        let first = "GET /first HTTP/1.1\r\nHost: web.ns\r\n\r\n";
        let (mut client, mut server) = self.open(first).await;
        server.request().await;
        server.send(OK).await;
        assert_eq!(client.response("GET").await.body, b"ok");
        (client, server)
    }

    /// A client that has said `bytes`, and the server that hears it on a new connection.
    pub async fn open(&mut self, bytes: impl AsRef<[u8]>) -> (Peer, Peer) {
        let mut client = self.client().await;
        client.send(bytes).await;
        let server = self.server().await;
        (client, server)
    }
}

impl Peer {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        let seen = Vec::new();
        Self { stream, seen }
    }

    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("sent in time").unwrap();
    }

    /// Sends what the other side takes before it closes.
    pub async fn send_in_vain(&mut self, bytes: impl AsRef<[u8]>) {
        // A failure is the close that is expected.
        let _ = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
    }

    /// Says that it will send no more.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Breaks the connection.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Reads more; the result says how it ended, if it did.
    pub async fn more(&mut self) -> Option<End> {
        match timeout(PATIENCE, self.stream.read_buf(&mut self.seen)).await {
            Ok(Ok(0)) => Some(End::Clean),
            Ok(Ok(_)) => None,
            Ok(Err(_)) => Some(End::Reset),
            Err(_) => panic!("silence after {}", self.seen.escape_ascii()),
        }
    }

    /// The next `n` bytes.
    pub async fn bytes(&mut self, n: usize) -> Vec<u8> {
        while self.seen.len() < n {
            let end = self.more().await;
            assert_eq!(end, None, "after {}", self.seen.escape_ascii());
        }
        self.seen.drain(..n).collect()
    }

    /// Asserts that the next bytes are `expected`.
    pub async fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let bytes = self.bytes(expected.len()).await;
        assert_eq!(
            bytes.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }

    /// Everything until the connection ends.
    pub async fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Some(end) = self.more().await {
                return (std::mem::take(&mut self.seen), end);
            }
        }
    }

    /// Asserts that nothing more comes, and that the end is not an error.
    pub async fn ends(&mut self) {
        let (rest, end) = self.rest().await;
        assert_eq!(
            (rest.escape_ascii().to_string().as_str(), end),
            ("", End::Clean)
        );
    }

    /// The next head: everything up to an empty line.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.seen.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = self.seen.drain(..at + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            let end = self.more().await;
            assert_eq!(end, None, "after {}", self.seen.escape_ascii());
        }
    }

    /// The next request.
    pub async fn request(&mut self) -> Message {
        loop {
            match message::request(&self.seen) {
                Ok((message, n)) => {
                    self.seen.drain(..n);
                    return message;
                }
                Err(Stop::Incomplete) => {
                    let end = self.more().await;
                    assert_eq!(end, None, "after {}", self.seen.escape_ascii());
                }
                Err(stop) => panic!("{stop:?} in {}", self.seen.escape_ascii()),
            }
        }
    }

    /// The next response, which may be an informational one; `to` is its request's method.
    pub async fn any_response(&mut self, to: &str) -> Message {
        let mut ended = false;
        loop {
            match message::response(&self.seen, to, ended) {
                Ok((message, n)) => {
                    self.seen.drain(..n);
                    return message;
                }
                Err(Stop::Incomplete) if !ended => {
                    let end = self.more().await;
                    assert_ne!(end, Some(End::Reset), "after {}", self.seen.escape_ascii());
                    ended = end.is_some();
                }
                Err(stop) => panic!("{stop:?} in {}", self.seen.escape_ascii()),
            }
        }
    }

    /// The next final response to a request with the method `to`.
    pub async fn response(&mut self, to: &str) -> Message {
        loop {
            let message = self.any_response(to).await;
            if message.status() == 101 || message.status() >= 200 {
                return message;
            }
        }
    }

    /// Answers GETs on this connection with their path until it ends.
    pub async fn answer_with_paths(mut self) {
        loop {
            while let Ok((message, n)) = message::request(&self.seen) {
                self.seen.drain(..n);
                let path = message.line.split(' ').nth(1).unwrap();
                let length = path.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{path}");
                if self.stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            if !matches!(self.stream.read_buf(&mut self.seen).await, Ok(1..)) {
                return;
            }
        }
    }
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: web.ns\r\n\r\n")
}

/// A pause in which a proxy has the time to do something wrong.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
