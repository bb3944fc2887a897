//! The connection to the destination service: one for the whole proxy, made again with a jittered
//! back-off when it breaks. Entry: [`Control::run`]; lookups watch [`Control::status`].

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use linkerd_names::{CLUSTER_DOMAIN, NoTls, Tls};
use linkerd_proto::destination::destination_client::DestinationClient;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    config::ControlAddress,
    detect::Protocol,
    endpoint::{Endpoint, Labels},
    grpc::Channel,
    http::http2::{Http2, Pings},
    metrics::Direction,
    shared::Shared,
    tls::{
        Verdict,
        connect::{ConnectError, Connected, backoff, connect},
    },
};

/// Without the destination service nothing new is learnt: its end is to be noticed soon.
const PINGS: Pings = Pings {
    interval: Duration::from_secs(10),
    timeout: Duration::from_secs(3),
    when_idle: true,
};
/// Name resolution is a blocking call of libc; it may hang for its own timeouts.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
/// An update with 10,000 endpoints has about 3 MB.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What lookups use to ask.
pub(crate) type Client = DestinationClient<Channel>;

/// Whether the destination service answers.
#[derive(Clone)]
pub(crate) enum Status {
    /// The first attempt is under way.
    Connecting,
    /// Ask.
    Up(Client),
    /// The last attempt has failed; the next one is under way or waits.
    Down,
}

/// The destination service as the lookups see it.
pub(crate) struct Control {
    shared: Arc<Shared>,
    address: ControlAddress,
    status: watch::Sender<Status>,
    /// It accepts questions and does not answer them.
    slow: AtomicBool,
    /// Questions were answered on the present connection.
    serves: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        host: String,
        source: std::io::Error,
    },
    #[error("cannot resolve {host}: no answer in time")]
    ResolveTimeout { host: String },
    #[error("cannot resolve {host}: it has no address")]
    NoAddress { host: String },
    #[error("{address}: {source}")]
    Connect {
        address: SocketAddr,
        source: ConnectError,
    },
    #[error("HTTP/2: {0}")]
    Http(#[from] h2::Error),
}

impl Control {
    pub(crate) fn new(shared: Arc<Shared>, address: ControlAddress) -> Arc<Self> {
        let status = watch::Sender::new(Status::Connecting);
        Arc::new(Self {
            shared,
            address,
            status,
            slow: AtomicBool::new(false),
            serves: AtomicBool::new(false),
        })
    }

    /// Follows the state of the connection.
    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Whether waiting for an answer is worth it.
    pub(crate) fn is_answering(&self) -> bool {
        !self.slow.load(Relaxed) && !matches!(*self.status.borrow(), Status::Down)
    }

    /// Remembers whether the last question was answered in time.
    pub(crate) fn answered(&self, in_time: bool) {
        self.slow.store(!in_time, Relaxed);
        if in_time {
            self.serves.store(true, Relaxed);
        }
    }

