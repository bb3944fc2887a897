//! Kubelet's TCP probes of ports whose connections the proxy takes: kubelet asks the proxy, over HTTP.

/// What the path of such a question begins with, on the proxy's metrics port; the application's port
/// follows.
pub const TCP_PATH: &str = "/probe/tcp/";
