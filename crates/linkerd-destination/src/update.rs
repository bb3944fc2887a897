//! The messages that lead a reader from the endpoints it has to those that stand now. Entry: [`diff`].
//! Pure: the same two states give the same messages.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use linkerd_names::discovery::{OPAQUE_PORTS_LABEL, OPAQUE_PORTS_LISTED};
use linkerd_proto::destination::{
    AddrSet, NoEndpoints, ProtocolHint, TlsIdentity, Update, WeightedAddr, WeightedAddrSet,
    protocol_hint, tls_identity, update,
};

use crate::endpoints::{Endpoint, Endpoints, Source, Transport, Workload};

/// Every endpoint's share of the traffic is the same.
const WEIGHT: u32 = 10_000;

/// Addresses in one message. About 300 bytes each: well below the 4 MiB that a client of gRPC takes.
const ADDRESSES_PER_MESSAGE_MAX: usize = 4_000;

/// Returns the messages from `sent`, or from nothing, to `now`; empty when nothing differs.
///
/// What was added or looks different comes before what is gone, so that a reader that has
/// endpoints is never left without any in between. An address that is another workload's by now,
/// or has another identity, is sent again. After [`NoEndpoints`] a set without addresses has the labels of the
/// target, for a reader that does not have them: what is asked of it fails, and is counted.
pub fn diff(sent: Option<&Endpoints>, now: &Endpoints) -> Vec<Update> {
    let nothing = Endpoints::default();
    let before = sent.unwrap_or(&nothing);
    // Labels of the target are part of every set of addresses: other labels, all addresses again.
    let labels = set_labels(&now.source);
    let keeps_labels = set_labels(&before.source) == labels;
    let add = |addrs| {
        update::Update::Add(WeightedAddrSet {
            addrs,
            metric_labels: labels.clone(),
        })
    };
    if now.list.is_empty() {
        let knows_labels = sent.is_some() && keeps_labels;
        if knows_labels && before.list.is_empty() && before.exists() == now.exists() {
            return Vec::new();
        }
        let mut updates = vec![no_endpoints(now.exists())];
        if !knows_labels && !labels.is_empty() {
            let update = Some(add(Vec::new()));
            updates.push(Update { update });
        }
        return updates;
    }
    let (added, removed) = compare(&before.list, &now.list, keeps_labels);
    let adds = added.chunks(ADDRESSES_PER_MESSAGE_MAX).map(|chunk| {
        let addrs = chunk.iter().map(|endpoint| weighted_addr(endpoint));
        add(addrs.collect())
    });
    let removes = removed.chunks(ADDRESSES_PER_MESSAGE_MAX).map(|chunk| {
        update::Update::Remove(AddrSet {
            addrs: chunk
                .iter()
                .map(|endpoint| endpoint.address.into())
                .collect(),
        })
    });
    adds.chain(removes)
        .map(|update| Update {
            update: Some(update),
        })
        .collect()
}

/// An endpoint as the wire has it.
pub fn weighted_addr(endpoint: &Endpoint) -> WeightedAddr {
    let tls_identity = endpoint.identity().map(|identity| TlsIdentity {
        strategy: Some(tls_identity::Strategy::DnsLikeIdentity(
            tls_identity::DnsLikeIdentity {
                name: identity.to_string(),
            },
        )),
        server_name: None,
    });
    let mut metric_labels = endpoint
        .workload
        .as_deref()
        .map(endpoint_labels)
        .unwrap_or_default();
    if endpoint.is_listed_opaque() {
        metric_labels.insert(OPAQUE_PORTS_LABEL.into(), OPAQUE_PORTS_LISTED.into());
    }
    WeightedAddr {
        addr: Some(endpoint.address.into()),
        weight: WEIGHT,
        metric_labels,
        tls_identity,
        protocol_hint: endpoint.transport().map(protocol_hint),
        ..WeightedAddr::default()
    }
}

/// HTTP/1 may come inside HTTP/2, and every connection with a header at the proxy's own port. Our own
/// proxies agree on more by themselves; they need the port for peers that are proxies of Linkerd.
fn protocol_hint(transport: Transport) -> ProtocolHint {
    use protocol_hint::{H2, Opaque, OpaqueTransport, Protocol};
    let Transport {
        inbound_port,
        opaque,
    } = transport;
    ProtocolHint {
        opaque_transport: Some(OpaqueTransport {
            inbound_port: inbound_port.into(),
        }),
        protocol: Some(if opaque {
            Protocol::Opaque(Opaque {})
        } else {
            Protocol::H2(H2 {})
        }),
    }
}

