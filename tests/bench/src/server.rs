//! Servers that should never be the bottleneck: HTTP/1.1 and HTTP/2 with a fixed body, and the gRPC
//! service, all on one thread.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpSocket};

use crate::{MARKER, ping};

/// Bytes of an answer's body.
const BODY_BYTES: usize = 100;
/// Connections that wait to be accepted; a burst of new ones must not meet a full queue.
const BACKLOG: u32 = 4096;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to serve HTTP/1.1 and HTTP/2
    #[arg(long)]
    http: Vec<SocketAddr>,
    /// Where to serve gRPC
    #[arg(long)]
    grpc: SocketAddr,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let Args { http, grpc } = args;
    for address in http {
        let listener = listen(address)?;
        tokio::spawn(serve_http(listener));
    }
    ping::serve(listen(grpc)?).await
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket
        .bind(address)
        .with_context(|| format!("cannot bind {address}"))?;
    Ok(socket.listen(BACKLOG)?)
}

async fn serve_http(listener: TcpListener) {
    let body = Bytes::from(format!("{MARKER:-<BODY_BYTES$}"));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("cannot accept: {error}");
                continue;
            }
        };
        let body = body.clone();
        tokio::spawn(async move {
            let answer = service_fn(|_| {
                let body = Full::new(body.clone());
                async { Ok::<_, Infallible>(Response::new(body)) }
            });
            let served = async {
                stream.set_nodelay(true)?;
                auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), answer)
                    .await
            };
            // Clients go amid a connection in some measures; it is they who count errors.
            drop(served.await);
        });
    }
}
