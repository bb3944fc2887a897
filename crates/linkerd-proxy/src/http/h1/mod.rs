//! HTTP/1 connections of clients: one request after the other, each to an endpoint, and its answer
//! back. Entry: [`serve`]. Heads are read and written anew, bodies pass as they come; nothing is
//! allocated or locked for a request that a connection's next one would need again.

mod chunks;
mod exchange;
mod head;
mod pump;
mod upload;
mod watch;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::StatusCode;
use tokio::{
    io::AsyncWriteExt,
    time::{Sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::forward::{Destination, Forward, Known};
use crate::{endpoints::Endpoints, io::Socket};
use head::Request;

/// So long what a client still sends is read after it was answered: closing at once would reset the
/// connection, and the answer with it.
const LINGER: Duration = Duration::from_secs(2);

/// A client's connection.
struct Connection {
    client: Socket,
    forward: Forward,
    /// The application, when that is where requests go.
    application: Option<Endpoints>,
    /// The counters of the last request; the next one is likely to have the same.
    known: Option<Known>,
    /// A head on its way out.
    out: Vec<u8>,
    idle_since: Instant,
    begun: Begun,
    timer: Option<Pin<Box<Sleep>>>,
}

/// A head that is not complete yet.
#[derive(Default)]
struct Begun {
    /// When its first byte was there.
    at: Option<Instant>,
    /// So many bytes of it are known not to hold its end.
    looked_at: usize,
}

/// What follows a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The connection is ready for another one.
    Request,
    /// The connection has nothing more to say; its client may still be talking.
    Close,
    /// The connection is of no use any more.
    Drop,
}

/// What a client has sent.
enum Arrived {
    Request(Request),
    /// Something that is answered with an error.
    Refused(StatusCode),
    /// It has ended, or was silent for too long, or is to end.
    Nothing,
}

/// Serves requests until the client closes, or after `drain` until the one under way is done.
pub(super) fn serve(
    client: Socket,
    forward: Forward,
    drain: CancellationToken,
) -> impl Future<Output = ()> + Send {
    let application = match &forward.destination {
        Destination::Application(endpoint, _) => Some(Endpoints::original(endpoint.clone())),
        Destination::Target(_) => None,
    };
    let connection = Connection {
        client,
        forward,
        application,
        known: None,
        out: Vec::new(),
        idle_since: Instant::now(),
        begun: Begun::default(),
        timer: None,
    };
    run(connection, drain)
}

async fn run(mut connection: Connection, drain: CancellationToken) {
    let mut drained = pin!(drain.cancelled());
    loop {
        connection.begun = Begun::default();
        let arrived = poll_fn(|cx| connection.poll_request(cx, drained.as_mut())).await;
        let next = match arrived {
            Arrived::Request(request) => {
                // Boxed, so that an idle connection does not keep room for it.
                Box::pin(connection.exchange(request, &drain)).await
            }
            Arrived::Refused(status) => Box::pin(connection.refuse(status)).await,
            Arrived::Nothing => return,
        };
        match next {
            Next::Request => {}
            Next::Close => return Box::pin(connection.linger()).await,
            Next::Drop => return,
        }
    }
}

impl Connection {
    /// Waits for the head of a request, which is then in `out` as it goes on.
    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        mut drained: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Arrived> {
        let head_bytes_max = self.forward.shared.config.limits.h1_head_bytes_max;
        loop {
            // Empty lines before a request are none of it: RFC 9112 section 2.2.
            while let [b'\n', ..] | [b'\r', b'\n', ..] = self.client.seen() {
                self.client.consume(1);
                self.begun = Begun::default();
            }
            let looked_at = self.begun.looked_at;
            let seen = self.client.seen();
            // A head that comes in pieces is looked at again only when its end may be there.
            if looked_at == 0 && !seen.is_empty() || may_end(seen, looked_at) {
                self.out.clear();
                match head::request(seen, &mut self.out) {
                    Ok(Some(request)) if request.bytes <= head_bytes_max => {
                        return Poll::Ready(Arrived::Request(request));
                    }
                    Ok(Some(_)) => {
                        return Poll::Ready(Arrived::Refused(
                            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                        ));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        debug!(%error, "a request is refused");
                        return Poll::Ready(Arrived::Refused(StatusCode::BAD_REQUEST));
                    }
                }
            }
            if seen.len() > head_bytes_max {
                return Poll::Ready(Arrived::Refused(
                    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                ));
            }
            self.begun.looked_at = seen.len();
            match self.client.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => return Poll::Ready(Arrived::Nothing),
                Poll::Ready(Err(error)) => {
                    debug!(%error, "a client connection broke");
                    return Poll::Ready(Arrived::Nothing);
                }
                Poll::Pending => {
                    self.client.rest();
                    break;
                }
            }
        }
        let is_idle = self.client.seen().is_empty();
        if is_idle {
            self.out = Vec::new();
            if drained.as_mut().poll(cx).is_ready() {
                // A request may be under way.
                self.client.refuse();
                return Poll::Ready(Arrived::Nothing);
            }
        }
        self.poll_timer(cx, is_idle)
    }

    /// A client may be idle for long, but has to finish what it begins. The timer runs from one
    /// request to the next and is looked at only when it fires.
    fn poll_timer(&mut self, cx: &mut Context<'_>, is_idle: bool) -> Poll<Arrived> {
        let limits = &self.forward.shared.config.limits;
        let until = match (is_idle, &self.application) {
            (false, _) => {
                let begun = self.begun.at.get_or_insert_with(Instant::now);
                *begun + limits.h1_partial_head_timeout
            }
            (true, Some(_)) => self.idle_since + limits.h1_idle_timeout,
            // Applications of this pod may keep their connections as long as they like.
            (true, None) => return Poll::Pending,
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until.into())));
        if timer.deadline() > until.into() {
            timer.as_mut().reset(until.into());
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(match is_idle {
                    true => Arrived::Nothing,
                    false => Arrived::Refused(StatusCode::REQUEST_TIMEOUT),
                });
            }
            timer.as_mut().reset(until.into());
        }
        Poll::Pending
    }

    /// Answers what is no request, and ends.
    async fn refuse(&mut self, status: StatusCode) -> Next {
        self.out.clear();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",);
        match self.client.write_all(head.as_bytes()).await {
            Ok(()) => Next::Close,
            Err(_) => Next::Drop,
        }
    }

    /// Ends our side and waits a little for the client to end its own.
    async fn linger(&mut self) {
        let end = async {
            self.client.shutdown().await?;
            loop {
                let n = self.client.seen().len();
                self.client.consume(n);
                if self.client.fill().await? == 0 {
                    return std::io::Result::Ok(());
                }
            }
        };
        match timeout(LINGER, end).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "a client connection broke at its end"),
            Err(_) => debug!("a client went on talking after its answer"),
        }
    }
}

/// Whether the end of a head, or of trailers, may lie in `bytes`, of which those before `looked_at` hold none.
fn may_end(bytes: &[u8], looked_at: usize) -> bool {
    let from = looked_at.saturating_sub(3);
    let new = &bytes[from..];
    new.windows(2).any(|two| two == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}
