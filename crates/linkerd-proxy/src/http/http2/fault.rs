//! Why a request or a response did not come to its end. Entry: [`Fault`].

use std::io;

use h2::Reason;

use super::message::Malformed;
use crate::mux;

/// What has broken one side of an exchange.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// A connection of HTTP/2, or one stream of it.
    #[error(transparent)]
    Http2(#[from] h2::Error),
    /// The proxy at the other end has given the stream up, for its own peer.
    #[error("stream reset by the peer's proxy: {0}")]
    Reset(Reason),
    /// The proxy at the other end takes no more streams; it has not looked at this one.
    #[error("the peer's proxy takes no more streams")]
    Refused,
    /// The connection to the proxy at the other end.
    #[error(transparent)]
    Connection(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// HTTP/1 that was carried in HTTP/2.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
}

/// How a request was refused that has certainly not been processed: RFC 9113 section 8.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// By REFUSED_STREAM.
    Stream,
    /// By a GOAWAY that does not include it.
    GoAway,
}

impl Fault {
    /// What has broken `stream`, of which `error` came.
    pub(super) fn of(stream: &mux::Stream, error: io::Error) -> Self {
        match stream.was_reset() {
            Some(reset) => reset.into(),
            None => Self::Connection(error),
        }
    }

    /// Whether the request was refused. Only to be asked of requests without an answer.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused => Some(Refusal::Stream),
            // Streams that a GOAWAY includes end in other errors.
            Self::Http2(error) if error.is_remote() && error.is_go_away() => Some(Refusal::GoAway),
            _ if self.reset() == Some(Reason::REFUSED_STREAM) => Some(Refusal::Stream),
            _ => None,
        }
    }

    /// The reason for which the peer has reset the stream, if it has.
    pub(crate) fn reset(&self) -> Option<Reason> {
        match self {
            Self::Reset(reason) => Some(*reason),
            Self::Refused => Some(Reason::REFUSED_STREAM),
            Self::Http2(error) if error.is_remote() && error.is_reset() => error.reason(),
            _ => None,
        }
    }

    /// What the other side of the exchange is told.
    pub(crate) fn reason(&self) -> Reason {
        let reason = match self {
            Self::Http2(error) if error.is_reset() => error.reason(),
            _ => self.reset(),
        };
        // Some take a body that ends without an error for a whole one.
        let is_error = |reason: &Reason| *reason != Reason::NO_ERROR;
        reason.filter(is_error).unwrap_or(Reason::INTERNAL_ERROR)
    }
}

impl From<mux::Reset> for Fault {
    fn from(reset: mux::Reset) -> Self {
        match reset.reason {
            mux::Reason::Refused => Self::Refused,
            mux::Reason::Aborted => Self::Reset(reset.code.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peers_proxy_says_is_told_apart() {
        let aborted = |reason: Reason| {
            Fault::from(mux::Reset {
                reason: mux::Reason::Aborted,
                code: reason.into(),
            })
        };
        let refused = Fault::from(mux::Reset {
            reason: mux::Reason::Refused,
            code: 8,
        });
        for (fault, refusal, reset) in [
            (refused, Some(Refusal::Stream), Some(Reason::REFUSED_STREAM)),
            (
                aborted(Reason::REFUSED_STREAM),
                Some(Refusal::Stream),
                Some(Reason::REFUSED_STREAM),
            ),
            (aborted(Reason::CANCEL), None, Some(Reason::CANCEL)),
            (
                Fault::from(io::Error::from(io::ErrorKind::ConnectionReset)),
                None,
                None,
            ),
        ] {
            assert_eq!(fault.refusal(), refusal, "{fault}");
            assert_eq!(fault.reset(), reset, "{fault}");
        }
    }
}
