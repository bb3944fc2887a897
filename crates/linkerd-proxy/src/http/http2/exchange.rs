//! One request and its response. Entry: [`Exchanges::exchange`]. Another endpoint is tried only when nothing of
//! the request was sent, and once when its endpoint says that it was not processed.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use h2::{Reason, client::ResponseFuture};
use http::{Request, Response, Version};
use linkerd_names::Tls;
use parking_lot::Mutex;
use tracing::{debug, info};

use super::{
    Fault, Source, head_bytes_max,
    pump::{Broken, Pump},
    reply::Reply,
    sink::Sink,
    source::Piece,
    stream::{self, Reader},
    upload::Upload,
};
use crate::{
    balance::Pending,
    endpoint::Endpoint,
    http::{
        attempts::{Attempts, FailedSend},
        classify,
        error::ForwardError,
        forward::{Forward, Known, is_grpc},
        headers, orig_proto,
        pool::{Carrier, Carries, Checkout, Connection, Lease},
        record::Record,
    },
    metrics::{Classification, Route, TlsLabel},
    tap::Tapped,
};

/// The requests of one client's connection.
pub(super) struct Exchanges {
    pub(super) forward: Forward,
    /// The counters of the last request; the next one is likely to have the same.
    known: Mutex<Option<Known>>,
}

/// What does not change while a request is tried.
struct Asked {
    head: Request<()>,
    authority: Arc<str>,
    source: TlsLabel,
    started: Instant,
}

/// An endpoint has answered.
struct Answered {
    head: Response<()>,
    body: Source,
    route: Arc<Route>,
    pending: Pending,
    lease: Option<Lease>,
}

/// Why nobody has.
enum Unanswered {
    /// The client has broken off.
    Client(Fault),
    Endpoint(Box<ForwardError>, Arc<Route>),
}

/// What an endpoint has answered so far, and what is to be held until the end.
type Answer = (Response<()>, Source, Option<Lease>);

/// Why one attempt has no answer.
enum Failed {
    /// Nothing was sent, because the connection is broken.
    Unsent(Fault),
    /// Nothing was sent, and nobody would take it.
    NoRequest(h2::Error),
    Sent(Broken),
}

/// A response that is to come.
enum Awaited {
    Http2(ResponseFuture),
    /// None once it has come.
    Stream(Option<Reader>),
}

impl Awaited {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Response<()>, Source), Fault>> {
        match self {
            Self::Http2(response) => pin!(response).poll(cx).map(|response| {
                let (head, body) = response?.into_parts();
                Ok((Response::from_parts(head, ()), Source::Http2(body)))
            }),
            Self::Stream(reader) => {
                let awaited = reader.as_mut().expect("polled until ready");
                let head = ready!(awaited.poll_response(cx))?;
                let body = reader.take().map(Source::Stream);
                Poll::Ready(Ok((head, body.expect("it was there just now"))))
            }
        }
    }
}

impl Exchanges {
    pub(super) fn new(forward: Forward) -> Self {
        Self {
            forward,
            known: Mutex::default(),
        }
    }

