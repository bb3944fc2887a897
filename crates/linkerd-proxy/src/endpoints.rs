//! A target's endpoints as the destination service has told them. Entry: [`Endpoints::apply`]. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use linkerd_names::{Identity, NoTls};
use linkerd_proto::destination::{Update, WeightedAddr, tls_identity::Strategy, update};
use tracing::warn;

use crate::{
    ejections::Ejections,
    endpoint::{Endpoint, Labels},
    metrics,
};

/// A Service with more has the first ones used; Kubernetes supports 5,000 nodes.
const ENDPOINTS_MAX: usize = 10_000;

/// An unchanging set; a change is a new set that shares what has not changed.
#[derive(Clone)]
pub(crate) struct Endpoints {
    pub(crate) list: Arc<[Arc<Endpoint>]>,
    /// `service.namespace` where it is known, for messages.
    pub(crate) service: Arc<str>,
}

impl Endpoints {
    /// The one endpoint of an address that nobody knows more about.
    pub(crate) fn original(endpoint: Arc<Endpoint>) -> Self {
        let service = endpoint.address.to_string().into();
        Self {
            list: [endpoint].into(),
            service,
        }
    }

    /// The set after `update`; none when nothing changes. With `fresh` the update is a whole set.
    pub(crate) fn apply(
        known: Option<&Self>,
        update: Update,
        fresh: bool,
        address: SocketAddr,
        ejections: &Arc<Ejections>,
    ) -> Option<Self> {
        let old: HashMap<SocketAddr, &Arc<Endpoint>> = known
            .iter()
            .flat_map(|k| k.list.iter())
            .map(|e| (e.address, e))
            .collect();
        let service = known.map_or_else(|| address.to_string().into(), |k| k.service.clone());
        let mut next: BTreeMap<SocketAddr, Arc<Endpoint>> = if fresh || known_is_original(known) {
            BTreeMap::new()
        } else {
            old.iter()
                .map(|(address, endpoint)| (*address, (*endpoint).clone()))
                .collect()
        };
        let next = match update.update? {
            update::Update::Add(set) => {
                let service = name(&set.metric_labels).map_or(service, Into::into);
                for added in set.addrs {
                    if next.len() >= ENDPOINTS_MAX {
                        warn!(%address, max = ENDPOINTS_MAX, "too many endpoints; the rest is ignored");
                        break;
                    }
                    if let Some(endpoint) = endpoint(added, &set.metric_labels, &old, ejections) {
                        next.insert(endpoint.address, endpoint);
                    }
                }
                Self {
                    list: next.into_values().collect(),
                    service,
                }
            }
            update::Update::Remove(set) => {
                for removed in set.addrs {
                    if let Ok(address) = SocketAddr::try_from(removed) {
                        next.remove(&address);
                    }
                }
                Self {
                    list: next.into_values().collect(),
                    service,
                }
            }
            update::Update::NoEndpoints(none) if none.exists => Self {
                list: [].into(),
                service,
            },
            update::Update::NoEndpoints(_) => {
                let kept = old
                    .get(&address)
                    .filter(|e| e.no_identity == NoTls::OffCluster);
                let original = kept.map_or_else(
                    || {
                        Endpoint::new(
                            address,
                            None,
                            NoTls::OffCluster,
                            Labels::default(),
                            ejections.clone(),
                        )
                    },
                    |endpoint| (*endpoint).clone(),
                );
                Self::original(original)
            }
        };
        for endpoint in old.values() {
            if !next.list.iter().any(|kept| Arc::ptr_eq(kept, endpoint)) {
                endpoint.leave();
            }
        }
        Some(next)
    }
}

/// The address itself stood in for a set; a set replaces it.
fn known_is_original(known: Option<&Endpoints>) -> bool {
    known.is_some_and(|k| k.list.iter().all(|e| e.no_identity == NoTls::OffCluster))
}

fn name(labels: &BTreeMap<String, String>) -> Option<String> {
    Some(format!(
        "{}.{}",
        labels.get("service")?,
        labels.get("namespace")?
    ))
}

/// The endpoint of a message: the one known before when it is the same in everything.
/// None when the message has no valid address, or wants no traffic.
fn endpoint(
    added: WeightedAddr,
    set_labels: &BTreeMap<String, String>,
    old: &HashMap<SocketAddr, &Arc<Endpoint>>,
    ejections: &Arc<Ejections>,
) -> Option<Arc<Endpoint>> {
    if added.weight == 0 {
        return None;
    }
    let address = SocketAddr::try_from(added.addr?)
        .ok()
        .filter(|address| address.port() != 0)?;
    let identity = match added.tls_identity.and_then(|identity| identity.strategy) {
        Some(Strategy::DnsLikeIdentity(identity)) => match identity.name.parse::<Identity>() {
            Ok(identity) => Some(identity),
            Err(error) => {
                warn!(%address, %error, "an endpoint with an unusable identity is left out");
                return None;
            }
        },
        _ => None,
    };
    let labels = labels(set_labels, &added.metric_labels);
    let inbound_port = added
        .protocol_hint
        .and_then(|hint| u16::try_from(hint.opaque_transport?.inbound_port).ok())
        .filter(|port| *port != 0);
    if let Some(known) = old.get(&address)
        && known.identity == identity
        && known.inbound_port == inbound_port
        && known.labels == labels
        && known.no_identity == NoTls::PeerNotMeshed
    {
        return Some((*known).clone());
    }
    Some(Endpoint::discovered(
        address,
        identity,
        NoTls::PeerNotMeshed,
        inbound_port,
        labels,
        ejections.clone(),
    ))
}

