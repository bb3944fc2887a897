//! The attempts of one request: which endpoints were tried, and whether it may be sent again. Entry:
//! [`Attempts::again`]. Knows nothing of how connections are made.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Instant,
};

use tokio::time::Instant as Deadline;
use tracing::debug;

use super::{
    error::ForwardError,
    forward::Forward,
    http2::{ClientStreams, Fault, Refusal},
    pool::Carries,
};
use crate::{
    balance::Pending,
    breaker::{Outcome, Readiness},
    endpoint::Endpoint,
    endpoints::Endpoints,
    tls::connect::ConnectError,
};

/// So many connections may turn out to be broken before anything of a request was sent: each was in the
/// pool, and one after the other is found to be of no use.
const UNSENT_MAX: usize = 64;

/// The endpoints of one request, and what became of those that were tried.
pub(super) struct Attempts {
    pub(super) carries: Carries,
    pub(super) endpoints: Endpoints,
    pub(super) tried: Vec<Arc<Endpoint>>,
    pub(super) last: Option<ConnectError>,
    /// How often a connection was broken before anything was sent.
    unsent: usize,
    /// An endpoint has refused the request; it is sent once more, and not by this connection.
    was_refused: bool,
    pub(super) avoid: Weak<ClientStreams>,
    pub(super) deadline: Deadline,
}

/// A request for which no answer has come.
pub(super) struct FailedSend {
    pub(super) pending: Pending,
    pub(super) reused: bool,
    pub(super) streams: Weak<ClientStreams>,
    pub(super) was_sent: bool,
    /// What has come of its body is still there.
    pub(super) may_go_again: bool,
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
            unsent: 0,
            was_refused: false,
            avoid: Weak::new(),
            deadline: Deadline::from_std(started + limits.bind_timeout),
        }
    }

    /// Rendered labels of the endpoint that was tried last, or of the target where none was.
    pub(super) fn labels(&self) -> &Arc<str> {
        match self.tried.last() {
            Some(endpoint) => &endpoint.labels.rendered,
            None => &self.endpoints.labels,
        }
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

    /// Says whether the request may be sent again: nothing of it was sent, or its endpoint says that it was
    /// not processed.
    ///
    /// # Errors
    /// It may not: the answer to its client.
    pub(super) fn again(&mut self, failed: FailedSend, fault: Fault) -> Result<(), ForwardError> {
        let FailedSend {
            mut pending,
            reused,
            streams,
            was_sent,
            may_go_again,
        } = failed;
        let endpoint = pending.endpoint.clone();
        let in_time = Deadline::now() < self.deadline;
        let again = match fault.refusal() {
            _ if !was_sent => {
                // A pooled connection that closed says nothing about the endpoint.
                pending.not_sent();
                if !reused {
                    pending.answered(Outcome::Unreachable, Instant::now());
                    self.tried.push(endpoint.clone());
                    self.last = Some(ConnectError::Tcp(io::Error::other(fault.to_string())));
                }
                self.unsent += 1;
                self.unsent <= UNSENT_MAX
            }
            Some(refusal) => {
                match refusal {
                    Refusal::GoAway => pending.not_sent(),
                    Refusal::Stream => pending.answered(Outcome::Failure, Instant::now()),
                }
                self.avoid = streams;
                self.refused_by(&endpoint)
            }
            None => {
                pending.answered(Outcome::Failure, Instant::now());
                false
            }
        };
        if again && in_time && may_go_again {
            debug!(endpoint = %endpoint.address, error = %fault, reused, "not processed; trying again");
            return Ok(());
        }
        Err(self.broken(endpoint.address, fault.into()))
    }

    /// Says whether a request that `endpoint` has not looked at may be sent again: once, and elsewhere if that can be.
    pub(super) fn refused_by(&mut self, endpoint: &Arc<Endpoint>) -> bool {
        if self.has_another(endpoint) {
            self.tried.push(endpoint.clone());
        }
        !std::mem::replace(&mut self.was_refused, true)
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
