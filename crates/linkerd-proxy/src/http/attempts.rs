//! The attempts of one request: which endpoints were tried, and whether it may be sent again. Entry:
//! [`Attempts::again`]. Knows nothing of how connections are made.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Instant,
};

use http::Request;
use hyper::client::conn::TrySendError;
use tokio::time::Instant as Deadline;
use tracing::debug;

use super::{
    body::{RequestBody, Unsent},
    error::ForwardError,
    forward::Forward,
    pool::{Carries, Streams},
    refused::{Kept, Refusal, refusal},
};
use crate::{
    balance::Pending,
    breaker::{Outcome, Readiness},
    endpoint::Endpoint,
    endpoints::Endpoints,
    tls::connect::ConnectError,
};

/// The endpoints of one request, and what became of those that were tried.
pub(super) struct Attempts {
    pub(super) carries: Carries,
    pub(super) endpoints: Endpoints,
    pub(super) tried: Vec<Arc<Endpoint>>,
    pub(super) last: Option<ConnectError>,
    /// An endpoint has refused the request; it is sent once more, and not by this connection.
    pub(super) was_refused: bool,
    pub(super) avoid: Weak<Streams>,
    pub(super) deadline: Deadline,
}

/// A request for which no answer has come.
pub(super) struct FailedSend {
    pub(super) pending: Pending,
    pub(super) reused: bool,
    pub(super) streams: Weak<Streams>,
    pub(super) kept: Option<Kept>,
}

impl Attempts {
    pub(super) fn new(
        forward: &Forward,
        carries: Carries,
        endpoints: Endpoints,
        started: Instant,
    ) -> Self {
        let limits = &forward.shared.config.limits;
        Self {
            carries,
            endpoints,
            tried: Vec::new(),
            last: None,
            was_refused: false,
            avoid: Weak::new(),
            deadline: Deadline::from_std(started + limits.bind_timeout),
        }
    }

    /// The endpoint that was tried last.
    pub(super) fn last(&self) -> Option<&Arc<Endpoint>> {
        self.tried.last()
    }

    pub(super) fn failed(&mut self) -> ForwardError {
        let service = self.endpoints.service.to_string();
        let census = self.endpoints.census(Instant::now());
        match (self.tried.last(), self.last.take()) {
            (Some(endpoint), Some(source)) => ForwardError::Connect {
                service,
                census,
                tried: self.tried.len(),
                address: endpoint.address,
                source,
            },
            _ => ForwardError::NoEndpoints { service, census },
        }
    }

    /// The request, to be sent again, when that is safe: nothing of it was sent, or its endpoint says
    /// that it was not processed.
    pub(super) async fn again(
        &mut self,
        failed: FailedSend,
        mut error: TrySendError<Request<RequestBody>>,
    ) -> Result<Request<Unsent>, ForwardError> {
        let FailedSend {
            mut pending,
            reused,
            streams,
            kept,
        } = failed;
        let endpoint = pending.endpoint.clone();
        let unsent = error.take_message();
        let error = error.into_error();
        let in_time = Deadline::now() < self.deadline;
        let again = match (unsent, kept, refusal(&error)) {
            (Some(unsent), ..) if in_time => {
                let (parts, body) = unsent.into_parts();
                // A pooled connection that closed says nothing about the endpoint.
                pending.not_sent();
                if !reused {
                    pending.answered(Outcome::Unreachable, Instant::now());
                    self.tried.push(endpoint.clone());
                    self.last = Some(ConnectError::Tcp(io::Error::other(error.to_string())));
                }
                body.take().map(|body| Request::from_parts(parts, body))
            }
            (_, kept, Some(refusal)) => {
                match refusal {
                    Refusal::GoAway => pending.not_sent(),
                    Refusal::Stream => pending.answered(Outcome::Failure, Instant::now()),
                }
                self.was_refused = true;
                self.avoid = streams;
                if self.has_another(&endpoint) {
                    self.tried.push(endpoint.clone());
                }
                match kept {
                    Some(kept) if in_time => kept.back(self.deadline).await,
                    _ => None,
                }
            }
            _ => {
                // The client's own end is not held against the endpoint.
                if !error.is_user() && !error.is_canceled() {
                    pending.answered(Outcome::Failure, Instant::now());
                }
                None
            }
        };
        match again {
            Some(request) => {
                debug!(endpoint = %endpoint.address, %error, reused, "not processed; trying again");
                Ok(request)
            }
            None => Err(self.broken(endpoint.address, error.into())),
        }
    }

    /// Whether an endpoint that is well was not tried yet.
    fn has_another(&self, endpoint: &Arc<Endpoint>) -> bool {
        let now = Instant::now();
        let is_other = |other: &&Arc<Endpoint>| {
            let mut used = self.tried.iter().chain([endpoint]);
            !used.any(|used| Arc::ptr_eq(used, other))
        };
        let mut others = self.endpoints.list.iter().filter(is_other);
        others.any(|other| other.readiness(now) == Readiness::Ready)
    }

    /// The endpoint at `address` took the request and broke off.
    pub(super) fn broken(
        &self,
        address: SocketAddr,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> ForwardError {
        ForwardError::Broken {
            service: self.endpoints.service.to_string(),
            census: self.endpoints.census(Instant::now()),
            address,
            source,
        }
    }
}
