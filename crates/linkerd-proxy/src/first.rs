//! Who speaks first on a connection. Entry: [`who_speaks`].
//! Reads the client while, if it is silent, the server is dialled and listened to as well, so that
//! nobody waits for anybody: the first bytes of either side decide.

use std::{io, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{io::Socket, tls::connect::Connected};

/// First byte of a TLS handshake.
const CLIENT_HELLO: u8 = 22;

/// What has happened first.
pub(crate) enum First<V, E> {
    /// The client's bytes decide. No verdict: they are nothing that we know, or they ended.
    Client {
        verdict: Option<V>,
        /// The dialled server, when the client was silent long enough.
        server: Option<Connected>,
    },
    /// The server spoke or closed while the client was silent.
    Server(Connected),
    /// The client stayed silent, and the server cannot be reached.
    Unreachable(E),
}

/// Bounds of the decision.
pub(crate) struct Bounds {
    /// After so many bytes the client has no verdict.
    pub(crate) bytes_max: usize,
    /// After so long with bytes that could become something the client has no verdict.
    pub(crate) partial_timeout: Duration,
    /// The same for the first part of a ClientHello: no server answers one before it is complete, so
    /// patience costs nothing, and the part of a mesh handshake must not reach the application.
    pub(crate) hello_timeout: Duration,
    /// So long the dial waits for the client. Zero unless clients here are known to speak first.
    pub(crate) dial_delay: Duration,
    /// So long a client may still speak after the dial has failed: it gets an answer that says why,
    /// and a mesh handshake is not mistaken for one that was refused.
    pub(crate) unreachable_grace: Duration,
}

/// Waits for the first bytes of either side; `judge` decides about the client's.
///
/// # Errors
/// When the client's connection broke.
pub(crate) async fn who_speaks<V, E>(
    client: &mut Socket,
    judge: impl Fn(&[u8]) -> Option<V>,
    dial: impl Future<Output = Result<Connected, E>>,
    bounds: &Bounds,
) -> io::Result<First<V, E>> {
    let mut dial = std::pin::pin!(dial);
    let mut dialling = true;
    let mut failed: Option<(E, Instant)> = None;
    let mut waiting = !bounds.dial_delay.is_zero();
    let dial_at = Instant::now() + bounds.dial_delay;
    let mut partial_until: Option<Instant> = None;
    let mut server: Option<Connected> = None;
    loop {
        if let Some(verdict) = judge(client.seen()) {
            return Ok(First::Client {
                verdict: Some(verdict),
                server,
            });
        }
        if client.seen().len() >= bounds.bytes_max {
            return Ok(First::Client {
                verdict: None,
                server,
            });
        }
        tokio::select! {
            biased;
            read = client.fill() => {
                if read? == 0 {
                    return Ok(First::Client { verdict: None, server });
                }
                let patience = match client.seen() {
                    [CLIENT_HELLO, ..] => bounds.hello_timeout,
                    _ => bounds.partial_timeout,
                };
                partial_until.get_or_insert_with(|| Instant::now() + patience);
            }
            connected = &mut dial, if dialling && !waiting => {
                dialling = false;
                match connected {
                    Ok(connected) => server = Some(connected),
                    Err(error) => failed = Some((error, Instant::now() + bounds.unreachable_grace)),
                }
            }
            () = sleep_until(failed.as_ref().map_or(dial_at, |(_, until)| *until)),
                if failed.is_some() && client.seen().is_empty() =>
            {
                let (error, _) = failed.expect("the branch is on only with an error");
                return Ok(First::Unreachable(error));
            }
            read = fill(&mut server), if server.is_some() => {
                // The end and errors are the server's word too: copying will pass them on.
                drop(read);
                return Ok(First::Server(server.expect("only a server that is there is read")));
            }
            () = sleep_until(dial_at), if waiting => waiting = false,
            () = sleep_until(partial_until.unwrap_or(dial_at)), if partial_until.is_some() => {
                return Ok(First::Client { verdict: None, server });
            }
        }
    }
}

async fn fill(server: &mut Option<Connected>) -> io::Result<usize> {
    match server {
        Some(connected) => connected.socket.fill().await,
        None => std::future::pending().await,
    }
}
