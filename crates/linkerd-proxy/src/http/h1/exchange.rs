//! One request and its response. Entry: [`Connection::exchange`].
//! Another endpoint is tried only while nothing of the request was sent, or when the proxy there has not looked at it.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use http::StatusCode;
use linkerd_names::Tls;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    Connection, Next,
    head::{self, Framing, Malformed, Request, Response},
    pump::{Broken, Pump},
    upload::Upload,
    watch,
};
use crate::{
    breaker::Outcome,
    http::{
        attempts::Attempts,
        classify,
        error::ForwardError,
        forward::{Destination, Known},
        pool::{self, Carries, Checkout, Http1},
        record::Record,
    },
    io::Socket,
    join::{Carried, join},
    metrics::{Classification, Route, TlsLabel},
    tap::Tapped,
};

/// Why there is no response.
enum Failed {
    /// The client has gone, or what it sends is no request.
    Client(Broken),
    Endpoint(Box<dyn std::error::Error + Send + Sync>),
    /// The proxy of the endpoint has not looked at the request.
    Refused(Box<dyn std::error::Error + Send + Sync>),
}

/// Counts the request when it is over, however it ended.
struct Counted(Option<Arc<Route>>);

impl Counted {
    /// It is not over: it goes elsewhere.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(route) = &self.0 {
            route.request_ended();
        }
    }
}

impl Connection {
    /// Sends the request whose head is in `out`, and the response back.
    pub(super) async fn exchange(&mut self, request: Request, drain: &CancellationToken) -> Next {
        let started = Instant::now();
        let source = self.forward.source(request.is_probe);
        let authority = self.authority(&request);
        let mut tapped = self.tap(&request, &authority, source, started);
        self.client.consume(request.bytes);
        let trailers_max = self.forward.shared.config.limits.h1_head_bytes_max;
        let mut upload = Upload::new(Pump::new(request.framing, false, trailers_max));
        // A body that is here already goes with the head.
        if let Err(error) = upload.pump.take(&mut self.client, &mut self.out) {
            debug!(%error, "a request is refused");
            return self.refuse(StatusCode::BAD_REQUEST).await;
        }

        let endpoints = match &self.application {
            Some(application) => application.clone(),
            None => self.forward.endpoints().await,
        };
        let mut attempts = Attempts::new(&self.forward, Carries::Http1, endpoints, started);
        // Then all that goes is in `out` until the answer begins.
        let may_go_again = upload.is_whole();
        let (mut server, pending, route, _counted, response) = loop {
            let (mut pending, checkout) = match self.forward.reach(&mut attempts).await {
                Ok(reached) => reached,
                Err(error) => {
                    let route = self.route(&authority, source, attempts.labels(), None);
                    let whole = upload.is_whole();
                    return self
                        .fail(&error, &request, route, started, tapped, whole)
                        .await;
                }
            };
            let Checkout {
                tls,
                reused,
                connection: pool::Connection::Http1(mut server),
            } = checkout
            else {
                unreachable!("requests of HTTP/1 get connections of HTTP/1");
            };
            pending.sent(Instant::now());
            match send_all(&mut server.socket, &self.out).await {
                Ok(()) => {}
                // A connection that was closed before it took anything says nothing about its endpoint.
                Err((0, error)) if reused => {
                    debug!(endpoint = %pending.endpoint.address, %error, "not sent; trying again");
                    pending.not_sent();
                    continue;
                }
                Err((_, error)) => {
                    pending.answered(Outcome::Failure, Instant::now());
                    let labels = &pending.endpoint.labels.rendered;
                    let route = self.route(&authority, source, labels, Some(&tls));
                    let error = attempts.broken(pending.endpoint.address, error.into());
                    let whole = upload.is_whole();
                    return self
                        .fail(&error, &request, route, started, tapped, whole)
                        .await;
                }
            }
            let route = self.route(
                &authority,
                source,
                &pending.endpoint.labels.rendered,
                Some(&tls),
            );
            if let Some(tapped) = &mut tapped {
                tapped.sent(Some(&pending.endpoint), Some(&tls));
            }
            let counted = Counted(Some(route.clone()));
            match self
                .response(&mut server.socket, &request, &mut upload, drain)
                .await
            {
                Ok(response) => break (server, pending, route, counted, response),
                Err(Failed::Client(error)) => {
                    debug!(%error, "a request was not finished");
                    server.socket.reset_when_dropped();
                    return match error {
                        Broken::Malformed(_) => self.refuse(StatusCode::BAD_REQUEST).await,
                        _ => Next::Drop,
                    };
                }
                Err(Failed::Refused(error))
                    if may_go_again && attempts.refused_by(&pending.endpoint) =>
                {
                    debug!(endpoint = %pending.endpoint.address, %error, "not processed; trying again");
                    pending.not_sent();
                    counted.leave();
                    upload.end_told = false;
                }
                Err(Failed::Endpoint(source) | Failed::Refused(source)) => {
                    pending.answered(Outcome::Failure, Instant::now());
                    let error = attempts.broken(pending.endpoint.address, source);
                    drop(counted);
                    let whole = upload.is_whole();
                    return self
                        .answer(&error, &request, &route, started, tapped, whole)
                        .await;
                }
            }
        };
        if let Some(tapped) = &mut tapped {
            let headers = watch::response_headers(&self.out);
            tapped.responded(response.status, &headers);
        }
        let endpoint = pending.endpoint.clone();
        let record = Record {
            route,
            status: response.status,
            grpc_status: response.grpc_status,
            started,
            first_data: None,
            pending,
            tapped,
        };
        let tunnels = response.status == StatusCode::SWITCHING_PROTOCOLS
            || request.is_connect && response.status.is_success();
        if tunnels {
            return self.tunnel(server, record).await;
        }
        let stays = self.stays(&request, &response, &upload, drain);
        let next = self
            .pass_back(&mut server.socket, &response, &mut upload, record)
            .await;
        if next == Next::Drop || !self.finish(&mut server.socket, &mut upload).await {
            return Next::Drop;
        }
        self.idle_since = Instant::now();
        let is_open = request.leaves_open() && !upload.is_last(&self.client);
        if response.keeps && is_open && upload.is_whole() {
            pool::give_back(&self.forward.shared, &endpoint, server);
        }
        match stays && upload.is_whole() {
            true => Next::Request,
            false => Next::Close,
        }
    }

