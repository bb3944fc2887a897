//! One request from the client's connection to an endpoint and its response back. Entry: [`Forward::handle`].
//! Another endpoint is tried only when nothing of the request was sent, and once when its endpoint says that
//! it was not processed.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use http::{HeaderMap, Method, Request, Response, Uri, Version, header, uri};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use linkerd_names::{NoTls, Tls};
use tokio::time::timeout_at;
use tracing::{debug, info};

use super::{
    attempts::{Attempts, FailedSend},
    body::{Record, RequestBody, ResponseBody, Unsent},
    classify,
    error::ForwardError,
    headers, orig_proto,
    pool::{self, Carries, Checkout, Connection},
    refused::Kept,
};
use crate::{
    balance::{self, Pending},
    breaker::Outcome,
    detect::Protocol,
    discovery::Target,
    endpoint::Endpoint,
    endpoints::Endpoints,
    metrics::{Direction, Route, RouteKey, TlsLabel},
    shared::Shared,
    tap::{Origin, Tapped},
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
    fn is_mesh_client(&self) -> bool {
        matches!(self, Self::Application(_, Tls::On(_)))
    }
}

impl Forward {
    /// Answers one request, by the endpoint's response or by an error of ours.
    ///
    /// # Errors
    /// The endpoint has reset the stream instead of an answer: HTTP/2 passes the reason on.
    pub(crate) async fn handle(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, h2::Error> {
        let started = Instant::now();
        let is_grpc = is_grpc(request.headers());
        let is_http2 = request.version() == Version::HTTP_2;
        let is_connect = request.method() == Method::CONNECT;
        let client = is_connect.then(|| hyper::upgrade::on(&mut request));
        let source = self.source(headers::is_probe(request.headers()));
        let carried = self.destination.is_mesh_client() && orig_proto::unpack(&mut request);
        headers::strip_request(request.headers_mut());
        let authority = self.authority(&mut request);
        let taps = &self.shared.taps;
        let mut tapped = taps.begin(&request, &authority, || self.origin(source, started));
        match self
            .send(request, &authority, source, started, &mut tapped)
            .await
        {
            Ok(Sent {
                mut response,
                route,
                pending,
                lease,
            }) => {
                let status = response.status();
                if let (true, Some(client)) = (status.is_success(), client) {
                    self.tunnel(client, hyper::upgrade::on(&mut response));
                }
                let (mut parts, body) = response.into_parts();
                headers::strip_response(&mut parts.headers);
                if carried {
                    orig_proto::pack(&mut parts);
                }
                if let Some(tapped) = &mut tapped {
                    tapped.responded(status, &parts.headers);
                }
                let record = Record {
                    route,
                    status,
                    grpc_status: classify::grpc_status(&parts.headers),
                    started,
                    first_data: None,
                    pending,
                    tapped,
                };
                let body = ResponseBody::new(body, record, Some(lease));
                Ok(Response::from_parts(parts, body))
            }
            Err(Failed { error, route }) => {
                let direction = self.destination.direction().as_str();
                if self.shared.failures.may_tell() {
                    info!(%authority, direction, %error, "request failed");
                } else {
                    debug!(%authority, direction, %error, "request failed");
                }
                let response = error.response(is_grpc);
                let grpc_status = classify::grpc_status(response.headers());
                route.request_ended();
                route.response_ended(
                    crate::metrics::Classification::Failure,
                    response.status().as_u16(),
                    grpc_status,
                    started.elapsed(),
                );
                if let Some(mut tapped) = tapped {
                    tapped.sent(None, None);
                    tapped.responded(response.status(), response.headers());
                    tapped.ended(grpc_status);
                }
                match error.reset() {
                    Some(reason) if is_http2 => Err(reason.into()),
                    _ => Ok(response),
                }
            }
        }
    }

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

    /// The label `authority`: as the client wrote it. Also gives an HTTP/2 request the one it needs.
    fn authority(&self, request: &mut Request<Incoming>) -> Arc<str> {
        if let Some(authority) = request.uri().authority() {
            return authority.as_str().into();
        }
        let host = request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let authority: Arc<str> = match (host, &self.destination) {
            (Some(host), _) => host.into(),
            (None, Destination::Target(target)) => target.address.to_string().into(),
            (None, Destination::Application(endpoint, _)) => endpoint.address.to_string().into(),
        };
        if request.version() == Version::HTTP_2 {
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.scheme = Some(uri::Scheme::HTTP);
            parts.authority = authority.parse().ok();
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        }
        authority
    }

    async fn send(
        &self,
        request: Request<Incoming>,
        authority: &Arc<str>,
        source: TlsLabel,
        started: Instant,
        tapped: &mut Option<Box<Tapped>>,
    ) -> Result<Sent, Failed> {
        let carries = match request.version() {
            Version::HTTP_2 => Carries::Http2,
            _ => Carries::OrigProto,
        };
        let endpoints = self.endpoints().await;
        let mut attempts = Attempts::new(self, carries, endpoints, started);
        let mut request = request.map(Unsent::from);
        loop {
            let (mut pending, checkout) = match self.reach(&mut attempts).await {
                Ok(reached) => reached,
                Err(error) => {
                    let route = self.route(authority, source, attempts.last(), None);
                    return Err(Failed { error, route });
                }
            };
            let endpoint = pending.endpoint.clone();
            let Checkout {
                tls,
                reused,
                connection: Connection::Hyper(connection),
            } = checkout
            else {
                unreachable!("only our own HTTP/1 has connections of its own");
            };
            let route = self.route(authority, source, Some(&endpoint), Some(&tls));
            if let Some(tapped) = tapped {
                tapped.sent(Some(&endpoint), Some(&tls));
            }
            pending.sent(Instant::now());
            let streams = connection.streams();
            let (outgoing, kept) = self.outgoing(request, &route, &attempts);
            let error = match connection.send(outgoing, &endpoint).await {
                Ok((response, lease)) => {
                    return Ok(Sent {
                        response,
                        route,
                        pending,
                        lease,
                    });
                }
                Err(error) => error,
            };
            let failed = FailedSend {
                pending,
                reused,
                streams,
                kept,
            };
            request = match attempts.again(failed, error).await {
                Ok(request) => request,
                Err(error) => return Err(Failed { error, route }),
            };
        }
    }

    /// What is sent, and what is kept for the one time that it may be refused.
    fn outgoing(
        &self,
        request: Request<Unsent>,
        route: &Arc<Route>,
        attempts: &Attempts,
    ) -> (Request<RequestBody>, Option<Kept>) {
        if attempts.carries == Carries::Http2 && !attempts.was_refused {
            let bytes_max = self.shared.config.limits.h2_kept_bytes_max;
            let (outgoing, kept) = Kept::of(request, route.clone(), bytes_max);
            (outgoing, Some(kept))
        } else {
            (
                request.map(|body| RequestBody::new(body, route.clone())),
                None,
            )
        }
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
            let checkout = pool::checkout(&self.shared, direction, &endpoint, *carries, avoid);
            match timeout_at(attempts.deadline, checkout).await {
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
    pub(super) fn route(
        &self,
        authority: &Arc<str>,
        source: TlsLabel,
        endpoint: Option<&Arc<Endpoint>>,
        tls: Option<&Tls>,
    ) -> Arc<Route> {
        let (destination, tls) = match &self.destination {
            Destination::Application(..) => ("".into(), source),
            Destination::Target(_) => (
                endpoint.map_or_else(|| "".into(), |endpoint| endpoint.labels.rendered.clone()),
                tls.map_or(TlsLabel::Unknown, TlsLabel::from),
            ),
        };
        self.shared.metrics.http.route(RouteKey {
            direction: self.destination.direction(),
            authority: authority.clone(),
            destination,
            tls,
        })
    }

    /// Joins both streams after CONNECT.
    fn tunnel(&self, client: OnUpgrade, server: OnUpgrade) {
        self.shared.tasks.spawn(async move {
            match tokio::try_join!(client, server) {
                Ok((client, server)) => {
                    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                    let joined = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    if let Err(error) = joined {
                        debug!(%error, "a tunnel broke");
                    }
                }
                Err(error) => debug!(%error, "cannot open a tunnel"),
            }
        });
    }
}

struct Sent {
    response: Response<Incoming>,
    route: Arc<Route>,
    pending: Pending,
    lease: pool::Lease,
}

struct Failed {
    error: ForwardError,
    route: Arc<Route>,
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
