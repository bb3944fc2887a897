//! Passes the bytes of a client and its server on, both ways. Entries: [`join`]; [`join_tapped`] where
//! somebody may watch.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use crate::{
    io::{PassError, Socket},
    metrics::Peer,
    tap,
};

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
/// breaks both are reset: an orderly end would tell the other side that everything has been said.
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
            .map_err(|error| broken(error, Peer::Source, Peer::Destination))?;
        let other = poll_way(cx, server, client, &mut back, &mut carried.from_server)
            .map_err(|error| broken(error, Peer::Destination, Peer::Source))?;
        match one.is_ready() && other.is_ready() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    })
    .await;
    if result.is_err() {
        client.reset_when_dropped();
        server.reset_when_dropped();
    }
    result
}

fn broken(error: PassError, from: Peer, to: Peer) -> Broken {
    match error {
        PassError::Read(error) => Broken { by: from, error },
        PassError::Write(error) => Broken { by: to, error },
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