    /// Waits for the head of the response, which is then in `out` as it goes to the client, and goes
    /// on with the request's body meanwhile.
    async fn response(
        &mut self,
        server: &mut Socket,
        request: &Request,
        upload: &mut Upload,
        drain: &CancellationToken,
    ) -> Result<Response, Failed> {
        let head_bytes_max = self.forward.shared.config.limits.h1_head_bytes_max;
        let endpoint = |error: io::Error| Failed::Endpoint(error.into());
        let mut has_begun = false;
        loop {
            if let Err(failed) = poll_fn(|cx| self.poll_server(cx, server, upload)).await {
                return Err(match failed {
                    Failed::Endpoint(error) if !has_begun && server.was_refused() => {
                        Failed::Refused(error)
                    }
                    failed => failed,
                });
            }
            has_begun = true;
            loop {
                self.out.clear();
                let may_keep = !drain.is_cancelled()
                    && !upload.refused
                    && (upload.is_over() || !request.expects_continue);
                let read = head::response(server.seen(), request, may_keep, &mut self.out)
                    .map_err(|error| Failed::Endpoint(error.into()))?;
                match read {
                    Some(response) if response.bytes > head_bytes_max => {
                        let error = Malformed("the response's head is too long");
                        return Err(Failed::Endpoint(error.into()));
                    }
                    None if server.seen().len() > head_bytes_max => {
                        let error = Malformed("the response's head is too long");
                        return Err(Failed::Endpoint(error.into()));
                    }
                    None => break,
                    Some(response) => {
                        server.consume(response.bytes);
                        if !response.is_informational() {
                            return Ok(response);
                        }
                        // A client of HTTP/1.0 knows no answers before the answer.
                        if !request.is_old {
                            let told = self.client.write_all(&self.out).await;
                            told.map_err(|error| Failed::Client(Broken::Receiver(error)))?;
                            let told = self.client.flush().await;
                            told.map_err(endpoint)?;
                        }
                    }
                }
            }
        }
    }