    /// Keeps the connection until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&self) {
        let (min, max) = self.shared.config.limits.control_backoff;
        let mut endpoints = HashMap::new();
        let mut failures = 0;
        loop {
            match self.connect(&mut endpoints).await {
                Ok((client, connection, renew_at)) => {
                    let since = Instant::now();
                    self.serves.store(false, Relaxed);
                    self.status.send_replace(Status::Up(client));
                    let was_of_use = tokio::select! {
                        result = connection => {
                            let error = result.err().map(|error| error.to_string());
                            debug!(error, "the connection to the destination service has ended");
                            // Nobody may have asked anything for long.
                            self.serves.load(Relaxed) || since.elapsed() > max
                        }
                        // The streams of this connection end; what they have told is kept.
                        () = self.renewal(renew_at) => {
                            debug!("trying TLS to the destination service again");
                            true
                        }
                    };
                    if was_of_use {
                        failures = 0;
                        self.status.send_replace(Status::Connecting);
                    } else {
                        failures += 1;
                        self.status.send_replace(Status::Down);
                    }
                }
                Err(error) => {
                    if failures == 0 {
                        warn!(%error, "cannot reach the destination service");
                    } else {
                        debug!(%error, failures, "cannot reach the destination service");
                    }
                    self.status.send_replace(Status::Down);
                    failures += 1;
                }
            }
            tokio::time::sleep(backoff(failures, min, max)).await;
        }
    }

    async fn connect(
        &self,
        endpoints: &mut HashMap<SocketAddr, Arc<Endpoint>>,
    ) -> Result<
        (
            Client,
            impl Future<Output = Result<(), h2::Error>> + use<>,
            Renewal,
        ),
        ControlError,
    > {
        let addresses = self.resolve().await?;
        endpoints.retain(|address, _| addresses.contains(address));
        let alone = addresses.len() == 1;
        let mut last = ControlError::NoAddress {
            host: self.address.host.clone(),
        };
        for address in addresses {
            let endpoint = endpoints.entry(address).or_insert_with(|| {
                Endpoint::new(
                    address,
                    self.address.identity.clone(),
                    NoTls::Loopback,
                    Labels::default(),
                    self.shared.ejections.clone(),
                )
            });
            endpoint.set_alone(alone);
            let verdict = Verdict::Known(Protocol::Http2);
            match connect(&self.shared, Direction::Outbound, endpoint, verdict).await {
                Ok(connected) => return self.handshake(address, connected).await,
                Err(source) => last = ControlError::Connect { address, source },
            }
        }
        Err(last)
    }

    async fn handshake(
        &self,
        address: SocketAddr,
        connected: Connected,
    ) -> Result<
        (
            Client,
            impl Future<Output = Result<(), h2::Error>> + use<>,
            Renewal,
        ),
        ControlError,
    > {
        let limits = &self.shared.config.limits;
        let (sender, connection) = Http2::over(connected.socket, limits, Some(PINGS)).await?;
        info!(%address, tls = connected.tls.label(), "connected to the destination service");
        let origin = format!("http://{}:{}", self.address.host, self.address.port);
        let origin = origin
            .parse()
            .unwrap_or_else(|_| http::Uri::from_static("http://control"));
        let client = DestinationClient::with_origin(Channel(sender), origin)
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let renewal = match connected.tls {
            Tls::Off(NoTls::NoCredentials) => Renewal::WhenLoaded,
            _ => connected.retry_tls_at.map_or(Renewal::Never, Renewal::At),
        };
        Ok((client, connection, renewal))
    }

    async fn renewal(&self, renewal: Renewal) {
        match (renewal, &self.shared.credentials) {
            (Renewal::At(at), _) => tokio::time::sleep_until(at.into()).await,
            (Renewal::WhenLoaded, Some(store)) => store.loaded().await,
            _ => std::future::pending().await,
        }
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, ControlError> {
        let host = absolute(&self.address.host);
        let lookup = tokio::net::lookup_host((host.as_str(), self.address.port));
        let addresses: Vec<_> = tokio::time::timeout(RESOLVE_TIMEOUT, lookup)
            .await
            .map_err(|_| ControlError::ResolveTimeout { host: host.clone() })?
            .map_err(|source| ControlError::Resolve {
                host: host.clone(),
                source,
            })?
            .collect();
        Ok(addresses)
    }
}

/// When a plaintext connection should try TLS again.
enum Renewal {
    Never,
    At(Instant),
    WhenLoaded,
}

/// Names of the cluster are looked up as they are, without the search path of resolv.conf.
pub(crate) fn absolute(host: &str) -> String {
    if host == "localhost." {
        "localhost".to_owned()
    } else if host.ends_with(&format!(".svc.{CLUSTER_DOMAIN}")) {
        format!("{host}.")
    } else {
        host.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn names_of_the_cluster_skip_the_search_path() {
        assert_eq!(absolute("a.b.svc.cluster.local"), "a.b.svc.cluster.local.");
        assert_eq!(absolute("localhost."), "localhost");
        assert_eq!(absolute("10.0.0.1"), "10.0.0.1");
    }
}