fn no_endpoints(exists: bool) -> Update {
    Update {
        update: Some(update::Update::NoEndpoints(NoEndpoints { exists })),
    }
}

/// Both lists are sorted by address, so one walk through both is enough.
fn compare<'a>(
    before: &'a [Endpoint],
    now: &'a [Endpoint],
    keeps_labels: bool,
) -> (Vec<&'a Endpoint>, Vec<&'a Endpoint>) {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    let (mut olds, mut news) = (before.iter().peekable(), now.iter().peekable());
    loop {
        let order = match (olds.peek(), news.peek()) {
            (None, None) => return (added, removed),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.address.cmp(&new.address),
        };
        match order {
            Ordering::Less => removed.extend(olds.next()),
            Ordering::Greater => added.extend(news.next()),
            Ordering::Equal => {
                let same = olds
                    .next()
                    .zip(news.peek().copied())
                    .is_some_and(|(old, new)| is_same(old, new));
                let new = news.next();
                if !(same && keeps_labels) {
                    added.extend(new);
                }
            }
        }
    }
}

/// Most endpoints share their workload with the state before; those need no closer look.
fn is_same(old: &Endpoint, new: &Endpoint) -> bool {
    match (&old.workload, &new.workload) {
        (None, None) => true,
        (Some(old), Some(new)) => Arc::ptr_eq(old, new) || old == new,
        _ => false,
    }
}

