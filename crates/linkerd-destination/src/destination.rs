//! The service `io.linkerd.proxy.destination.Destination`. Entry: [`DestinationService`].
//! A stream is pulled by its reader: it holds the state that it sent last, and no queue of changes.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use futures::{Stream, stream};
use linkerd_proto::destination::{
    DestinationProfile, GetDestination, Update, destination_server::Destination,
};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::{
    endpoints::Endpoints,
    index::{Index, Subscription},
    metrics::{MethodLabels, Metrics},
    profile::profile,
    target::Target,
    update::diff,
};

/// Answers proxies from an [`Index`].
#[derive(Clone, Debug)]
pub struct DestinationService {
    /// Where the answers come from.
    pub index: Index,
    /// Zone of the cluster.
    pub cluster_domain: String,
    /// Where streams and messages are counted.
    pub metrics: Metrics,
    /// Ends all streams.
    pub shutdown: CancellationToken,
}

type MessageStream<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl Destination for DestinationService {
    type GetStream = MessageStream<Update>;
    type GetProfileStream = MessageStream<DestinationProfile>;

    async fn get(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let follower = self.follow("get", &request)?;
        Ok(Response::new(messages(follower, diff)))
    }

    async fn get_profile(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetProfileStream>, Status> {
        let follower = self.follow("get_profile", &request)?;
        let cluster_domain = self.cluster_domain.clone();
        Ok(Response::new(messages(follower, move |sent, now| {
            let now = profile(now, &cluster_domain);
            let same = sent.is_some_and(|sent| profile(sent, &cluster_domain) == now);
            if same { Vec::new() } else { vec![now] }
        })))
    }
}

impl DestinationService {
    /// # Errors
    /// `INVALID_ARGUMENT` when the target is malformed: asking again is of no use.
    fn follow<M>(
        &self,
        method: &'static str,
        request: &Request<GetDestination>,
    ) -> Result<Follower<M>, Status> {
        let GetDestination {
            scheme,
            path,
            context_token: _,
        } = request.get_ref();
        let peer = request.remote_addr();
        let target = Target::parse(scheme, path, &self.cluster_domain).map_err(|error| {
            debug!(?peer, method, %error, "refused a target");
            Status::invalid_argument(error.to_string())
        })?;
        debug!(?peer, method, path, "stream begins");
        let labels = MethodLabels { method };
        Ok(Follower {
            subscription: self.index.subscribe(target),
            index: self.index.clone(),
            shutdown: self.shutdown.clone(),
            sent: None,
            ready: VecDeque::new(),
            messages: self.metrics.messages.get_or_create_owned(&labels),
            _open: OpenStream::new(self.metrics.streams.get_or_create_owned(&labels)),
        })
    }
}

/// One stream's place in its target's history.
struct Follower<M> {
    subscription: Subscription,
    index: Index,
    shutdown: CancellationToken,
    /// The state that the messages in `ready` lead to; none before the first.
    sent: Option<Arc<Endpoints>>,
    /// The messages of one step, which are few.
    ready: VecDeque<M>,
    messages: Counter,
    _open: OpenStream,
}

impl<M> Follower<M> {
    /// Waits for a state that was not sent yet. Cancel-safe.
    async fn next_state(&mut self) -> Arc<Endpoints> {
        match self.sent {
            None => self.index.wait_complete().await,
            Some(_) => self.subscription.changed().await,
        }
        self.subscription.latest()
    }
}

/// Streams what `step` makes of the last state sent and the latest one, until the shutdown.
fn messages<M: Send + 'static>(
    follower: Follower<M>,
    step: impl Fn(Option<&Endpoints>, &Endpoints) -> Vec<M> + Send + Sync + 'static,
) -> MessageStream<M> {
    Box::pin(stream::unfold(
        (Some(follower), step),
        |(follower, step)| async move {
            let mut follower = follower?;
            loop {
                if let Some(message) = follower.ready.pop_front() {
                    follower.messages.inc();
                    return Some((Ok(message), (Some(follower), step)));
                }
                let shutdown = follower.shutdown.clone();
                tokio::select! {
                    () = shutdown.cancelled() => {
                        let status = Status::unavailable("the destination service is shutting down");
                        return Some((Err(status), (None, step)));
                    }
                    now = follower.next_state() => {
                        follower.ready.extend(step(follower.sent.as_deref(), &now));
                        follower.sent = Some(now);
                    }
                }
            }
        },
    ))
}

/// Counts a stream as open for as long as it lives.
struct OpenStream(Gauge);

impl OpenStream {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}
