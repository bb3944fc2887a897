//! Where requests go, and how they are counted; what HTTP/1 and HTTP/2 have in common. Entries:
//! [`Forward::reach`], [`Forward::known_route`].

use std::{net::SocketAddr, sync::Arc, time::Instant};

use http::{HeaderMap, Request, Uri, Version, header, uri};
use linkerd_names::{NoTls, Tls};
use tokio::time::timeout_at;
use tracing::debug;

use super::{
    attempts::Attempts,
    error::ForwardError,
    pool::{self, Checkout},
};
use crate::{
    balance::{self, Pending},
    breaker::Outcome,
    detect::Protocol,
    discovery::Target,
    endpoint::Endpoint,
    endpoints::Endpoints,
    metrics::{Direction, Route, RouteKey, TlsLabel, authority_label},
    shared::Shared,
    tap::Origin,
    tls::connect::ConnectError,
};

/// Where the requests of one client connection go.
pub(crate) struct Forward {
    pub(crate) shared: Arc<Shared>,
    pub(crate) protocol: Protocol,
    /// The client's address.
    pub(crate) client: Option<SocketAddr>,
    pub(crate) destination: Destination,
}

/// What lies behind the proxy.
pub(crate) enum Destination {
    /// Outbound: the endpoints of a target.
    Target(Arc<Target>),
    /// Inbound: the application; and what became of TLS on the client's connection.
    Application(Arc<Endpoint>, Tls),
}

impl Destination {
    pub(super) fn direction(&self) -> Direction {
        match self {
            Self::Target(_) => Direction::Outbound,
            Self::Application(..) => Direction::Inbound,
        }
    }

    /// Whether the client is a proxy of the mesh.
    pub(super) fn is_mesh_client(&self) -> bool {
        matches!(self, Self::Application(_, Tls::On(_)))
    }
}

impl Forward {
    /// What became of TLS between the client and us.
    pub(super) fn source(&self, is_probe: bool) -> TlsLabel {
        match &self.destination {
            Destination::Application(_, Tls::Off(_)) if is_probe => TlsLabel::Off(NoTls::Probe),
            Destination::Application(_, source) => TlsLabel::from(source),
            Destination::Target(_) => TlsLabel::Off(NoTls::Loopback),
        }
    }

    pub(super) fn origin(&self, source: TlsLabel, began: Instant) -> Origin {
        let tls = match (&self.destination, source) {
            (_, TlsLabel::Off(reason)) => TlsLabel::Off(reason),
            (Destination::Application(_, source), _) => source.into(),
            (Destination::Target(_), _) => TlsLabel::Off(NoTls::Loopback),
        };
        Origin {
            direction: self.destination.direction(),
            source: self.client,
            tls,
            began,
        }
    }

    /// The label `authority`: what the client has named. Also gives an HTTP/2 request the one it needs.
    pub(super) fn authority(&self, request: &mut Request<()>, known: Option<&Known>) -> Arc<str> {
        if let Some(authority) = request.uri().authority() {
            return Known::authority(known, authority.as_str());
        }
        let host = request.headers().get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let authority = match (host, &self.destination) {
            (Some(host), _) => Known::authority(known, host),
            (None, Destination::Target(target)) => target.address.to_string().into(),
            (None, Destination::Application(endpoint, _)) => endpoint.address.to_string().into(),
        };
        if request.version() == Version::HTTP_2 {
            let address = match &self.destination {
                Destination::Target(target) => target.address,
                Destination::Application(endpoint, _) => endpoint.address,
            };
            let named = host.and_then(|host| host.parse().ok());
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            // CONNECT alone has no path, and then no scheme.
            parts.scheme = parts.path_and_query.as_ref().map(|_| uri::Scheme::HTTP);
            parts.authority = named.or_else(|| address.to_string().parse().ok());
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        }
        authority
    }