/// The labels of both, sorted; the endpoint's win.
fn labels(set: &BTreeMap<String, String>, endpoint: &BTreeMap<String, String>) -> Labels {
    let mut pairs = set.clone();
    pairs.extend(
        endpoint
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    pairs.retain(|name, _| is_label_name(name));
    let mut rendered = String::new();
    for (name, value) in &pairs {
        metrics::label(&mut rendered, &format!("dst_{name}"), value);
    }
    Labels {
        pairs,
        rendered: rendered.into(),
    }
}

fn is_label_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use linkerd_proto::destination::{AddrSet, NoEndpoints, TlsIdentity, WeightedAddrSet};

    use super::*;

    const TARGET: &str = "10.96.0.1:80";

    fn add(addresses: &[(&str, Option<&str>)]) -> Update {
        let addrs = addresses
            .iter()
            .map(|(address, identity)| WeightedAddr {
                addr: Some(address.parse::<SocketAddr>().unwrap().into()),
                weight: 1,
                tls_identity: identity.map(|name| TlsIdentity {
                    strategy: Some(Strategy::DnsLikeIdentity(
                        linkerd_proto::destination::tls_identity::DnsLikeIdentity {
                            name: name.to_owned(),
                        },
                    )),
                    ..Default::default()
                }),
                ..Default::default()
            })
            .collect();
        let metric_labels = [
            ("service".to_owned(), "web".to_owned()),
            ("namespace".to_owned(), "ns".to_owned()),
        ]
        .into();
        Update {
            update: Some(update::Update::Add(WeightedAddrSet {
                addrs,
                metric_labels,
            })),
        }
    }

    fn remove(addresses: &[&str]) -> Update {
        let addrs = addresses
            .iter()
            .map(|a| a.parse::<SocketAddr>().unwrap().into())
            .collect();
        Update {
            update: Some(update::Update::Remove(AddrSet { addrs })),
        }
    }

    fn none(exists: bool) -> Update {
        Update {
            update: Some(update::Update::NoEndpoints(NoEndpoints { exists })),
        }
    }

    fn apply(known: Option<&Endpoints>, update: Update, fresh: bool) -> Endpoints {
        Endpoints::apply(
            known,
            update,
            fresh,
            TARGET.parse().unwrap(),
            &Arc::default(),
        )
        .unwrap()
    }

    fn addresses(endpoints: &Endpoints) -> Vec<String> {
        endpoints
            .list
            .iter()
            .map(|endpoint| endpoint.address.to_string())
            .collect()
    }

    #[test]
    fn additions_and_removals_accumulate() {
        let set = apply(None, add(&[("1.1.1.1:1", None), ("1.1.1.2:1", None)]), true);
        let set = apply(Some(&set), add(&[("1.1.1.3:1", None)]), false);
        let set = apply(Some(&set), remove(&["1.1.1.1:1", "9.9.9.9:9"]), false);
        assert_eq!(addresses(&set), ["1.1.1.2:1", "1.1.1.3:1"]);
        assert_eq!(&*set.service, "web.ns");
        assert_eq!(
            &*set.list[0].labels.rendered,
            r#"dst_namespace="ns",dst_service="web""#
        );
    }

    #[test]
    fn a_fresh_stream_replaces_the_set_and_keeps_what_is_the_same() {
        let old = apply(
            None,
            add(&[("1.1.1.1:1", Some("a.b")), ("1.1.1.2:1", None)]),
            true,
        );
        let new = apply(Some(&old), add(&[("1.1.1.1:1", Some("a.b"))]), true);
        assert_eq!(addresses(&new), ["1.1.1.1:1"]);
        assert!(Arc::ptr_eq(&old.list[0], &new.list[0]));
        assert!(old.list[1].is_gone() && !old.list[0].is_gone());
    }

    #[test]
    fn another_identity_at_an_address_is_another_endpoint() {
        let old = apply(None, add(&[("1.1.1.1:1", Some("a.b"))]), true);
        let new = apply(Some(&old), add(&[("1.1.1.1:1", Some("c.d"))]), false);
        assert_eq!(new.list.len(), 1);
        assert_eq!(new.list[0].identity.as_ref().unwrap().as_str(), "c.d");
        assert!(old.list[0].is_gone());
    }

    #[test]
    fn an_unknown_address_is_reached_as_it_is() {
        let set = apply(None, none(false), true);
        assert_eq!(addresses(&set), [TARGET]);
        assert_eq!(set.list[0].no_identity, NoTls::OffCluster);
        let again = apply(Some(&set), none(false), true);
        assert!(Arc::ptr_eq(&set.list[0], &again.list[0]));
        let set = apply(Some(&set), add(&[("1.1.1.1:1", None)]), false);
        assert_eq!(addresses(&set), ["1.1.1.1:1"]);
    }

    #[test]
    fn a_service_without_endpoints_has_none() {
        assert!(apply(None, none(true), true).list.is_empty());
    }

    #[test]
    fn an_endpoint_whose_identity_cannot_be_read_is_left_out_rather_than_spoken_to_in_the_clear() {
        let set = apply(
            None,
            add(&[("1.1.1.1:1", Some("*..")), ("1.1.1.2:1", None)]),
            true,
        );
        assert_eq!(addresses(&set), ["1.1.1.2:1"]);
    }
}
