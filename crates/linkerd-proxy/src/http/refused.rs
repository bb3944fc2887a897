//! Requests that an endpoint has certainly not processed although they were sent: RFC 9113 section 8.7.
//! Entry: [`Kept::of`] before a request is sent, [`refusal`] when it has failed.

use std::{error::Error, sync::Arc};

use http::{Request, request::Parts};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::body::{RequestBody, Unsent};
use crate::metrics::Route;

/// How an endpoint has refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// By REFUSED_STREAM.
    Stream,
    /// By a GOAWAY that does not include it.
    GoAway,
}

/// Whether `error`, or what it comes from, is a refusal. Only to be asked of requests without an answer.
pub(super) fn refusal(error: &(dyn Error + 'static)) -> Option<Refusal> {
    let mut cause = Some(error);
    let error = loop {
        match cause?.downcast_ref::<h2::Error>() {
            Some(error) => break error,
            None => cause = cause?.source(),
        }
    };
    if !error.is_remote() {
        return None;
    }
    // Streams that a GOAWAY includes end in other errors.
    if error.is_go_away() {
        return Some(Refusal::GoAway);
    }
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    is_refused.then_some(Refusal::Stream)
}

/// What is needed to send a request a second time.
pub(super) struct Kept {
    head: Parts,
    body: oneshot::Receiver<RequestBody>,
}

impl Kept {
    /// The request to be sent, and what is kept of it.
    pub(super) fn of(
        request: Request<Unsent>,
        route: Arc<Route>,
        bytes_max: usize,
    ) -> (Request<RequestBody>, Self) {
        let (head, body) = request.into_parts();
        let (sent, body) = RequestBody::kept(body, route, bytes_max);
        let kept = Self {
            head: head.clone(),
            body,
        };
        (Request::from_parts(head, sent), kept)
    }

    /// The request as it was; none when more of its body was read than is kept.
    pub(super) async fn back(self, deadline: Instant) -> Option<Request<Unsent>> {
        let Self { head, body } = self;
        // It comes when the failed stream lets go of it.
        let body = timeout_at(deadline, body).await.ok()?.ok()?;
        Some(Request::from_parts(head, body.take()?))
    }
}
