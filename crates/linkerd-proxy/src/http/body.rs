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
use tokio::sync::oneshot;

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
    /// Read in vain before, and to be sent before the rest.
    first: Option<Bytes>,
    keep: Option<Keep>,
    route: Arc<Route>,
}

/// A body of which nothing was sent, or nothing that counts.
pub(super) struct Unsent {
    inner: Incoming,
    first: Option<Bytes>,
}

impl From<Incoming> for Unsent {
    fn from(inner: Incoming) -> Self {
        Self { inner, first: None }
    }
}

/// What brings a body back that may have to be sent again.
struct Keep {
    back: oneshot::Sender<RequestBody>,
    first: Option<Bytes>,
    bytes_max: usize,
}

impl Keep {
    /// Whether all that was read, with `frame`, can still be sent again.
    fn takes(&mut self, frame: Option<&Result<Frame<Bytes>, hyper::Error>>) -> bool {
        let data = match frame {
            None => return true,
            Some(frame) => frame.as_ref().ok().and_then(Frame::data_ref),
        };
        match data {
            Some(data) if data.is_empty() => true,
            Some(data) if self.first.is_none() && data.len() <= self.bytes_max => {
                self.first = Some(data.clone());
                true
            }
            _ => false,
        }
    }
}

impl RequestBody {
    pub(super) fn new(body: Unsent, route: Arc<Route>) -> Self {
        let Unsent { inner, first } = body;
        Self {
            inner: Some(inner),
            first,
            keep: None,
            route,
        }
    }

    /// The same, and what gives it back whole once nobody sends it any more. The receiver's error means
    /// that more was read of it than is kept: one frame of data of at most `bytes_max`.
    pub(super) fn kept(
        body: Unsent,
        route: Arc<Route>,
        bytes_max: usize,
    ) -> (Self, oneshot::Receiver<Self>) {
        let (back, kept) = oneshot::channel();
        let mut body = Self::new(body, route);
        body.keep = Some(Keep {
            back,
            first: None,
            bytes_max,
        });
        (body, kept)
    }

    /// Takes the body of a request that was not sent; it is not counted.
    pub(super) fn take(mut self) -> Option<Unsent> {
        let first = self.first.take();
        let inner = self.inner.take()?;
        Some(Unsent { inner, first })
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else {
            return;
        };
        let Some(Keep { back, first, .. }) = self.keep.take() else {
            self.route.request_ended();
            return;
        };
        let whole = Self {
            inner: Some(inner),
            first,
            keep: None,
            route: self.route.clone(),
        };
        // Nobody wants it when there is an answer; it is dropped here then, and counted by that.
        drop(back.send(whole));
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
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(inner).poll_frame(cx));
        if this
            .keep
            .as_mut()
            .is_some_and(|keep| !keep.takes(frame.as_ref()))
        {
            this.keep = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self
            .inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let first = self.first.as_ref().map_or(0, Bytes::len) as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + first);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + first);
        }
        hint
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
