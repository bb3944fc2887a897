//! What every connection of the proxy needs: settings, counters, credentials, own addresses.

use std::{net::SocketAddr, sync::Arc};

use tokio_util::task::TaskTracker;

use crate::{
    config::Config, ejections::Ejections, metrics::Metrics, quiet::Quiet, tap::Taps,
    tls::credentials::Store,
};

/// Shared by all tasks, built once by `lib.rs`.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) taps: Arc<Taps>,
    pub(crate) ejections: Arc<Ejections>,
    /// None when TLS is disabled.
    pub(crate) credentials: Option<Arc<Store>>,
    /// The addresses that the proxy itself listens on.
    pub(crate) own: Vec<SocketAddr>,
    /// Owns the tasks of connections; the end of the process waits for them.
    pub(crate) tasks: TaskTracker,
    /// Failures towards applications, for the log.
    pub(crate) failures: Quiet,
    /// What anybody can make us refuse, for the log.
    pub(crate) refusals: Quiet,
}

impl Shared {
    /// The same for connections that nobody needs to wait for.
    pub(crate) fn with_own_tasks(&self) -> Self {
        Self {
            config: self.config.clone(),
            metrics: self.metrics.clone(),
            taps: self.taps.clone(),
            ejections: self.ejections.clone(),
            credentials: self.credentials.clone(),
            own: self.own.clone(),
            tasks: TaskTracker::new(),
            failures: Quiet::default(),
            refusals: Quiet::default(),
        }
    }

    /// Whether a connection to `address` would come back to this proxy.
    pub(crate) fn is_own_listener(&self, address: SocketAddr) -> bool {
        self.own.iter().any(|own| {
            own.port() == address.port()
                && (own.ip() == address.ip()
                    || (own.ip().is_unspecified() && address.ip().is_loopback()))
        })
    }
}
