//! Messages, clients and servers of every service in `proto/`, one module a package.
//! [`address`] converts addresses to and from `std`; nothing here connects to anything.

pub mod address;

pub use address::InvalidAddress;
pub use linkerd2::public;

macro_rules! packages {
    ($($(#[$doc:meta])* $module:ident = $package:literal;)*) => {
        $(
            $(#[$doc])*
            #[allow(missing_docs, clippy::all, rustdoc::all)]
            pub mod $module {
                tonic::include_proto!($package);
            }
        )*
    };
}

packages! {
    /// Addresses.
    net = "io.linkerd.proxy.net";
    /// HTTP's vocabulary.
    http_types = "io.linkerd.proxy.http_types";
    /// References to Kubernetes objects.
    meta = "io.linkerd.proxy.meta";
    /// How a proxy gets a certificate.
    identity = "io.linkerd.proxy.identity";
    /// Discovery.
    destination = "io.linkerd.proxy.destination";
    /// A proxy's live view of its requests.
    tap = "io.linkerd.proxy.tap";
    /// What a pod's proxy lets in.
    inbound = "io.linkerd.proxy.inbound";
    /// How a proxy treats its application's traffic.
    outbound = "io.linkerd.proxy.outbound";
    /// Matches and filters of HTTP requests.
    http_route = "io.linkerd.proxy.http_route";
    /// Matches and filters of gRPC requests.
    grpc_route = "io.linkerd.proxy.grpc_route";
    /// Filters of connections that are not HTTP.
    opaque_route = "io.linkerd.proxy.opaque_route";
    /// What stands in front of a connection between two proxies of Linkerd.
    transport = "transport.l5d.io";
    /// Matches of TLS connections.
    tls_route = "io.linkerd.proxy.tls_route";
}

mod linkerd2 {
    packages! {
        /// What the control plane tells people.
        public = "linkerd2.public";
    }
}

/// The path by which generated code of another package finds the packages of the proxy API.
#[allow(unused_imports)]
mod io {
    pub(crate) mod linkerd {
        pub(crate) mod proxy {
            pub(crate) use crate::{destination, http_types, identity, meta, net, tap};
        }
    }
}
