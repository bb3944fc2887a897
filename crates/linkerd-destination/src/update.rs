//! The messages that lead a reader from the endpoints it has to those that stand now. Entry: [`diff`].
//! Pure: the same two states give the same messages.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use linkerd_proto::destination::{
    AddrSet, NoEndpoints, TlsIdentity, Update, WeightedAddr, WeightedAddrSet, tls_identity, update,
};

use crate::endpoints::{Endpoint, Endpoints, Source, Workload};

/// Every endpoint's share of the traffic is the same.
const WEIGHT: u32 = 10_000;

/// Addresses in one message. About 300 bytes each: well below the 4 MiB that a client of gRPC takes.
const ADDRESSES_PER_MESSAGE_MAX: usize = 4_000;

/// Returns the messages from `sent`, or from nothing, to `now`; empty when nothing differs.
///
/// What was added or looks different comes before what is gone, so that a reader that has
/// endpoints is never left without any in between. An address that is another workload's by now,
/// or has another identity, is sent again.
pub fn diff(sent: Option<&Endpoints>, now: &Endpoints) -> Vec<Update> {
    let nothing = Endpoints::default();
    let before = sent.unwrap_or(&nothing);
    if now.list.is_empty() {
        let same = sent.is_some() && before.list.is_empty() && exists(before) == exists(now);
        return if same {
            Vec::new()
        } else {
            vec![no_endpoints(exists(now))]
        };
    }
    // Labels of the target are part of every set of addresses: other labels, all addresses again.
    let keeps_labels = set_labels(&before.source) == set_labels(&now.source);
    let (added, removed) = compare(&before.list, &now.list, keeps_labels);
    let labels = set_labels(&now.source);
    let adds = added.chunks(ADDRESSES_PER_MESSAGE_MAX).map(|chunk| {
        update::Update::Add(WeightedAddrSet {
            addrs: chunk
                .iter()
                .map(|endpoint| weighted_addr(endpoint))
                .collect(),
            metric_labels: labels.clone(),
        })
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
    WeightedAddr {
        addr: Some(endpoint.address.into()),
        weight: WEIGHT,
        metric_labels: endpoint
            .workload
            .as_deref()
            .map(endpoint_labels)
            .unwrap_or_default(),
        tls_identity,
        ..WeightedAddr::default()
    }
}

fn no_endpoints(exists: bool) -> Update {
    Update {
        update: Some(update::Update::NoEndpoints(NoEndpoints { exists })),
    }
}

fn exists(endpoints: &Endpoints) -> bool {
    endpoints.source != Source::Unknown
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
            vec![("namespace", &key.namespace), ("service", &key.name)]
        }
        Source::Pod { namespace, .. } => vec![("namespace", namespace)],
    };
    labels
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.clone()))
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
