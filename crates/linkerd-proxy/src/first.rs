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
    /// So long after its arrival a client may still speak although the server has spoken. Zero where
    /// no mesh handshake is to be expected.
    pub(crate) hello_grace: Duration,
    /// The same for a server of HTTP/2: it speaks at once, but its client always speaks too.
    pub(crate) http2_grace: Duration,
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
    let arrived = Instant::now();
    let dial_at = arrived + bounds.dial_delay;
    let mut partial_until: Option<Instant> = None;
    let mut server: Option<Connected> = None;
    let mut server_first_at: Option<Instant> = None;
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
            read = fill(&mut server), if server.is_some() && server_first_at.is_none() => {
                // The end and errors are the server's word too: copying will pass them on.
                let spoke = read.is_ok_and(|bytes| bytes > 0);
                let seen = server.as_ref().map_or(&[][..], |connected| connected.socket.seen());
                server_first_at = Some(if spoke && begins_http2(seen) {
                    Instant::now() + bounds.http2_grace
                } else {
                    arrived + bounds.hello_grace
                });
            }
            () = sleep_until(server_first_at.unwrap_or(dial_at)), if server_first_at.is_some() => {
                return Ok(First::Server(server.expect("only a server that is there is read")));
            }
            () = sleep_until(dial_at), if waiting => waiting = false,
            () = sleep_until(partial_until.unwrap_or(dial_at)), if partial_until.is_some() => {
                return Ok(First::Client { verdict: None, server });
            }
        }
    }
}

/// Whether a server's first bytes are a SETTINGS frame of stream 0, RFC 9113 sections 3.4 and 6.5.
fn begins_http2(bytes: &[u8]) -> bool {
    const SETTINGS: u8 = 4;
    const SETTING_BYTES: usize = 6;
    match bytes {
        [high, middle, low, SETTINGS, 0, 0, 0, 0, 0, ..] => {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            length.is_multiple_of(SETTING_BYTES)
        }
        _ => false,
    }
}

async fn fill(server: &mut Option<Connected>) -> io::Result<usize> {
    match server {
        Some(connected) => connected.socket.fill().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_settings_frame_is_the_greeting_of_http2() {
        assert!(begins_http2(&[0, 0, 0, 4, 0, 0, 0, 0, 0]));
        assert!(begins_http2(&[
            0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100
        ]));
        // A greeting of MySQL: three bytes of length, a number, the protocol 10, the version.
        assert!(!begins_http2(b"\x4a\0\0\0\x0a8.0.36\0"));
        assert!(!begins_http2(b"220 mail ESMTP\r\n"));
        assert!(!begins_http2(&[0, 0, 0, 4]));
    }
}
