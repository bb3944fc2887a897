//! The names, addresses and files of the local cluster: what several files here must agree on.
//! Entry: [`Layout`]. Knows how things are called, never whether they exist.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::cache;

/// The bridge that joins the nodes with the control plane, which runs on the machine itself.
pub(super) const BRIDGE: &str = "linkerd0";
/// The machine's side of each node's link is this and the node's number.
pub(super) const LINK_PREFIX: &str = "linkerd-n";
/// The cgroup, in every hierarchy, under which each node has a folder of its own: with a shared
/// one, each kubelet kills the pods of the others as orphans.
pub(super) const CGROUP: &str = "linkerd-local-cluster";
/// The range of the bridge. The machine is the first address, node N is the address 10 + N.
pub(super) const BRIDGE_RANGE: &str = "172.30.0.0/24";
/// The part of it for Services of type LoadBalancer. Each address is a route of the machine.
pub(super) const LOAD_BALANCER_RANGE: &str = "172.30.0.192/26";
/// The machine's address on the bridge: the API server and the DNS server.
pub(super) const HOST: &str = "172.30.0.1";
/// The range of all pods. Node N has 10.244.N.0/24.
pub(super) const POD_RANGE: &str = "10.244.0.0/16";
/// The range of Service addresses. It exists inside of the nodes only.
pub(super) const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The address of the Service `kubernetes`: the first one of the range.
pub(super) const KUBERNETES_SERVICE: &str = "10.96.0.1";
/// The address of the Service `kube-dns`.
pub(super) const DNS_SERVICE: &str = "10.96.0.10";
/// The image of every pod's first container, imported from our own build.
pub(super) const PAUSE_IMAGE: &str = "localhost/linkerd-local-cluster/pause:1";
/// Nodes are numbered from 1 to this: a node's number is a byte of its pods' addresses, and 2 cores
/// carry no more.
pub(super) const NODES_MAX: usize = 9;
/// A Unix socket's path has at most 107 bytes; the longest one below the state folder needs 40.
const STATE_PATH_MAX: usize = 107 - 40;

/// Where the files of the cluster lie.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Everything of a running cluster; gone when it is down.
    pub(super) state: PathBuf,
    /// Binaries for people: `kubectl`.
    pub(super) bin: PathBuf,
    /// Held while the cluster is being changed.
    pub(super) lock: PathBuf,
    /// Holds one folder per build of the Go sources.
    pub(super) builds: PathBuf,
}

impl Layout {
    /// Returns the layout in the cache folder.
    ///
    /// # Errors
    /// When there is no cache folder, or its path is too long for the sockets in it.
    pub(super) fn find() -> Result<Self> {
        let cache = cache::folder()?;
        let layout = Self {
            state: cache.join("cluster"),
            bin: cache.join("bin"),
            lock: cache.join("cluster.lock"),
            builds: cache.join("kubernetes"),
        };
        ensure!(
            layout.state.as_os_str().len() <= STATE_PATH_MAX,
            "{} is too long a path for the sockets in it; set LINKERD_CACHE to a shorter one",
            layout.state.display()
        );
        Ok(layout)
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    pub(super) fn kubectl(&self) -> PathBuf {
        self.bin.join("kubectl")
    }

    pub(super) fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.state.join("pki").join(format!("{user}.kubeconfig"))
    }

    pub(super) fn certificate(&self, name: &str) -> PathBuf {
        self.state.join("pki").join(format!("{name}.crt"))
    }

    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.state.join("pki").join(format!("{name}.key"))
    }

    pub(super) fn public_key(&self, name: &str) -> PathBuf {
        self.state.join("pki").join(format!("{name}.pub"))
    }

    pub(super) fn log(&self, component: &str) -> PathBuf {
        self.state.join("logs").join(format!("{component}.log"))
    }

    pub(super) fn node(&self, number: usize) -> PathBuf {
        self.state.join(node_name(number))
    }

    pub(super) fn containerd_socket(&self, number: usize) -> PathBuf {
        self.node(number).join("containerd.sock")
    }
}

/// Returns the name of node `number` in Kubernetes and in the file system.
pub(super) fn node_name(number: usize) -> String {
    format!("node{number}")
}

/// Returns the address of node `number` on the bridge.
pub(super) fn node_address(number: usize) -> String {
    format!("172.30.0.{}", 10 + number)
}

/// Returns the range of the pods of node `number`.
pub(super) fn node_pod_range(number: usize) -> String {
    format!("10.244.{number}.0/24")
}

/// Returns the address at which the API server is reached, from the machine and from pods.
pub(super) fn api_server() -> String {
    format!("https://{HOST}:6443")
}

/// Returns `path` as a word of a command line.
pub(super) fn word(path: &Path) -> String {
    path.display().to_string()
}
