//! The data plane: the proxy beside every application of the mesh. Entry: [`Proxy::bind`], then
//! [`Bound::run`]. Knows nothing of Kubernetes: addresses, names and files come from outside.

mod admin;
mod balance;
mod breaker;
mod config;
mod control;
mod detect;
mod discovery;
mod ejections;
mod endpoint;
mod endpoints;
mod first;
mod grpc;
mod http;
mod inbound;
mod io;
mod join;
mod listener;
mod load;
mod metrics;
mod mux;
mod outbound;
mod quiet;
mod scratch;
mod shared;
mod tap;
mod tcp;
mod tcp_probe;
mod tls;
mod transport_header;
mod whole;

use std::{net::SocketAddr, sync::Arc};

use linkerd_process::Readiness;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

pub use config::{
    Config, ControlAddress, InvalidConfig, Limits, TlsFiles, TlsService, TlsSource, parse_duration,
};

use admin::Admin;
use control::Control;
use discovery::Discovery;
use ejections::Ejections;
use inbound::Inbound;
use listener::Listener;
use metrics::Metrics;
use shared::Shared;
use tap::Taps;
use tls::{
    credentials::{Store, Watch},
    renewal::Renewal,
};

/// The proxy.
pub struct Proxy;

/// A proxy whose ports are bound and that does not serve yet.
pub struct Bound {
    shared: Arc<Shared>,
    outbound: Listener,
    inbound: Listener,
    control: Listener,
    metrics: Listener,
    /// Where connections of the application arrive.
    pub outbound_address: SocketAddr,
    /// Where connections to the application arrive.
    pub inbound_address: SocketAddr,
    /// Where tap is served.
    pub control_address: SocketAddr,
    /// Where `/metrics`, `/live`, `/ready` and `/probe/tcp/<port>` are served.
    pub metrics_address: SocketAddr,
}

impl Proxy {
    /// Binds every port of `config`; port 0 takes a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system's, naming the listener and the address.
    pub fn bind(config: Config) -> std::io::Result<Bound> {
        let outbound = Listener::bind("outbound", config.outbound_listener)?;
        let inbound = Listener::bind("inbound", config.inbound_listener)?;
        let control = Listener::bind("control", config.control_listener)?;
        let metrics = Listener::bind("metrics", config.metrics_listener)?;
        let outbound_address = outbound.address()?;
        let inbound_address = inbound.address()?;
        let control_address = control.address()?;
        let metrics_address = metrics.address()?;
        let mut own = Vec::new();
        for listener in [&outbound, &inbound, &control, &metrics] {
            own.extend(listener.addresses()?);
        }
        let credentials = config
            .tls
            .as_ref()
            .map(|tls| Store::new(tls.identity().clone()));
        let counters = Metrics::new(
            config.limits.authorities_max,
            config.limits.routes_max,
            config.limits.metrics_idle,
        );
        let taps = Taps::new(
            config.limits.tap_headers_max,
            config.limits.tap_headers_bytes_max,
        );
        let ejections = Arc::new(Ejections::new(&config.limits));
        let shared = Arc::new(Shared {
            config,
            ejections,
            metrics: Arc::new(counters),
            taps,
            credentials,
            own,
            tasks: TaskTracker::new(),
            failures: quiet::Quiet::default(),
            refusals: quiet::Quiet::default(),
        });
        Ok(Bound {
            shared,
            outbound,
            inbound,
            control,
            metrics,
            outbound_address,
            inbound_address,
            control_address,
            metrics_address,
        })
    }
}

impl Bound {
    /// Serves until `shutdown`, then drains: nothing new is accepted for the application, what is
    /// under way may end, and the application can still connect outwards meanwhile.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self {
            shared,
            outbound,
            inbound,
            control: tap,
            metrics,
            ..
        } = self;
        info!(
            outbound = %self.outbound_address,
            inbound = %self.inbound_address,
            control = %self.control_address,
            metrics = %self.metrics_address,
            identity = shared.config.tls.as_ref().map(|tls| tls.identity().as_str()),
            "proxy is up"
        );
        let end = CancellationToken::new();
        let background = TaskTracker::new();
        let readiness = Readiness::default();
        let ready = become_ready(shared.clone(), readiness.clone());
        background.spawn(end.clone().run_until_cancelled_owned(ready));
        match (&shared.credentials, &shared.config.tls) {
            (Some(store), Some(TlsSource::Files(files))) => {
                let poll = shared.config.limits.credentials_poll;
                let (store, metrics) = (store.clone(), shared.metrics.clone());
                let mut watch = Watch::new(store, files.clone(), metrics);
                // Before any connection is served: what is there already is used for the first one.
                watch.look().await;
                background.spawn(watch.run(poll, end.clone()));
            }
            (Some(store), Some(TlsSource::Service(service))) => {
                let renewal = Renewal {
                    store: store.clone(),
                    service: service.clone(),
                    metrics: shared.metrics.clone(),
                    limits: shared.config.limits.clone(),
                };
                background.spawn(renewal.run(end.clone()));
            }
            _ => {}
        }
        let control = shared
            .config
            .control
            .clone()
            .map(|c| Control::new(shared.clone(), c));
        if let Some(control) = &control {
            background.spawn(control.clone().run(end.clone()));
        }
        let discovery = Discovery::new(shared.clone(), control);

        let admin = Admin::new(shared.clone(), discovery.clone(), readiness);
        let serve = move |client| admin.clone().serve(client);
        // Probes, scrapes and taps go on until the end; they are not waited for.
        let admin_shared = Arc::new(shared.with_own_tasks());
        background.spawn(metrics.run(admin_shared.clone(), end.clone(), serve));

        let tap_server = tap::Server::new(shared.clone());
        let serve = move |client| tap_server.clone().serve(client);
        background.spawn(tap.run(admin_shared, end.clone(), serve));

        let app = Inbound::new(shared.clone());
        let drain = shutdown.clone();
        let serve = move |client| app.clone().serve(client, drain.clone());
        background.spawn(inbound.run(shared.clone(), shutdown.clone(), serve));

        let for_outbound = shared.clone();
        let never = CancellationToken::new();
        let serve = move |client| {
            outbound::serve(
                client,
                for_outbound.clone(),
                discovery.clone(),
                never.clone(),
            )
        };
        background.spawn(outbound.run(shared.clone(), end.clone(), serve));

        shutdown.cancelled().await;
        drain_connections(&shared).await;
        end.cancel();
        background.close();
        background.wait().await;
    }
}

/// Waits for all connections, within the limit.
async fn drain_connections(shared: &Shared) {
    info!(connections = shared.tasks.len(), "draining");
    shared.tasks.close();
    match timeout(shared.config.limits.drain_timeout, shared.tasks.wait()).await {
        Ok(()) => info!("all connections have ended"),
        Err(_) => warn!(
            connections = shared.tasks.len(),
            "ending with open connections"
        ),
    }
}

/// Ready once there is a certificate; without one after the limit, because TLS is optional.
async fn become_ready(shared: Arc<Shared>, readiness: Readiness) {
    if let Some(store) = &shared.credentials {
        let bound = shared.config.limits.ready_timeout;
        if timeout(bound, store.loaded()).await.is_err() {
            warn!(?bound, "no certificate yet; ready without TLS");
        }
    }
    readiness.set_ready(true);
}
