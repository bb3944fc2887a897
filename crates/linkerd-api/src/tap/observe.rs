//! One pod's proxy, watched until the client has enough. Entry: [`Observer::run`].
//! The connection leaves through this pod's own proxy, which makes it mutual TLS.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use linkerd_proto::{
    public::{
        TapByResourceResponse,
        tap_by_resource_response::{PodTrouble, Response},
    },
    tap::{
        ObserveRequest, TapEvent,
        observe_request::Match,
        tap_client::TapClient,
        tap_event::{
            Event,
            http::{Event as HttpEvent, StreamId},
        },
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::{StreamExt as _, StreamMap};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::{addresses::Addresses, pods::Watched};

/// A pod answers in milliseconds, but its proxy may just be starting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that the limit is for.
const WINDOW: Duration = Duration::from_secs(1);
/// Calls of one pod at once: the newest, and those whose last requests have not ended yet. Behind them
/// the ends of the oldest requests are lost.
const CALLS_MAX: usize = 4;
/// Pauses before a proxy that could not be watched is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// So a peer that vanished is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What watches one pod.
pub(super) struct Observer {
    pub(super) pod: Watched,
    pub(super) wanted: Match,
    /// Requests a second.
    pub(super) limit: watch::Receiver<u32>,
    pub(super) addresses: watch::Receiver<Arc<Addresses>>,
    /// Makes the ids of all pods' requests different.
    pub(super) next_base: Arc<AtomicU32>,
    pub(super) updates: mpsc::Sender<TapByResourceResponse>,
}

/// The client has gone.
struct Gone;

impl Observer {
    /// Watches, and tells when that is not possible; each trouble once until it was good again.
    pub(super) async fn run(self) {
        let mut told = None;
        let mut pause = PAUSE_MIN;
        loop {
            let mut events = 0;
            let Err(error) = self.watch(&mut events).await else {
                return;
            };
            if events > 0 {
                (told, pause) = (None, PAUSE_MIN);
            }
            if told.as_ref() != Some(&error) {
                let trouble = Response::Trouble(PodTrouble {
                    pod: format!("{}/{}", self.pod.namespace, self.pod.name),
                    error: error.clone(),
                });
                if self.send(trouble).await.is_err() {
                    return;
                }
                told = Some(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Watches over one connection; ends well when the client has gone.
    ///
    /// # Errors
    /// Why the proxy cannot be watched, or not any more.
    async fn watch(&self, events: &mut u64) -> Result<(), String> {
        let address = self.pod.address;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| error.to_string())?
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(ANSWER_TIMEOUT);
        let channel = timeout(ANSWER_TIMEOUT, endpoint.connect())
            .await
            .map_err(|_| silent(address))?
            .map_err(|_| format!("its proxy cannot be reached at {address}"))?;
        let mut client = TapClient::new(channel);
        let mut calls: StreamMap<u32, Streaming<TapEvent>> = StreamMap::new();
        let (mut newest, mut left) = (0, 0);
        let mut windows = interval(WINDOW);
        windows.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.updates.closed() => return Ok(()),
                _ = windows.tick(), if left == 0 || calls.is_empty() => {
                    left = *self.limit.borrow();
                    let call = self.observe(&mut client, left).await?;
                    if calls.len() == CALLS_MAX
                        && let Some(oldest) = calls.keys().copied().min()
                    {
                        calls.remove(&oldest);
                    }
                    newest = self.next_base.fetch_add(1, Relaxed);
                    calls.insert(newest, call);
                }
                Some((base, event)) = calls.next(), if !calls.is_empty() => {
                    let mut event = event.map_err(|status| explain(&status))?;
                    *events += 1;
                    if base == newest && begins(&event) {
                        left = left.saturating_sub(1);
                    }
                    if let Some(id) = id(&mut event) {
                        id.base = base;
                    }
                    let addresses = self.addresses.borrow().clone();
                    addresses.name(&mut event);
                    if self.send(Response::Event(event)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn observe(
        &self,
        client: &mut TapClient<Channel>,
        limit: u32,
    ) -> Result<Streaming<TapEvent>, String> {
        let request = ObserveRequest {
            limit,
            r#match: Some(self.wanted.clone()),
            extract: None,
        };
        match timeout(ANSWER_TIMEOUT, client.observe(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(explain(&status)),
            Err(_) => Err(silent(self.pod.address)),
        }
    }

    async fn send(&self, response: Response) -> Result<(), Gone> {
        let response = TapByResourceResponse {
            response: Some(response),
        };
        self.updates.send(response).await.map_err(|_| Gone)
    }
}

fn silent(address: impl std::fmt::Display) -> String {
    format!("its proxy at {address} did not answer within {ANSWER_TIMEOUT:?}")
}

/// A refusal in words that say what to do.
fn explain(status: &Status) -> String {
    match status.code() {
        Code::PermissionDenied => format!(
            "its proxy refuses: {}; there is no mutual TLS between linkerd-api and it (install and \
             inject with --tls=optional, see linkerd check)",
            status.message()
        ),
        Code::ResourceExhausted => format!("its proxy refuses: {}", status.message()),
        code => format!("its proxy answers {code:?}: {}", status.message()),
    }
}

fn begins(event: &TapEvent) -> bool {
    let Some(Event::Http(http)) = &event.event else {
        return false;
    };
    matches!(http.event, Some(HttpEvent::RequestInit(_)))
}

fn id(event: &mut TapEvent) -> Option<&mut StreamId> {
    let Some(Event::Http(http)) = &mut event.event else {
        return None;
    };
    match http.event.as_mut()? {
        HttpEvent::RequestInit(init) => init.id.as_mut(),
        HttpEvent::ResponseInit(init) => init.id.as_mut(),
        HttpEvent::ResponseEnd(end) => end.id.as_mut(),
    }
}
