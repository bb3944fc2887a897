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
        observe_request::{Match, Traffic},
        tap_client::TapClient,
        tap_event::{
            Event,
            http::{Event as HttpEvent, StreamId},
            tcp::Event as TcpEvent,
        },
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::{
    addresses::Addresses,
    pods::Watched,
    rate::{Place, Rate, UnderWay},
};

/// A pod answers in milliseconds, but its proxy may just be starting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses before a proxy that could not be watched is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// So a peer that vanished is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What watches one pod.
pub(super) struct Observer {
    pub(super) pod: Watched,
    pub(super) wanted: Match,
    pub(super) traffic: Vec<Traffic>,
    /// Requests and connections a second that the proxy tells of.
    pub(super) limit: watch::Receiver<u32>,
    /// Those of all pods that the client sees.
    pub(super) rate: Arc<Rate>,
    pub(super) addresses: watch::Receiver<Arc<Addresses>>,
    /// Makes the ids of what all pods tell of different.
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
        let mut limits = self.limit.clone();
        loop {
            let limit = *limits.borrow_and_update();
            let mut call = self.observe(&mut client, limit).await?;
            let base = self.next_base.fetch_add(1, Relaxed);
            let mut under_way = UnderWay::default();
            loop {
                let event = tokio::select! {
                    () = self.updates.closed() => return Ok(()),
                    // Another call has the new share. What is under way loses its end.
                    changed = limits.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return Ok(()),
                    },
                    event = call.message() => event,
                };
                let event = event.map_err(|status| explain(&status))?;
                let mut event = event.ok_or("its proxy has ended the tap")?;
                *events += 1;
                if let Some((id, place)) = id(&mut event) {
                    if !under_way.shows(id.stream, place, &self.rate, Instant::now()) {
                        continue;
                    }
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

    async fn observe(
        &self,
        client: &mut TapClient<Channel>,
        limit: u32,
    ) -> Result<Streaming<TapEvent>, String> {
        let request = ObserveRequest {
            limit,
            r#match: Some(self.wanted.clone()),
            extract: None,
            traffic: self.traffic.iter().map(|it| (*it).into()).collect(),
            limit_per_second: true,
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

fn id(event: &mut TapEvent) -> Option<(&mut StreamId, Place)> {
    let (id, place) = match event.event.as_mut()? {
        Event::Http(http) => match http.event.as_mut()? {
            HttpEvent::RequestInit(init) => (&mut init.id, Place::Before),
            HttpEvent::ResponseInit(init) => (&mut init.id, Place::Before),
            HttpEvent::ResponseEnd(end) => (&mut end.id, Place::Last),
        },
        Event::Tcp(tcp) => match tcp.event.as_mut()? {
            TcpEvent::Open(open) => (&mut open.id, Place::Before),
            TcpEvent::Close(close) => (&mut close.id, Place::Last),
        },
    };
    Some((id.as_mut()?, place))
}
