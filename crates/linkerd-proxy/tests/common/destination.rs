//! A destination service that says what it is told to.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use linkerd_names::Identity;
use linkerd_proto::destination::{
    AddrSet, DestinationProfile, GetDestination, NoEndpoints, ProtocolHint, TlsIdentity, Update,
    WeightedAddr, WeightedAddrSet,
    destination_server::{Destination as Service, DestinationServer},
    protocol_hint::OpaqueTransport,
    tls_identity::{DnsLikeIdentity, Strategy},
    update,
};
use linkerd_proto::net::TcpAddress;
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::{
    Stream,
    wrappers::{TcpListenerStream, WatchStream},
};
use tonic::{Request, Response, Status};

#[derive(Clone)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub identity: Option<String>,
    /// Where its proxy itself listens.
    pub inbound_port: Option<u16>,
}

impl Endpoint {
    pub fn meshed(address: SocketAddr, identity: &Identity) -> Self {
        Self {
            address,
            identity: Some(identity.to_string()),
            inbound_port: None,
        }
    }

    pub fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            identity: None,
            inbound_port: None,
        }
    }
}

#[derive(Clone, Default)]
struct State {
    targets: Arc<parking_lot::Mutex<HashMap<String, watch::Sender<Update>>>>,
    asked: Arc<AtomicUsize>,
    mute: Arc<AtomicBool>,
    exhausted: Arc<AtomicBool>,
    thinks_ms: Arc<AtomicU64>,
}

pub struct Destination {
    pub address: SocketAddr,
    state: State,
    runtime: parking_lot::Mutex<Option<tokio::runtime::Runtime>>,
}

pub async fn start() -> Destination {
    start_at("127.0.0.1:0".parse().unwrap(), State::default()).await
}

async fn start_at(address: SocketAddr, state: State) -> Destination {
    // A runtime of its own: when it is dropped, every connection is gone, as with a process.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = DestinationServer::new(state.clone());
    let (tell, told) = tokio::sync::oneshot::channel();
    runtime.spawn(async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener: TcpListener = socket.listen(128).unwrap();
        tell.send(listener.local_addr().unwrap()).unwrap();
        tonic::transport::Server::builder()
            .add_service(server)
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    let address = told.await.unwrap();
    Destination {
        address,
        state,
        runtime: parking_lot::Mutex::new(Some(runtime)),
    }
}

impl Destination {
    pub fn set(&self, target: &str, endpoints: &[Endpoint]) {
        self.tell(target, add(endpoints));
    }

    pub fn tell(&self, target: &str, update: update::Update) {
        let update = Update {
            update: Some(update),
        };
        self.state.sender(target).send_replace(update);
    }

    /// Questions so far.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Relaxed)
    }

    /// From now on questions are taken and not answered.
    pub fn mute(&self) {
        self.state.mute.store(true, Relaxed);
    }

    /// Whether from now on it has too many streams open for one more.
    pub fn exhausted(&self, exhausted: bool) {
        self.state.exhausted.store(exhausted, Relaxed);
    }

    /// So long its first word about anything takes from now on.
    pub fn thinks_ms(&self, thinks_ms: u64) {
        self.state.thinks_ms.store(thinks_ms, Relaxed);
    }

    /// Stops; connections break.
    pub fn stop(&self) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }

    /// Starts again at the same address with the same knowledge.
    pub async fn restart(&self) -> Self {
        start_at(self.address, self.state.clone()).await
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn add(endpoints: &[Endpoint]) -> update::Update {
    let addrs = endpoints
        .iter()
        .map(|endpoint| WeightedAddr {
            addr: Some(endpoint.address.into()),
            weight: 10_000,
            metric_labels: [("pod".to_owned(), format!("pod-{}", endpoint.address.port()))].into(),
            tls_identity: endpoint.identity.clone().map(|name| TlsIdentity {
                strategy: Some(Strategy::DnsLikeIdentity(DnsLikeIdentity { name })),
                ..Default::default()
            }),
            protocol_hint: endpoint.inbound_port.map(|port| ProtocolHint {
                opaque_transport: Some(OpaqueTransport {
                    inbound_port: port.into(),
                }),
                protocol: None,
            }),
            ..Default::default()
        })
        .collect();
    let labels = [("service", "web"), ("namespace", "ns")];
    let metric_labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    update::Update::Add(WeightedAddrSet {
        addrs,
        metric_labels,
    })
}

pub fn none(exists: bool) -> update::Update {
    update::Update::NoEndpoints(NoEndpoints { exists })
}

/// What makes `told` into `state`: removals, then the state itself.
fn difference(told: &mut Vec<TcpAddress>, state: Update) -> impl Iterator<Item = Update> + use<> {
    let now: Vec<TcpAddress> = match &state.update {
        Some(update::Update::Add(set)) => set.addrs.iter().filter_map(|a| a.addr).collect(),
        _ => Vec::new(),
    };
    let addrs: Vec<TcpAddress> = told
        .iter()
        .filter(|old| !now.contains(old))
        .copied()
        .collect();
    *told = now;
    let removed = (!addrs.is_empty()).then_some(Update {
        update: Some(update::Update::Remove(AddrSet { addrs })),
    });
    removed.into_iter().chain([state])
}

impl State {
    fn sender(&self, target: &str) -> watch::Sender<Update> {
        let unknown = || {
            watch::Sender::new(Update {
                update: Some(none(false)),
            })
        };
        self.targets
            .lock()
            .entry(target.to_owned())
            .or_insert_with(unknown)
            .clone()
    }
}

#[tonic::async_trait]
impl Service for State {
    type GetStream = Pin<Box<dyn Stream<Item = Result<Update, Status>> + Send>>;
    type GetProfileStream = Pin<Box<dyn Stream<Item = Result<DestinationProfile, Status>> + Send>>;

    async fn get(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetStream>, Status> {
        self.asked.fetch_add(1, Relaxed);
        if self.mute.load(Relaxed) {
            return Ok(Response::new(Box::pin(tokio_stream::pending())));
        }
        if self.exhausted.load(Relaxed) {
            return Err(Status::resource_exhausted("too many streams open"));
        }
        let question = request.into_inner();
        assert_eq!(question.scheme, "k8s");
        let states = WatchStream::new(self.sender(&question.path).subscribe());
        let mut told = Vec::new();
        let updates = futures::StreamExt::flat_map(states, move |state| {
            tokio_stream::iter(difference(&mut told, state).map(Ok))
        });
        let thinks = Duration::from_millis(self.thinks_ms.load(Relaxed));
        let updates = async move {
            tokio::time::sleep(thinks).await;
            updates
        };
        Ok(Response::new(Box::pin(futures::FutureExt::flatten_stream(
            updates,
        ))))
    }

    async fn get_profile(
        &self,
        _: Request<GetDestination>,
    ) -> Result<Response<Self::GetProfileStream>, Status> {
        Err(Status::unimplemented("no profiles"))
    }
}
