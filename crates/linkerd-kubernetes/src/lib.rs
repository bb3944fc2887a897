//! How every program of the control plane reaches the API server, so that one that has died silently is noticed.
//! Entry: [`client`], and [`watch_config`] for each watch. Knows nothing of the mesh.

use std::time::Duration;

use kube::{Client, Config, runtime::watcher};

/// A watch is renewed this often: on an open one nothing may come for as long, and no longer.
const WATCH_SECONDS: u32 = 60;
/// An API server that says nothing for so long, to a request or within a watch, is taken for dead. Longer than the
/// silence of a watch, for whose orderly end it has ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(70);

/// Returns a client of the cluster that a kubeconfig or the pod's service account names.
///
/// # Errors
/// [`kube::Error`] when neither is there, or what it names cannot be read.
pub async fn client() -> kube::Result<Client> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    client_of(config)
}

/// Returns a client of the cluster in `config`.
///
/// # Errors
/// [`kube::Error`] when the certificates or credentials in it cannot be read.
pub fn client_of(mut config: Config) -> kube::Result<Client> {
    config.read_timeout = Some(SILENCE_MAX);
    // A connection that was idle before has as long for its answer as a new one.
    config.reset_reader_on_write = true;
    Client::try_from(config)
}

/// With which every watch begins. A longer one would be cut off when nothing happens.
pub fn watch_config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}