    /// A connection to an endpoint; those that cannot be reached are added to the ones tried.
    pub(super) async fn reach(
        &self,
        attempts: &mut Attempts,
    ) -> Result<(Pending, Checkout), ForwardError> {
        let limits = &self.shared.config.limits;
        let direction = self.destination.direction();
        loop {
            let Attempts {
                carries,
                endpoints,
                tried,
                avoid,
                ..
            } = attempts;
            let next = if tried.len() < limits.attempts_max {
                balance::pick(&endpoints.list, tried, Instant::now(), |n| {
                    rand::random_range(0..n)
                })
            } else {
                None
            };
            let Some(mut pending) = next else {
                return Err(attempts.failed());
            };
            let endpoint = pending.endpoint.clone();
            let ready = pool::ready(&self.shared, direction, &endpoint, *carries, avoid);
            let made = match ready {
                Some(checkout) => Ok(Ok(checkout)),
                None => {
                    // Boxed, as it is rare: requests do not keep room for it.
                    let make = Box::pin(pool::make(
                        &self.shared,
                        direction,
                        &endpoint,
                        *carries,
                        avoid,
                    ));
                    timeout_at(attempts.deadline, make).await
                }
            };
            match made {
                Ok(Ok(checkout)) => {
                    pending.connected(Instant::now());
                    return Ok((pending, checkout));
                }
                Ok(Err(error)) => {
                    debug!(endpoint = %endpoint.address, %error, "trying another endpoint");
                    self.note(&mut pending, &error);
                    attempts.tried.push(endpoint);
                    attempts.last = Some(error);
                }
                Err(_) => {
                    let address = endpoint.address;
                    attempts.tried.push(endpoint);
                    return Err(ForwardError::Timeout {
                        service: attempts.endpoints.service.to_string(),
                        census: attempts.endpoints.census(Instant::now()),
                        bound: limits.bind_timeout,
                        address,
                        last: attempts.last.take(),
                    });
                }
            }
        }
    }

    pub(super) async fn endpoints(&self) -> Endpoints {
        match &self.destination {
            Destination::Target(target) => {
                target
                    .endpoints_within(self.shared.config.limits.endpoint_wait)
                    .await
            }
            Destination::Application(endpoint, _) => Endpoints::original(endpoint.clone()),
        }
    }

    fn note(&self, pending: &mut Pending, error: &ConnectError) {
        pending.answered(Outcome::Unreachable, Instant::now());
        if let (ConnectError::NotThePeer(_), Destination::Target(target)) =
            (error, &self.destination)
        {
            target.refresh();
        }
    }

    /// The counters: with the outcome of TLS on the way, if it came to that.
    fn route(&self, authority: &Arc<str>, destination: &Arc<str>, tls: TlsLabel) -> Arc<Route> {
        self.shared.metrics.http.route(RouteKey {
            direction: self.destination.direction(),
            authority: authority.clone(),
            destination: destination.clone(),
            tls,
        })
    }

    /// The same, without a look-up when they are those of the request before. `destination` has the labels of where
    /// it went or should have gone, of which an application has none.
    pub(super) fn known_route(
        &self,
        known: &mut Option<Known>,
        authority: &Arc<str>,
        source: TlsLabel,
        destination: &Arc<str>,
        tls: Option<&Tls>,
    ) -> Arc<Route> {
        let tls = match &self.destination {
            Destination::Application(..) => source,
            Destination::Target(_) => tls.map_or(TlsLabel::Unknown, TlsLabel::from),
        };
        if let Some(known) = known
            && known.tls == tls
            && known.authority == *authority
            && Arc::ptr_eq(&known.destination, destination)
        {
            return known.route.clone();
        }
        let route = self.route(authority, destination, tls);
        *known = Some(Known {
            authority: authority.clone(),
            destination: destination.clone(),
            tls,
            route: route.clone(),
        });
        route
    }
}

/// The counters of a request, and what they are found by.
pub(super) struct Known {
    authority: Arc<str>,
    destination: Arc<str>,
    tls: TlsLabel,
    route: Arc<Route>,
}

impl Known {
    /// The label for `name`, without an allocation when it is that of the request before.
    pub(super) fn authority(known: Option<&Self>, name: &str) -> Arc<str> {
        let same = |label: &str| known.filter(|known| *known.authority == *label);
        let label = || authority_label(name);
        match same(name).or_else(|| same(label())) {
            Some(known) => known.authority.clone(),
            None => label().into(),
        }
    }
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
