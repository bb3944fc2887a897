//! Bodies on their way: frames pass through as they come, their ends are counted.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{classify, pool::Lease};
use crate::{
    balance::Pending,
    breaker::Outcome,
    metrics::{Classification, Route},
    tap::Tapped,
};

/// A request's body. Counts the request when it ends or is dropped.
pub(crate) struct RequestBody {
    inner: Option<Incoming>,
    route: Arc<Route>,
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, route: Arc<Route>) -> Self {
        Self {
            inner: Some(inner),
            route,
        }
    }

    /// Takes the body of a request that was not sent; it is not counted.
    pub(super) fn take(mut self) -> Option<Incoming> {
        self.inner.take()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.inner.is_some() {
            self.route.request_ended();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        Pin::new(inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// A response's body. Counts the response when it ends, breaks or is dropped, and then gives the
/// connection back.
pub(crate) struct ResponseBody {
    inner: Option<Incoming>,
    record: Option<Record>,
    lease: Option<Lease>,
}

/// What is known of a response so far.
pub(super) struct Record {
    pub(super) route: Arc<Route>,
    pub(super) status: StatusCode,
    pub(super) grpc_status: Option<u16>,
    pub(super) started: Instant,
    pub(super) first_data: Option<Duration>,
    pub(super) pending: Pending,
    /// None when nobody watches.
    pub(super) tapped: Option<Box<Tapped>>,
}

impl ResponseBody {
    /// The body of an answer of the proxy itself.
    pub(super) fn empty() -> Self {
        Self {
            inner: None,
            record: None,
            lease: None,
        }
    }

    pub(super) fn new(inner: Incoming, record: Record, lease: Option<Lease>) -> Self {
        let mut body = Self {
            inner: Some(inner),
            record: Some(record),
            lease,
        };
        if body.inner.as_ref().is_some_and(Body::is_end_stream) {
            body.end();
        }
        body
    }

    fn end(&mut self) {
        if let Some(mut record) = self.record.take() {
            if let Some(tapped) = record.tapped.take() {
                tapped.ended(record.grpc_status);
            }
            record.close(false);
        }
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Record {
    pub(super) fn close(mut self, broken: bool) {
        self.answered();
        let outcome = match broken {
            true => Outcome::Failure,
            false => classify::outcome(self.status, self.grpc_status),
        };
        self.pending.answered(outcome, Instant::now());
        let latency = self.first_data.unwrap_or_default();
        if broken {
            let status = StatusCode::INTERNAL_SERVER_ERROR.as_u16();
            self.route
                .response_ended(Classification::Failure, status, self.grpc_status, latency);
        } else {
            let classification = classify::classify(self.status, self.grpc_status);
            let status = self.status.as_u16();
            self.route
                .response_ended(classification, status, self.grpc_status, latency);
        }
    }

    pub(super) fn answered(&mut self) {
        if self.first_data.is_none() {
            let now = Instant::now();
            self.first_data = Some(now - self.started);
            match classify::outcome(self.status, self.grpc_status) {
                Outcome::Failure => self.pending.answered(Outcome::Failure, now),
                _ => self.pending.first_data(now),
            }
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // The client went away: what the server had said so far counts.
        if let Some(record) = self.record.take() {
            record.close(false);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *inner).poll_frame(cx));
        let ended = inner.is_end_stream();
        match &frame {
            Some(Ok(frame)) => {
                if let Some(record) = &mut this.record {
                    record.answered();
                    if let Some(tapped) = &mut record.tapped {
                        tapped.frame(frame);
                    }
                    if let Some(trailers) = frame.trailers_ref() {
                        record.grpc_status = classify::grpc_status(trailers).or(record.grpc_status);
                    }
                }
                if ended {
                    this.end();
                }
            }
            Some(Err(error)) => {
                if let Some(mut record) = this.record.take() {
                    if let Some(tapped) = record.tapped.take() {
                        tapped.broken(error);
                    }
                    record.close(true);
                }
                this.lease = None;
            }
            None => this.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