    /// Waits for bytes of the server. Goes on with the upload, and once that is over looks after the client.
    fn poll_server(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut Socket,
        upload: &mut Upload,
    ) -> Poll<Result<(), Failed>> {
        upload
            .poll(cx, &mut self.client, server)
            .map_err(Failed::Client)?;
        let ahead_bytes_max = self.forward.shared.config.limits.h1_head_bytes_max;
        upload
            .poll_client(cx, &mut self.client, server, ahead_bytes_max)
            .map_err(|error| Failed::Client(Broken::Sender(error)))?;
        match ready!(server.poll_fill(cx)) {
            Ok(1..) => Poll::Ready(Ok(())),
            Ok(0) => Poll::Ready(Err(Failed::Endpoint(
                io::Error::from(io::ErrorKind::UnexpectedEof).into(),
            ))),
            Err(error) => Poll::Ready(Err(Failed::Endpoint(error.into()))),
        }
    }

    /// Whether the client was told that its connection stays.
    fn stays(
        &self,
        request: &Request,
        response: &Response,
        upload: &Upload,
        drain: &CancellationToken,
    ) -> bool {
        request.keeps
            && response.framing != Framing::UntilEnd
            && !drain.is_cancelled()
            && (upload.is_over() || !request.expects_continue)
    }

    /// Sends the response whose head is in `out`.
    async fn pass_back(
        &mut self,
        server: &mut Socket,
        response: &Response,
        upload: &mut Upload,
        mut record: Record,
    ) -> Next {
        let head_bytes_max = self.forward.shared.config.limits.h1_head_bytes_max;
        let mut download = Pump::new(response.framing, true, head_bytes_max);
        let taken = download.take(server, &mut self.out);
        if taken.is_ok() && download.is_done() || download.body_bytes > 0 {
            record.answered();
        }
        let sent = match taken {
            Err(error) => Err(error.into()),
            Ok(()) => match send_all(&mut self.client, &self.out).await {
                Err((_, error)) => Err(Broken::Receiver(error)),
                Ok(()) if download.is_done() => Ok(()),
                Ok(()) => {
                    poll_fn(|cx| {
                        // Whatever breaks of the request now, its answer is on its way.
                        if let Err(error) = upload.poll(cx, &mut self.client, server) {
                            debug!(%error, "a request was not finished");
                            upload.refused = true;
                        }
                        let result = download.poll(cx, server, &mut self.client);
                        if download.body_bytes > 0 {
                            record.answered();
                        }
                        if result.is_pending() {
                            upload
                                .poll_client(cx, &mut self.client, server, head_bytes_max)
                                .map_err(Broken::Receiver)?;
                        }
                        result
                    })
                    .await
                }
            },
        };
        record.grpc_status = download.grpc_status.or(record.grpc_status);
        if let Some(tapped) = &mut record.tapped {
            tapped.data_so_far(download.body_bytes);
        }
        match sent {
            Ok(()) => {
                if let Some(tapped) = record.tapped.take() {
                    tapped.ended(record.grpc_status);
                }
                record.close(false);
                Next::Request
            }
            Err(Broken::Receiver(error)) => {
                debug!(%error, "a client did not wait for its answer");
                server.reset_when_dropped();
                // What the endpoint had said so far counts.
                record.close(false);
                Next::Drop
            }
            Err(error) => {
                debug!(%error, "an answer broke off");
                if let Some(tapped) = record.tapped.take() {
                    tapped.broken(None);
                }
                record.close(true);
                // So that nobody takes what has come for a whole answer.
                self.client.reset_when_dropped();
                Next::Drop
            }
        }
    }

    /// After the answer: the rest of the request, as long as the endpoint takes it. False when the client
    /// has broken off.
    async fn finish(&mut self, server: &mut Socket, upload: &mut Upload) -> bool {
        if upload.is_over() {
            return true;
        }
        poll_fn(|cx| {
            if let Err(error) = upload.poll(cx, &mut self.client, server) {
                debug!(%error, "a request was not finished");
                server.reset_when_dropped();
                return Poll::Ready(false);
            }
            if upload.is_over() {
                return Poll::Ready(true);
            }
            // Its end, or what nobody has asked for: it does not want the rest.
            ready!(server.poll_fill(cx)).map_or_else(
                |error| debug!(%error, "an endpoint takes no more of a request"),
                |_| (),
            );
            upload.refused = true;
            Poll::Ready(true)
        })
        .await
    }

