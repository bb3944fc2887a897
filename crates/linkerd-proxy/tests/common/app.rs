//! Applications.

use std::{convert::Infallible, future::Future, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

pub type Body = BoxBody<Bytes, Infallible>;

/// Runs `serve` for each connection to a free port.
pub async fn tcp<F, S>(serve: S) -> SocketAddr
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    tcp_at("127.0.0.2:0", serve).await
}

/// Runs `serve` for each connection to `address`.
pub async fn tcp_at<F, S>(address: &str, serve: S) -> SocketAddr
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Sends back what comes.
pub async fn echo() -> SocketAddr {
    echo_at("127.0.0.2:0").await
}

pub async fn echo_at(address: &str) -> SocketAddr {
    tcp_at(address, |mut stream| async move {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await
}

/// Greets before the client has said a word, then sends back what comes.
pub async fn greeter() -> SocketAddr {
    greeter_at("127.0.0.2:0").await
}

pub async fn greeter_at(address: &str) -> SocketAddr {
    tcp_at(address, |mut stream| async move {
        if stream.write_all(b"220 hello\r\n").await.is_ok() {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        }
    })
    .await
}

/// HTTP/1.1 by `answer`.
pub async fn http1<F, S>(answer: S) -> SocketAddr
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    tcp(move |stream| {
        let answer = answer.clone();
        async move {
            let service = service_fn(move |request| {
                let response = answer(request);
                async move { Ok::<_, Infallible>(response.await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .preserve_header_case(true)
                .half_close(true)
                .auto_date_header(false)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        }
    })
    .await
}

/// HTTP/2 by `answer`.
pub async fn http2<F, S>(answer: S) -> SocketAddr
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    tcp(move |stream| {
        let answer = answer.clone();
        async move {
            let service = service_fn(move |request| {
                let response = answer(request);
                async move { Ok::<_, Infallible>(response.await) }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

pub fn full(text: &str) -> Body {
    http_body_util::Full::from(text.to_owned()).boxed()
}

/// Chunks and then trailers.
pub fn frames(chunks: &[&str], trailers: &[(&'static str, &str)]) -> Body {
    let mut frames: Vec<Result<Frame<Bytes>, Infallible>> = chunks
        .iter()
        .map(|chunk| Ok(Frame::data(Bytes::from((*chunk).to_owned()))))
        .collect();
    if !trailers.is_empty() {
        let map: HeaderMap = trailers
            .iter()
            .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
            .collect();
        frames.push(Ok(Frame::trailers(map)));
    }
    BodyExt::boxed(StreamBody::new(tokio_stream::iter(frames)))
}

/// A client's HTTP/2 connection through `address`.
pub async fn http2_client(address: SocketAddr) -> hyper::client::conn::http2::SendRequest<Body> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}
