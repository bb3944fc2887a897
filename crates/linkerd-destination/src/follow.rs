//! Streams about one target. Entry: [`DestinationService::follow`], then [`messages`].
//! A stream is pulled by its reader: it holds the state that it sent last, and no queue of changes.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use futures::{Stream, stream};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::debug;

use crate::{
    destination::DestinationService,
    endpoints::Endpoints,
    index::{Index, Subscription},
    metrics::MethodLabels,
    streams::Place,
    target::Target,
};

/// The answer to a call.
pub(crate) type MessageStream<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// One stream's place in its target's history.
pub(crate) struct Follower {
    subscription: Subscription,
    index: Index,
    shutdown: CancellationToken,
    /// The state that the last messages lead to; none before the first.
    sent: Option<Arc<Endpoints>>,
    messages: Counter,
    _open: OpenStream,
    _place: Place,
}

impl DestinationService {
    /// Follows `target`, counted as `method`.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when too many are followed already.
    pub(crate) fn follow(&self, method: &'static str, target: Target) -> Result<Follower, Status> {
        let labels = MethodLabels { method };
        let place = self.streams.open().inspect_err(|status| {
            debug!(method, ?target, %status, "refused a stream");
            self.metrics.refused.get_or_create(&labels).inc();
        })?;
        Ok(Follower {
            subscription: self.index.subscribe(target),
            index: self.index.clone(),
            shutdown: self.shutdown.clone(),
            sent: None,
            messages: self.metrics.messages.get_or_create_owned(&labels),
            _open: OpenStream::new(self.metrics.streams.get_or_create_owned(&labels)),
            _place: place,
        })
    }
}

impl Follower {
    /// What is known once everything has been listed; the stream still begins with it.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the shutdown comes first.
    pub(crate) async fn first(&mut self) -> Result<Arc<Endpoints>, Status> {
        tokio::select! {
            () = self.shutdown.cancelled() => Err(shutting_down()),
            () = self.index.wait_complete() => Ok(self.subscription.latest()),
        }
    }

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
pub(crate) fn messages<M: Send + 'static>(
    follower: Follower,
    step: impl Fn(Option<&Endpoints>, &Endpoints) -> Vec<M> + Send + Sync + 'static,
) -> MessageStream<M> {
    // The messages of one step are few.
    let ready = VecDeque::new();
    Box::pin(stream::unfold(
        (Some(follower), step, ready),
        |(follower, step, mut ready)| async move {
            let mut follower = follower?;
            loop {
                if let Some(message) = ready.pop_front() {
                    follower.messages.inc();
                    return Some((Ok(message), (Some(follower), step, ready)));
                }
                let shutdown = follower.shutdown.clone();
                tokio::select! {
                    () = shutdown.cancelled() => {
                        return Some((Err(shutting_down()), (None, step, ready)));
                    }
                    now = follower.next_state() => {
                        ready.extend(step(follower.sent.as_deref(), &now));
                        follower.sent = Some(now);
                    }
                }
            }
        },
    ))
}

fn shutting_down() -> Status {
    Status::unavailable("the destination service is shutting down")
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