    /// After the switch to another protocol: bytes both ways.
    async fn tunnel(&mut self, mut server: Http1, mut record: Record) -> Next {
        record.answered();
        if let Some(tapped) = record.tapped.take() {
            tapped.ended(None);
        }
        record.close(false);
        if let Err((_, error)) = send_all(&mut self.client, &self.out).await {
            debug!(%error, "a client did not wait for its answer");
            return Next::Drop;
        }
        self.out = Vec::new();
        let mut carried = Carried::default();
        if let Err(error) = join(&mut self.client, &mut server.socket, &mut carried).await {
            debug!(%error, "an upgraded connection broke");
        }
        Next::Drop
    }

    /// Tells why there is no response, and counts the request.
    async fn fail(
        &mut self,
        error: &ForwardError,
        request: &Request,
        route: Arc<Route>,
        started: Instant,
        tapped: Option<Box<Tapped>>,
        is_whole: bool,
    ) -> Next {
        drop(Counted(Some(route.clone())));
        self.answer(error, request, &route, started, tapped, is_whole)
            .await
    }

    async fn answer(
        &mut self,
        error: &ForwardError,
        request: &Request,
        route: &Route,
        started: Instant,
        tapped: Option<Box<Tapped>>,
        is_whole: bool,
    ) -> Next {
        let shared = &self.forward.shared;
        let direction = self.forward.destination.direction().as_str();
        if shared.failures.may_tell() {
            info!(direction, %error, "request failed");
        } else {
            debug!(direction, %error, "request failed");
        }
        let response = error.response(request.is_grpc);
        let (status, headers) = (response.status(), response.headers());
        let grpc_status = classify::grpc_status(headers);
        let latency = started.elapsed();
        route.response_ended(
            Classification::Failure,
            status.as_u16(),
            grpc_status,
            latency,
        );
        if let Some(mut tapped) = tapped {
            tapped.sent(None, None);
            tapped.responded(status, headers);
            tapped.ended(grpc_status);
        }
        let stays = request.keeps && is_whole;
        self.out.clear();
        self.out
            .extend_from_slice(format!("HTTP/1.1 {status}\r\n").as_bytes());
        for (name, value) in headers {
            self.out.extend_from_slice(name.as_str().as_bytes());
            self.out.extend_from_slice(b": ");
            self.out.extend_from_slice(value.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        if !request.is_head {
            self.out.extend_from_slice(b"Content-Length: 0\r\n");
        }
        self.out.extend_from_slice(if stays {
            b"\r\n"
        } else {
            b"Connection: close\r\n\r\n"
        });
        self.idle_since = Instant::now();
        match (send_all(&mut self.client, &self.out).await, stays) {
            (Err(_), _) => Next::Drop,
            (Ok(()), true) => Next::Request,
            (Ok(()), false) => Next::Close,
        }
    }

    /// The label `authority`: what the client has named.
    fn authority(&self, request: &Request) -> Arc<str> {
        let seen = self.client.seen();
        let named = request
            .authority
            .clone()
            .and_then(|range| std::str::from_utf8(&seen[range]).ok());
        match (named, &self.forward.destination) {
            (Some(named), _) => Known::authority(self.known.as_ref(), named),
            (None, Destination::Target(target)) => target.address.to_string().into(),
            (None, Destination::Application(endpoint, _)) => endpoint.address.to_string().into(),
        }
    }

    /// The counters of a request.
    fn route(
        &mut self,
        authority: &Arc<str>,
        source: TlsLabel,
        destination: &Arc<str>,
        tls: Option<&Tls>,
    ) -> Arc<Route> {
        self.forward
            .known_route(&mut self.known, authority, source, destination, tls)
    }

    fn tap(
        &self,
        request: &Request,
        authority: &str,
        source: TlsLabel,
        started: Instant,
    ) -> Option<Box<Tapped>> {
        let taps = &self.forward.shared.taps;
        if !taps.is_watched() {
            return None;
        }
        let seen = self.client.seen();
        let (method, target) = (&seen[request.method.clone()], &seen[request.target.clone()]);
        let request = watch::request(&self.out, method, target);
        taps.begin(&request, authority, || self.forward.origin(source, started))
    }
}

/// Writes all of `bytes`; fails with how many were taken before.
async fn send_all(socket: &mut Socket, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.write(&bytes[sent..]).await {
            Ok(0) => return Err((sent, io::ErrorKind::WriteZero.into())),
            Ok(n) => sent += n,
            Err(error) => return Err((sent, error)),
        }
    }
    socket.flush().await.map_err(|error| (sent, error))
}