fn set_labels(source: &Source) -> BTreeMap<String, String> {
    let labels = match source {
        Source::Unknown => vec![],
        Source::Service { key, .. } => {
            vec![("namespace", &*key.namespace), ("service", &key.name)]
        }
        Source::Pod { namespace, .. } => vec![("namespace", &**namespace)],
    };
    let listed_opaque = match source {
        Source::Service {
            listed_opaque: true,
            ..
        } => Some((OPAQUE_PORTS_LABEL, OPAQUE_PORTS_LISTED)),
        _ => None,
    };
    labels
        .into_iter()
        .chain(listed_opaque)
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn endpoint_labels(workload: &Workload) -> BTreeMap<String, String> {
    let owner = workload
        .owner
        .as_ref()
        .map(|owner| (owner.kind.metric_label(), &owner.name));
    let control_plane = workload.control_plane_namespace.as_ref();
    [("pod", &workload.pod.name)]
        .into_iter()
        .chain(owner)
        .chain(control_plane.map(|namespace| ("control_plane_ns", namespace)))
        .chain(
            workload
                .template_hash
                .as_ref()
                .map(|hash| ("pod_template_hash", hash)),
        )
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::target::ServiceKey;

    /// What a reader has after some messages.
    #[derive(Debug, Default, PartialEq)]
    struct Reader {
        /// Labels of the target.
        labels: BTreeMap<String, String>,
        /// Labels of the target and identity owner of each address.
        list: BTreeMap<SocketAddr, (BTreeMap<String, String>, WeightedAddr)>,
    }

    fn read(reader: &mut Reader, updates: Vec<Update>) {
        for update in updates {
            match update.update.unwrap() {
                update::Update::Add(set) => {
                    reader.labels.clone_from(&set.metric_labels);
                    for addr in set.addrs {
                        let address = addr.addr.unwrap().try_into().unwrap();
                        let known = (set.metric_labels.clone(), addr);
                        reader.list.insert(address, known);
                    }
                }
                update::Update::Remove(set) => {
                    for addr in set.addrs {
                        reader
                            .list
                            .remove(&addr.try_into().unwrap())
                            .expect("only what is there");
                    }
                }
                update::Update::NoEndpoints(NoEndpoints { exists }) => {
                    reader.list.clear();
                    if !exists {
                        reader.labels.clear();
                    }
                }
            }
        }
    }

    /// Every set of up to three addresses with or without a workload, behind one of two Services,
    /// and the unknown target.
    fn all_states() -> Vec<Endpoints> {
        let workload = |name: &str| {
            Arc::new(Workload {
                pod: crate::pod::PodKey {
                    namespace: "ns".into(),
                    name: name.into(),
                },
                owner: None,
                control_plane_namespace: None,
                template_hash: None,
                identity: None,
                skip_inbound_ports: Default::default(),
                opaque_ports: Default::default(),
                inbound_port: None,
            })
        };
        let looks = [None, Some(workload("a")), Some(workload("b"))];
        let mut states = vec![Endpoints::default()];
        for name in ["web", "shop"] {
            for number in 0..4_usize.pow(3) {
                let list = (0..3).filter_map(|place| {
                    let look = number / 4_usize.pow(place) % 4;
                    let address = SocketAddr::from(([10, 0, 0, place as u8], 80));
                    Some(Endpoint {
                        address,
                        workload: looks.get(look)?.clone(),
                    })
                });
                let key = ServiceKey {
                    namespace: "ns".into(),
                    name: name.into(),
                };
                let source = Source::Service {
                    key,
                    port: 80,
                    opaque: false,
                    listed_opaque: false,
                };
                states.push(Endpoints {
                    source,
                    list: list.collect(),
                });
            }
        }
        states
    }

    /// The labels of what is told first of one endpoint at `port`: those of the target, and its own.
    fn labels_of(endpoints: &Endpoints) -> [BTreeMap<String, String>; 2] {
        match diff(None, endpoints).remove(0).update {
            Some(update::Update::Add(set)) => {
                [set.metric_labels, set.addrs[0].metric_labels.clone()]
            }
            other => panic!("{other:?}"),
        }
    }

    /// Ports that are opaque for proxies of Linkerd alone have no such label.
    #[test]
    fn that_somebody_has_listed_a_port_is_told_of_the_target_or_the_endpoint_and_told_anew() {
        use crate::port_set::PortSet;
        let state = |listed_opaque, annotation| {
            let workload = Workload {
                pod: crate::pod::PodKey::default(),
                owner: None,
                control_plane_namespace: None,
                template_hash: None,
                identity: None,
                skip_inbound_ports: PortSet::default(),
                opaque_ports: PortSet::opaque(annotation, |_| None),
                inbound_port: None,
            };
            Endpoints {
                source: Source::Service {
                    key: ServiceKey::default(),
                    port: 3306,
                    opaque: true,
                    listed_opaque,
                },
                list: vec![Endpoint {
                    address: SocketAddr::from(([10, 0, 0, 1], 3306)),
                    workload: Some(Arc::new(workload)),
                }],
            }
        };
        let states = [
            (state(false, None), [false, false]),
            (state(true, None), [true, false]),
            (state(false, Some("3306")), [false, true]),
            (state(false, Some("8080")), [false, false]),
        ];
        for (now, told) in &states {
            let has_label = |labels: BTreeMap<String, String>| {
                labels.get("opaque_ports").map(String::as_str) == Some("listed")
            };
            assert_eq!(labels_of(now).map(has_label), *told, "{now:?}");
            for (before, _) in &states {
                let anew = !diff(Some(before), now).is_empty();
                assert_eq!(anew, before != now, "{before:?} -> {now:?}");
            }
        }
    }

    #[test]
    fn a_reader_that_follows_the_messages_has_the_latest_state() {
        let states = all_states();
        for before in &states {
            for now in &states {
                let mut reader = Reader::default();
                read(&mut reader, diff(None, before));
                read(&mut reader, diff(Some(before), now));
                let mut fresh = Reader::default();
                read(&mut fresh, diff(None, now));
                assert_eq!(reader, fresh, "{before:?} -> {now:?}");
                assert_eq!(reader.list.len(), now.list.len());
                assert_eq!(reader.labels, set_labels(&now.source));
            }
        }
    }

    #[test]
    fn a_state_that_did_not_change_needs_no_message() {
        for state in all_states() {
            assert_eq!(diff(Some(&state), &state.clone()), vec![]);
            assert!(!diff(None, &state).is_empty());
        }
    }

    #[test]
    fn a_reader_with_endpoints_is_never_left_without_any_in_between() {
        let states = all_states();
        for (before, now) in states
            .iter()
            .flat_map(|b| states.iter().map(move |n| (b, n)))
        {
            let mut reader = Reader::default();
            read(&mut reader, diff(None, before));
            for update in diff(Some(before), now) {
                read(&mut reader, vec![update]);
                assert!(
                    !reader.list.is_empty() || now.list.is_empty(),
                    "{before:?} -> {now:?}"
                );
            }
        }
    }
}
