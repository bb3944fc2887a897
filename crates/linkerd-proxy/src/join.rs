//! Passes the bytes of a client and its server on, both ways. Entries: [`join`]; [`join_tapped`] where
//! somebody may watch.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{io::AsyncWrite, time::timeout};
use tracing::debug;

use crate::{
    io::{PassError, Socket},
    metrics::Peer,
    tap,
};

/// How long the other side may take to hear what was said before a connection broke.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Bytes that have come from both sides.
#[derive(Default)]
pub(crate) struct Carried {
    pub(crate) from_client: u64,
    pub(crate) from_server: u64,
}

/// A connection broke.
#[derive(Debug, thiserror::Error)]
#[error("{by:?}: {error}")]
pub(crate) struct Broken {
    /// At this end.
    pub(crate) by: Peer,
    pub(crate) error: io::Error,
    /// The server had said something.
    pub(crate) heard: bool,
}

/// As [`join`], and tells those who watch how it has ended.
///
/// # Errors
/// The first error of either side.
pub(crate) async fn join_tapped(
    client: &mut Socket,
    server: &mut Socket,
    mut tapped: Option<Box<tap::Connection>>,
) -> Result<(), Broken> {
    let mut unwatched = Carried::default();
    let carried = match &mut tapped {
        Some(tapped) => &mut tapped.carried,
        None => &mut unwatched,
    };
    let result = join(client, server, carried).await;
    if let Some(tapped) = tapped {
        tapped.closed(&result);
    }
    result
}

/// Copies until both sides have ended; the end of one side is passed on while the other goes on. When either
/// breaks both are reset: an orderly end would tell the other side that everything has been said. Before that
/// the other side hears what was said.
///
/// # Errors
/// The first error of either side.
pub(crate) async fn join(
    client: &mut Socket,
    server: &mut Socket,
    carried: &mut Carried,
) -> Result<(), Broken> {
    let (mut there, mut back) = (Way::Open, Way::Open);
    carried.from_client += client.seen().len() as u64;
    carried.from_server += server.seen().len() as u64;
    let result = poll_fn(|cx| {
        let one = poll_way(cx, client, server, &mut there, &mut carried.from_client)
            .map_err(|error| (Peer::Source, error))?;
        let other = poll_way(cx, server, client, &mut back, &mut carried.from_server)
            .map_err(|error| (Peer::Destination, error))?;
        match one.is_ready() && other.is_ready() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    })
    .await;
    let Err((from, error)) = result else {
        return Ok(());
    };
    let (by, error) = match (from, error) {
        (by, PassError::Read(error)) => (by, error),
        (Peer::Source, PassError::Write(error)) => {
            Box::pin(pass_rest(server, client, &mut carried.from_server)).await;
            (Peer::Destination, error)
        }
        (Peer::Destination, PassError::Write(error)) => {
            Box::pin(pass_rest(client, server, &mut carried.from_client)).await;
            (Peer::Source, error)
        }
    };
    client.reset_when_dropped();
    server.reset_when_dropped();
    Err(Broken {
        by,
        error,
        heard: carried.from_server > 0,
    })
}

/// Passes on what has come of a side that takes nothing more; not its end, which may be the kernel's word for
/// a break that it has told already.
async fn pass_rest(from: &mut Socket, to: &mut Socket, bytes: &mut u64) {
    let rest = poll_fn(|cx| {
        loop {
            while !from.seen().is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, from.seen())) {
                    Ok(written) => from.consume(written),
                    Err(_) => return Poll::Ready(()),
                }
            }
            match ready!(from.poll_pass(cx, to)) {
                Ok(n @ 1..) => *bytes += n as u64,
                Ok(0) | Err(_) => return Pin::new(&mut *to).poll_flush(cx).map(drop),
            }
        }
    });
    if timeout(LAST_WORDS, rest).await.is_err() {
        debug!("the last words of a connection that broke were not taken in time");
    }
}

/// One direction of a copy.
#[derive(PartialEq, Eq)]
enum Way {
    Open,
    /// The end has come and is to be passed on.
    Ended,
    Closed,
}

fn poll_way(
    cx: &mut Context<'_>,
    from: &mut Socket,
    to: &mut Socket,
    way: &mut Way,
    bytes: &mut u64,
) -> Poll<Result<(), PassError>> {
    loop {
        while !from.seen().is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, from.seen()));
            from.consume(written.map_err(PassError::Write)?);
        }
        match way {
            Way::Closed => return Poll::Ready(Ok(())),
            Way::Ended => {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(PassError::Write)?;
                *way = Way::Closed;
            }
            Way::Open => match from.poll_pass(cx, to) {
                Poll::Ready(Ok(0)) => *way = Way::Ended,
                Poll::Ready(Ok(n)) => *bytes += n as u64,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    from.rest();
                    ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(PassError::Write)?;
                    return Poll::Pending;
                }
            },
        }
    }
}