    /// Answers one request, by the endpoint's response or by an error of ours.
    pub(super) async fn exchange(&self, mut head: Request<()>, body: Source, mut reply: Reply) {
        let started = Instant::now();
        let forward = &self.forward;
        let is_grpc = is_grpc(head.headers());
        let source = forward.source(headers::is_probe(head.headers()));
        let carried = forward.destination.is_mesh_client() && orig_proto::unpack(&mut head);
        if carried && orig_proto::has_two_hosts(&head) {
            debug!("a carried request names two hosts");
            return reply.reset(Reason::PROTOCOL_ERROR);
        }
        headers::strip_request(head.headers_mut());
        let authority = forward.authority(&mut head, self.known.lock().as_ref());
        let taps = &forward.shared.taps;
        let mut tapped = taps.begin(&head, &authority, || forward.origin(source, started));
        let limits = &forward.shared.config.limits;
        let mut upload = Upload::new(body, limits.h2_kept_bytes_max);
        let asked = Asked {
            head,
            authority,
            source,
            started,
        };
        let answered = {
            let mut answered = pin!(self.ask(&asked, &mut upload, &mut tapped));
            poll_fn(|cx| match answered.as_mut().poll(cx) {
                // Who cancels is not waited for; what is under way ends with this.
                Poll::Pending => reply
                    .poll_reset(cx)
                    .map(|fault| Err(Unanswered::Client(fault))),
                ready => ready,
            })
            .await
        };
        match answered {
            Ok(mut answered) => {
                headers::strip_response(answered.head.headers_mut());
                if carried {
                    orig_proto::pack(&mut answered.head);
                }
                self.pass_back(answered, upload, reply, started, tapped)
                    .await;
            }
            Err(Unanswered::Client(fault)) => {
                debug!(error = %fault, "a client did not wait for its answer");
                upload.reset(fault.reason());
                reply.reset(fault.reason());
            }
            Err(Unanswered::Endpoint(error, route)) => {
                upload.count(&route);
                drop(upload);
                let told = self.fail(&error, &asked, &route, tapped, is_grpc, reply);
                Box::pin(told).await;
            }
        }
    }

    /// Sends the request to an endpoint, or to another, until there is an answer.
    async fn ask(
        &self,
        asked: &Asked,
        upload: &mut Upload,
        tapped: &mut Option<Box<Tapped>>,
    ) -> Result<Answered, Unanswered> {
        let carries = match asked.head.version() {
            Version::HTTP_2 => Carries::Http2,
            _ => Carries::OrigProto,
        };
        let forward = &self.forward;
        let endpoints = forward.endpoints().await;
        let mut attempts = Attempts::new(forward, carries, endpoints, asked.started);
        loop {
            let (mut pending, checkout) = match forward.reach(&mut attempts).await {
                Ok(reached) => reached,
                Err(error) => {
                    let route = self.route(asked, attempts.labels(), None);
                    return Err(Unanswered::Endpoint(error.into(), route));
                }
            };
            let Checkout {
                tls,
                reused,
                connection,
            } = checkout;
            let endpoint = pending.endpoint.clone();
            let route = self.route(asked, &endpoint.labels.rendered, Some(&tls));
            if let Some(tapped) = tapped {
                tapped.sent(Some(&endpoint), Some(&tls));
            }
            pending.sent(Instant::now());
            upload.count(&route);
            let streams = connection.streams();
            let (fault, was_sent) = match self.attempt(asked, upload, connection, &endpoint).await {
                Ok((head, body, lease)) => {
                    upload.answered();
                    return Ok(Answered {
                        head,
                        body,
                        route,
                        pending,
                        lease,
                    });
                }
                Err(Failed::Unsent(fault)) => (fault, false),
                Err(Failed::NoRequest(error)) => {
                    debug!(%error, "what a client sends is no request of HTTP/2");
                    pending.not_sent();
                    let fault = Fault::Reset(Reason::PROTOCOL_ERROR);
                    return Err(Unanswered::Client(fault));
                }
                Err(Failed::Sent(Broken::To(fault))) => (fault, true),
                Err(Failed::Sent(Broken::From(fault))) => return Err(Unanswered::Client(fault)),
            };
            let failed = FailedSend {
                pending,
                reused,
                streams,
                was_sent,
                may_go_again: upload.may_go_again(),
            };
            if let Err(error) = attempts.again(failed, fault) {
                return Err(Unanswered::Endpoint(error.into(), route));
            }
        }
    }

