//! How a pod's proxy is to treat what arrives at a port: everybody is let in, mesh TLS or not, as
//! optional TLS means. Entry: [`server`]. Pure: the same state gives the same message.

use std::{collections::BTreeMap, net::IpAddr};

use linkerd_proto::{
    inbound::{Authn, Authz, Network, ProxyProtocol, Server, authn, proxy_protocol},
    net::{IpAddress, IpNetwork},
};
use prost_types::Duration;

use crate::{
    endpoints::{Endpoints, Source},
    reference::default_reference,
};

/// How long a proxy waits for a client's first bytes before it takes them for no HTTP.
const DETECT_TIMEOUT: Duration = Duration {
    seconds: 10,
    nanos: 0,
};

/// What the policy is called in metrics and logs of the proxy. A policy without a name is invalid.
const NAME: &str = "all-unauthenticated";

/// Returns the policy of a pod's port; none when there is no such pod.
///
/// Opaque ports are not read; all others are read as HTTP where they are that.
pub fn server(endpoints: &Endpoints) -> Option<Server> {
    let Source::Pod { opaque, .. } = endpoints.source else {
        return None;
    };
    let kind = if opaque {
        proxy_protocol::Kind::Opaque(proxy_protocol::Opaque {})
    } else {
        // Without routes the authorizations below are those of every request.
        proxy_protocol::Kind::Detect(proxy_protocol::Detect {
            timeout: Some(DETECT_TIMEOUT),
            ..proxy_protocol::Detect::default()
        })
    };
    Some(Server {
        protocol: Some(ProxyProtocol { kind: Some(kind) }),
        server_ips: endpoints
            .list
            .iter()
            .map(|endpoint| IpAddress::from(endpoint.address.ip()))
            .collect(),
        authorizations: vec![everybody()],
        labels: labels(),
    })
}

/// A rule without networks would make the whole policy invalid, so both families are told in full.
fn everybody() -> Authz {
    let everywhere = |ip: IpAddr| Network {
        net: Some(IpNetwork {
            ip: Some(ip.into()),
            prefix_len: 0,
        }),
        except: Vec::new(),
    };
    Authz {
        networks: vec![everywhere([0; 4].into()), everywhere([0; 16].into())],
        authentication: Some(Authn {
            permit: Some(authn::Permit::Unauthenticated(
                authn::PermitUnauthenticated {},
            )),
        }),
        labels: labels(),
        metadata: Some(default_reference(NAME)),
    }
}

fn labels() -> BTreeMap<String, String> {
    [("group", ""), ("kind", "default"), ("name", NAME)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
