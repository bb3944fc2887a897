//! The control port: gRPC through mesh TLS for `linkerd-api`, in plaintext within the pod only.
//! Entry: [`Server::serve`]. Refuses what makes no sense before anything is watched.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use linkerd_names::Identity;
use linkerd_proto::tap::{
    ObserveRequest, TapEvent,
    observe_request::{Extract, Traffic, extract},
    tap_server::{Tap, TapServer},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::interceptor::InterceptedService};
use tracing::{debug, info};

use super::{
    Taps,
    matches::Matcher,
    session::{Limit, Session, Wanted},
};
use crate::{
    grpc,
    http::http2,
    io::Socket,
    quiet::tell,
    shared::Shared,
    tls::either::{self, Opened},
};

/// A PING that is not answered within the sum of both means that the client is gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// A request with as many matches as are allowed is far smaller.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// What serves the control port.
pub(crate) struct Server {
    shared: Arc<Shared>,
    /// One for each call under way.
    slots: Arc<Semaphore>,
}

impl Server {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(shared.config.limits.taps_max));
        Arc::new(Self { shared, slots })
    }

    /// Serves one connection; one who may not watch is told so.
    pub(crate) async fn serve(self: Arc<Self>, client: Socket) {
        let address = client.peer();
        let Some(Opened { socket, peer }) = either::open(client, &self.shared).await else {
            return;
        };
        let may_watch = self.may_watch(address, peer.as_ref());
        let shared = self.shared.clone();
        let refusing = shared.clone();
        let service = TapServer::from_arc(self).max_decoding_message_size(REQUEST_BYTES_MAX);
        let service = InterceptedService::new(service, move |request: Request<()>| {
            if may_watch {
                return Ok(request);
            }
            tell!(
                refusing.refusals,
                ?address,
                ?peer,
                "a tap by somebody who may not watch: refused"
            );
            Err(Status::permission_denied(
                "only linkerd-api may watch this workload",
            ))
        });
        let pings = Some((PING_INTERVAL, PING_TIMEOUT));
        // What is watched when the process ends is cut off.
        let never = CancellationToken::new();
        let served = http2::accept(
            socket,
            &shared.config.limits,
            pings,
            &never,
            |request, reply| {
                let service = service.clone();
                // Ends with its stream, which ends with the connection.
                tokio::spawn(async move {
                    if let Err(error) = grpc::answer(service, request, reply).await {
                        debug!(%error, "a tap has ended");
                    }
                });
            },
        );
        if let Err(error) = served.await {
            debug!(%error, "a tap connection has ended");
        }
    }
}

impl Server {
    /// `linkerd-api` asks the user's rights before it watches. Within the pod, which is where a
    /// port-forward arrives, Kubernetes has asked them.
    fn may_watch(&self, address: Option<SocketAddr>, peer: Option<&Identity>) -> bool {
        match peer {
            Some(peer) => self.shared.config.tap_identity.as_ref() == Some(peer),
            None => address.is_some_and(|address| address.ip().to_canonical().is_loopback()),
        }
    }
}

#[tonic::async_trait]
impl Tap for Server {
    type ObserveStream = Events;

    async fn observe(&self, request: Request<ObserveRequest>) -> Result<Response<Events>, Status> {
        let ObserveRequest {
            limit,
            r#match,
            extract,
            traffic,
            limit_per_second,
        } = request.into_inner();
        if limit == 0 {
            return Err(Status::invalid_argument("limit must not be 0"));
        }
        let limit = if limit_per_second {
            Limit::PerSecond(limit)
        } else {
            Limit::Total(limit)
        };
        let wants = self::wants(&traffic)?;
        let wanted = r#match.ok_or_else(|| Status::invalid_argument("match is not set"))?;
        let matcher = Matcher::parse(wanted)
            .map_err(|error| Status::invalid_argument(format!("match is not valid: {error}")))?;
        let limits = &self.shared.config.limits;
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| {
            let max = limits.taps_max;
            Status::resource_exhausted(format!("{max} taps are under way already"))
        })?;
        let taps = self.shared.taps.clone();
        let base = taps.next_base.fetch_add(1, Relaxed);
        let (sender, receiver) = mpsc::channel(limits.tap_events_max);
        let with_headers = wants_headers(extract);
        let session = Session::new(base, wants, matcher, with_headers, limit, sender);
        taps.add(Arc::new(session));
        info!(base, ?wants, ?limit, with_headers, "a tap has begun");
        Ok(Response::new(Events {
            receiver,
            taps,
            base,
            _slot: slot,
        }))
    }
}

/// Clients of Linkerd know requests alone, and nothing that says so.
fn wants(traffic: &[i32]) -> Result<Wanted, Status> {
    let mut wanted = Wanted {
        requests: traffic.is_empty(),
        connections: false,
    };
    for number in traffic {
        match Traffic::try_from(*number) {
            Ok(Traffic::Requests) => wanted.requests = true,
            Ok(Traffic::Connections) => wanted.connections = true,
            Err(_) => {
                return Err(Status::invalid_argument(format!(
                    "{number} is not the number of a kind of traffic"
                )));
            }
        }
    }
    Ok(wanted)
}

fn wants_headers(extract: Option<Extract>) -> bool {
    let Some(extract::Extract::Http(http)) = extract.and_then(|extract| extract.extract) else {
        return false;
    };
    matches!(
        http.extract,
        Some(extract::http::Extract::Headers(extract::http::Headers {}))
    )
}

/// The events of one call. The tap is over when the client drops it.
pub(crate) struct Events {
    receiver: mpsc::Receiver<TapEvent>,
    taps: Arc<Taps>,
    base: u32,
    _slot: OwnedSemaphorePermit,
}

impl Stream for Events {
    type Item = Result<TapEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx).map(|event| event.map(Ok))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.taps.remove(self.base);
    }
}