    /// Sends the request on `connection`, and waits for the head of the response.
    async fn attempt(
        &self,
        asked: &Asked,
        upload: &mut Upload,
        connection: Connection,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Answer, Failed> {
        let is_empty = upload.is_empty();
        let (mut awaited, to, lease) = match connection {
            Connection::Http2(connection) => match connection.send(asked.head.clone(), is_empty) {
                Ok((response, to, lease)) => (
                    Awaited::Http2(response),
                    Sink::Http2(to),
                    Some(Lease::Http2(lease)),
                ),
                Err(error) if error.is_io() || error.is_go_away() || error.is_reset() => {
                    return Err(Failed::Unsent(error.into()));
                }
                Err(error) => return Err(Failed::NoRequest(error)),
            },
            Connection::Stream(stream, meter) => {
                let bytes_max = head_bytes_max(&self.forward.shared.config.limits);
                let (reader, mut writer) = stream::split(stream, meter, bytes_max);
                writer.request(&asked.head, is_empty);
                (Awaited::Stream(Some(reader)), Sink::Stream(writer), None)
            }
            Connection::Carrier(carrier) => {
                return Box::pin(carry(asked, upload, carrier, endpoint)).await;
            }
            Connection::Http1(_) => unreachable!("only our own HTTP/1 has connections of its own"),
        };
        upload.go(to, is_empty);
        let answered = poll_fn(|cx| {
            match upload.poll(cx) {
                // It may have answered all the same.
                Poll::Ready(Err(Broken::To(fault))) => {
                    return match awaited.poll(cx) {
                        Poll::Ready(Ok(response)) => {
                            upload.leave();
                            Poll::Ready(Ok(response))
                        }
                        Poll::Ready(Err(fault)) => Poll::Ready(Err(Broken::To(fault))),
                        Poll::Pending => Poll::Ready(Err(Broken::To(fault))),
                    };
                }
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            awaited.poll(cx).map_err(Broken::To)
        });
        let (head, body) = answered.await.map_err(Failed::Sent)?;
        Ok((head, body, lease))
    }

    /// Passes the response back, and the rest of the request on meanwhile.
    async fn pass_back(
        &self,
        answered: Answered,
        mut upload: Upload,
        reply: Reply,
        started: Instant,
        mut tapped: Option<Box<Tapped>>,
    ) {
        let Answered {
            head,
            body,
            route,
            pending,
            lease,
        } = answered;
        if let Some(tapped) = &mut tapped {
            tapped.responded(head.status(), head.headers());
        }
        let mut record = Record {
            route,
            status: head.status(),
            grpc_status: classify::grpc_status(head.headers()),
            started,
            first_data: None,
            pending,
            tapped,
        };
        let is_end = body.is_end();
        let to = match reply.respond(head, is_end) {
            Ok(to) => to,
            Err(fault) => {
                debug!(error = %fault, "a client did not wait for its answer");
                upload.reset(fault.reason());
                return record.close(false);
            }
        };
        let mut download = Pump::new(body, to);
        if is_end {
            download.finish();
        }
        let passed = poll_fn(|cx| {
            match upload.poll(cx) {
                Poll::Ready(Err(Broken::From(fault))) => {
                    return Poll::Ready(Err(Broken::To(fault)));
                }
                // Whatever the endpoint does not take now, its answer is on its way.
                Poll::Ready(Err(Broken::To(fault))) => {
                    debug!(error = %fault, "an endpoint takes no more of a request");
                    upload.leave();
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            match download.poll(cx, |piece| see(&mut record, piece)) {
                Poll::Pending => download
                    .to
                    .poll_reset(cx)
                    .map(|fault| Err(Broken::To(fault))),
                ready => ready,
            }
        });
        match passed.await {
            Ok(()) => {
                if let Some(tapped) = record.tapped.take() {
                    tapped.ended(record.grpc_status);
                }
                record.close(false);
                finish(upload, download).await;
                if let Some(lease) = lease {
                    lease.give_back();
                }
            }
            Err(Broken::From(fault)) => {
                debug!(error = %fault, "an answer broke off");
                if let Some(tapped) = record.tapped.take() {
                    tapped.broken(fault.reset());
                }
                record.close(true);
                download.to.reset(fault.reason());
            }
            Err(Broken::To(fault)) => {
                debug!(error = %fault, "a client did not wait for its answer");
                upload.reset(fault.reason());
                // What the endpoint had said so far counts.
                record.close(false);
            }
        }
    }

    /// Tells why there is no response, and counts it.
    async fn fail(
        &self,
        error: &ForwardError,
        asked: &Asked,
        route: &Route,
        tapped: Option<Box<Tapped>>,
        is_grpc: bool,
        reply: Reply,
    ) {
        let shared = &self.forward.shared;
        let direction = self.forward.destination.direction().as_str();
        let authority = &asked.authority;
        if shared.failures.may_tell() {
            info!(%authority, direction, %error, "request failed");
        } else {
            debug!(%authority, direction, %error, "request failed");
        }
        let response = error.response(is_grpc);
        let grpc_status = classify::grpc_status(response.headers());
        route.response_ended(
            Classification::Failure,
            response.status().as_u16(),
            grpc_status,
            asked.started.elapsed(),
        );
        if let Some(mut tapped) = tapped {
            tapped.sent(None, None);
            tapped.responded(response.status(), response.headers());
            tapped.ended(grpc_status);
        }
        // HTTP/1 that is carried in HTTP/2 knows no resets.
        if let (Some(reason), Version::HTTP_2) = (error.reset(), asked.head.version()) {
            return reply.reset(reason);
        }
        match reply.respond(response, true) {
            Ok(mut to) => {
                if let Err(fault) = poll_fn(|cx| to.poll_flush(cx, true)).await {
                    debug!(error = %fault, "a client did not wait for its answer");
                }
            }
            Err(fault) => debug!(error = %fault, "a client did not wait for its answer"),
        }
    }

    fn route(&self, asked: &Asked, destination: &Arc<str>, tls: Option<&Tls>) -> Arc<Route> {
        let mut known = self.known.lock();
        let Asked {
            authority, source, ..
        } = asked;
        self.forward
            .known_route(&mut known, authority, *source, destination, tls)
    }
}

/// Takes a piece of the response into account.
fn see(record: &mut Record, piece: &Piece) {
    match piece {
        Piece::End => {}
        Piece::Data { bytes, .. } => {
            record.answered();
            if let Some(tapped) = &mut record.tapped {
                tapped.data(bytes.len());
            }
        }
        Piece::Trailers(trailers) => {
            record.answered();
            record.grpc_status = classify::grpc_status(trailers).or(record.grpc_status);
            if let Some(tapped) = &mut record.tapped {
                tapped.trailers(trailers);
            }
        }
    }
}

/// After the answer: the rest of the request, as long as its endpoint takes it.
async fn finish(mut upload: Upload, mut download: Pump) {
    if upload.is_over() {
        return;
    }
    let finished = poll_fn(|cx| match upload.poll(cx) {
        Poll::Pending => match upload.poll_refused(cx) {
            Poll::Pending => download.to.poll_reset(cx).map(|it| Err(Broken::From(it))),
            refused => refused.map(Err),
        },
        ready => ready,
    });
    match finished.await {
        // Dropped, the client's stream says that nobody wants the rest.
        Ok(()) | Err(Broken::To(_)) => {}
        Err(Broken::From(fault)) => upload.reset(fault.reason()),
    }
}

/// Sends HTTP/1 that has come inside of HTTP/2.
async fn carry(
    asked: &Asked,
    upload: &mut Upload,
    mut carrier: Carrier,
    endpoint: &Arc<Endpoint>,
) -> Result<Answer, Failed> {
    let Some(body) = upload.take() else {
        return Err(Failed::Sent(Broken::To(Fault::Refused)));
    };
    let request = asked.head.clone().map(|()| body);
    match carrier.send(request).await {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let lease = Lease::Carrier(carrier, endpoint.clone());
            let head = Response::from_parts(head, ());
            Ok((head, Source::Http1(body), Some(lease)))
        }
        Err(mut error) => match error.take_message() {
            Some(unsent) => {
                upload.put_back(unsent.into_body());
                Err(Failed::Unsent(error.into_error().into()))
            }
            None => Err(Failed::Sent(Broken::To(error.into_error().into()))),
        },
    }
}
