//! The way back to who has asked: [`Reply`].

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, server::SendResponse};
use http::Response;

use super::{fault::Fault, sink::Sink, stream::Writer};

/// Takes one response.
pub(super) enum Reply {
    Http2(SendResponse<Bytes>),
    /// To a proxy of ours.
    Stream(Writer),
}

impl Reply {
    /// Sends the head of the response; `is_end`: there is nothing else.
    ///
    /// # Errors
    /// Who has asked is gone, or nobody could be told this.
    pub(super) fn respond(self, head: Response<()>, is_end: bool) -> Result<Sink, Fault> {
        match self {
            Self::Stream(mut writer) => {
                writer.response(&head, is_end);
                Ok(Sink::Stream(writer))
            }
            Self::Http2(mut reply) => match reply.send_response(head, is_end) {
                Ok(body) => Ok(Sink::Http2(body)),
                Err(error) => {
                    reply.send_reset(Reason::INTERNAL_ERROR);
                    Err(error.into())
                }
            },
        }
    }

    /// Tells that there will be no response.
    pub(super) fn reset(self, reason: Reason) {
        match self {
            Self::Http2(mut reply) => reply.send_reset(reason),
            Self::Stream(writer) => writer.reset(reason),
        }
    }

    /// Waits until who has asked does not want to know any more.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        match self {
            Self::Stream(writer) => writer.poll_reset(cx),
            Self::Http2(reply) => reply.poll_reset(cx).map(|reset| match reset {
                Ok(reason) => Fault::Reset(reason),
                Err(error) => error.into(),
            }),
        }
    }
}
