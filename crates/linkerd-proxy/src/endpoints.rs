//! A target's endpoints as the destination service has told them. Entry: [`Endpoints::apply`]. Pure.

use std::{
    collections::{BTreeMap, HashSet},
    fmt, iter,
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use linkerd_names::{Identity, NoTls, discovery::OPAQUE_PORTS_LABEL};
use linkerd_proto::destination::{
    Update, WeightedAddr, WeightedAddrSet, tls_identity::Strategy, update,
};
use tracing::warn;

use crate::{
    breaker::Readiness,
    ejections::Ejections,
    endpoint::{Endpoint, Labels},
};

/// A Service with more has the first ones used; Kubernetes supports 5,000 nodes.
pub(crate) const ENDPOINTS_MAX: usize = 10_000;

/// An unchanging set; a change is a new set that shares what has not changed.
#[derive(Clone)]
pub(crate) struct Endpoints {
    /// Sorted by address.
    pub(crate) list: Arc<[Arc<Endpoint>]>,
    /// `service.namespace` where it is known, for messages.
    pub(crate) service: Arc<str>,
    /// Rendered `dst_…` labels of the target itself, for what finds no endpoint.
    pub(crate) labels: Arc<str>,
    /// Nobody is to look at what goes to some of them.
    pub(crate) is_opaque: bool,
}

impl Endpoints {
    /// The one endpoint of an address that nobody knows more about.
    pub(crate) fn original(endpoint: Arc<Endpoint>) -> Self {
        let service = endpoint.address.to_string().into();
        let labels = endpoint.labels.rendered.clone();
        Self::new([endpoint].into(), service, labels)
    }

    fn new(list: Arc<[Arc<Endpoint>]>, service: Arc<str>, labels: Arc<str>) -> Self {
        Self {
            is_opaque: list.iter().any(|endpoint| endpoint.is_opaque),
            list,
            service,
            labels,
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
        let old: &[Arc<Endpoint>] = known.map_or(&[], |known| &known.list);
        let kept = if fresh || known_is_original(known) {
            &[]
        } else {
            old
        };
        let service = known.map_or_else(|| address.to_string().into(), |k| k.service.clone());
        // They outlast the endpoints: that a Service has none left is no news of who it is.
        let labels = known.map_or_else(|| "".into(), |known| known.labels.clone());
        let next = match update.update? {
            update::Update::Add(set) => {
                let service = name(&set.metric_labels).map_or(service, Into::into);
                let labels = target_labels(&set.metric_labels).unwrap_or(labels);
                let room = ENDPOINTS_MAX.saturating_sub(kept.len());
                if set.addrs.len() > room {
                    warn!(%address, max = ENDPOINTS_MAX, "too many endpoints; the rest is ignored");
                }
                let added = added(set, room, old, ejections);
                Self::new(merge(kept, &added).into(), service, labels)
            }
            update::Update::Remove(set) => {
                let removed: HashSet<SocketAddr> = set
                    .addrs
                    .into_iter()
                    .filter_map(|address| SocketAddr::try_from(address).ok())
                    .collect();
                let is_kept = |endpoint: &&Arc<Endpoint>| !removed.contains(&endpoint.address);
                let list = kept.iter().filter(is_kept).cloned().collect();
                Self::new(list, service, labels)
            }
            update::Update::NoEndpoints(none) if none.exists => {
                Self::new([].into(), service, labels)
            }
            update::Update::NoEndpoints(_) => {
                return Some(Self::unknown(known, address, NoTls::OffCluster, ejections));
            }
        };
        next.succeed(old);
        Some(next)
    }

    /// The set of an `address` that the service tells nothing about for `reason`: itself, the same endpoint as
    /// before where it was that already.
    pub(crate) fn unknown(
        known: Option<&Self>,
        address: SocketAddr,
        reason: NoTls,
        ejections: &Arc<Ejections>,
    ) -> Self {
        let old: &[Arc<Endpoint>] = known.map_or(&[], |known| &known.list);
        let kept = find(old, address).filter(|e| e.no_identity == reason);
        let original = kept.cloned().unwrap_or_else(|| {
            let labels = Labels::default();
            Endpoint::new(address, None, reason, labels, ejections.clone())
        });
        let next = Self::original(original);
        next.succeed(old);
        next
    }

    /// Leaves those of `old` that are not here, and tells those that are whether they are alone.
    fn succeed(&self, old: &[Arc<Endpoint>]) {
        for endpoint in old {
            let kept = find(&self.list, endpoint.address);
            if !kept.is_some_and(|kept| Arc::ptr_eq(kept, endpoint)) {
                endpoint.leave();
            }
        }
        let alone = self.list.len() == 1;
        self.list.iter().for_each(|e| e.set_alone(alone));
    }

    /// How the endpoints are.
    pub(crate) fn census(&self, now: Instant) -> Census {
        let ready = |endpoint: &&Arc<Endpoint>| endpoint.readiness(now) == Readiness::Ready;
        let ready = self.list.iter().filter(ready).count();
        Census {
            known: self.list.len(),
            ready,
            ejected: self.list.len() - ready,
        }
    }

    /// Whether this is what the destination service knows of an address, and not the address itself. A Service
    /// without endpoints is one too.
    pub(crate) fn is_service(&self) -> bool {
        self.list.is_empty() || !self.is_original()
    }

    fn is_original(&self) -> bool {
        self.list.iter().all(|endpoint| {
            matches!(
                endpoint.no_identity,
                NoTls::OffCluster | NoTls::DiscoveryUnavailable
            )
        })
    }
}

/// How many endpoints there are, and how many of them are left alone because they fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) known: usize,
    pub(crate) ready: usize,
    pub(crate) ejected: usize,
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            known,
            ready,
            ejected,
        } = self;
        write!(
            f,
            "endpoints: {known} known, {ready} ready, {ejected} ejected"
        )
    }
}

/// The address itself stood in for a set; a set replaces it.
fn known_is_original(known: Option<&Endpoints>) -> bool {
    known.is_some_and(Endpoints::is_original)
}

/// The endpoint at `address` in a sorted list.
fn find(list: &[Arc<Endpoint>], address: SocketAddr) -> Option<&Arc<Endpoint>> {
    let index = list.binary_search_by_key(&address, |endpoint| endpoint.address);
    index.ok().map(|index| &list[index])
}

/// Both sorted lists as one; where both have an address, the one of `added`.
fn merge(kept: &[Arc<Endpoint>], added: &[Arc<Endpoint>]) -> Vec<Arc<Endpoint>> {
    let mut merged = Vec::with_capacity(kept.len() + added.len());
    let mut kept = kept.iter().peekable();
    for endpoint in added {
        merged.extend(iter::from_fn(|| kept.next_if(|k| k.address < endpoint.address)).cloned());
        kept.next_if(|k| k.address == endpoint.address);
        merged.push(endpoint.clone());
    }
    merged.extend(kept.cloned());
    merged
}

/// The endpoints of a message, sorted; at most `max`.
fn added(
    set: WeightedAddrSet,
    max: usize,
    old: &[Arc<Endpoint>],
    ejections: &Arc<Ejections>,
) -> Vec<Arc<Endpoint>> {
    let mut added: Vec<Arc<Endpoint>> = Vec::with_capacity(set.addrs.len().min(max));
    for address in set.addrs.into_iter().take(max) {
        // Endpoints of one Service are mostly of one workload, so they share its name.
        let before = added.last().and_then(|before| before.identity.clone());
        added.extend(endpoint(
            address,
            &set.metric_labels,
            before,
            old,
            ejections,
        ));
    }
    // Where an address comes twice the last word counts: the sort is stable.
    added.reverse();
    added.sort_by_key(|endpoint| endpoint.address);
    added.dedup_by_key(|endpoint| endpoint.address);
    added
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
    before: Option<Identity>,
    old: &[Arc<Endpoint>],
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
            Ok(identity) => Some(before.filter(|b| *b == identity).unwrap_or(identity)),
            Err(error) => {
                warn!(%address, %error, "an endpoint with an unusable identity is left out");
                return None;
            }
        },
        _ => None,
    };
    let is_opaque = [set_labels, &added.metric_labels]
        .iter()
        .any(|labels| labels.contains_key(OPAQUE_PORTS_LABEL));
    let labels = labels(set_labels, &added.metric_labels);
    let inbound_port = added
        .protocol_hint
        .and_then(|hint| u16::try_from(hint.opaque_transport?.inbound_port).ok())
        .filter(|port| *port != 0);
    if let Some(known) = find(old, address)
        && known.identity == identity
        && known.inbound_port == inbound_port
        && known.is_opaque == is_opaque
        && known.labels == labels
        && known.no_identity == NoTls::PeerNotMeshed
    {
        return Some(known.clone());
    }
    Some(Endpoint::discovered(
        address,
        identity,
        NoTls::PeerNotMeshed,
        inbound_port,
        is_opaque,
        labels,
        ejections.clone(),
    ))
}

/// The labels of a target; none where it was not told any.
fn target_labels(set: &BTreeMap<String, String>) -> Option<Arc<str>> {
    (!set.is_empty()).then(|| labels(set, &BTreeMap::new()).rendered)
}

/// The labels of both that are for metrics; the endpoint's win.
fn labels(set: &BTreeMap<String, String>, endpoint: &BTreeMap<String, String>) -> Labels {
    let mut pairs: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in set.iter().chain(endpoint) {
        if is_label_name(name) && name != OPAQUE_PORTS_LABEL {
            pairs.insert(name, value);
        }
    }
    Labels::new(pairs)
}

fn is_label_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use linkerd_proto::destination::{AddrSet, NoEndpoints, TlsIdentity};

    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::{
        breaker::{Outcome, Reason},
        config::Limits,
    };

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
    fn an_address_that_comes_twice_is_one_endpoint_and_the_last_word_counts() {
        let set = apply(
            None,
            add(&[
                ("1.1.1.2:1", Some("a.b")),
                ("1.1.1.1:1", None),
                ("1.1.1.2:1", Some("c.d")),
            ]),
            true,
        );
        assert_eq!(addresses(&set), ["1.1.1.1:1", "1.1.1.2:1"]);
        assert_eq!(set.list[1].identity.as_ref().unwrap().as_str(), "c.d");
    }

    /// Any history of messages leaves the set that a plain map would have, sorted; what is not in it
    /// any more has been left.
    #[test]
    fn every_history_gives_the_set_of_a_plain_map() {
        for seed in 0..100 {
            let mut lots = SmallRng::seed_from_u64(seed);
            let mut set = apply(None, add(&[]), true);
            let mut model: BTreeMap<SocketAddr, Option<&str>> = BTreeMap::new();
            for _ in 0..50 {
                let mut texts = Vec::new();
                for _ in 0..lots.random_range(1..6) {
                    texts.push(format!("10.0.0.{}:80", lots.random_range(0..12)));
                }
                let before = set.clone();
                if lots.random() {
                    let identity = [None, Some("a.b"), Some("c.d")][lots.random_range(0..3)];
                    let added: Vec<_> = texts.iter().map(|t| (t.as_str(), identity)).collect();
                    set = apply(Some(&set), add(&added), false);
                    model.extend(texts.iter().map(|t| (t.parse().unwrap(), identity)));
                } else {
                    let removed: Vec<_> = texts.iter().map(String::as_str).collect();
                    set = apply(Some(&set), remove(&removed), false);
                    model.retain(|address, _| !texts.contains(&address.to_string()));
                }
                let found = set.list.iter().map(|endpoint| {
                    let identity = endpoint.identity.as_ref().map(Identity::as_str);
                    (endpoint.address, identity)
                });
                assert!(found.eq(model.iter().map(|(a, i)| (*a, *i))), "seed {seed}");
                for endpoint in &*before.list {
                    let kept = set.list.iter().any(|e| Arc::ptr_eq(e, endpoint));
                    assert_eq!(endpoint.is_gone(), !kept, "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn only_where_there_is_no_other_is_an_endpoint_waited_for_long() {
        let limits = Limits::default();
        let patience = |set: &Endpoints| -> Vec<u64> {
            let bounds = set.list.iter().map(|e| e.connect_timeout(&limits));
            bounds.map(|bound| bound.as_secs()).collect()
        };
        let one = apply(None, add(&[("1.1.1.1:1", None)]), true);
        assert_eq!(patience(&one), [4]);
        let two = apply(Some(&one), add(&[("1.1.1.2:1", None)]), false);
        assert_eq!(patience(&two), [1, 1]);
        let left = apply(Some(&two), remove(&["1.1.1.1:1"]), false);
        assert_eq!(patience(&left), [4]);
        let outside = apply(None, none(false), true);
        assert_eq!(patience(&outside), [4]);
    }

    #[test]
    fn a_census_tells_who_is_ejected() {
        let set = apply(None, add(&[("1.1.1.1:1", None), ("1.1.1.2:1", None)]), true);
        let now = Instant::now();
        set.list[0].record(Outcome::Unreachable, Reason::Ready, now);
        assert_eq!(
            set.census(now).to_string(),
            "endpoints: 2 known, 1 ready, 1 ejected"
        );
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
    fn an_address_that_is_refused_again_and_again_is_one_endpoint() {
        let address = TARGET.parse().unwrap();
        let refused = |known: &Endpoints| {
            Endpoints::unknown(Some(known), address, NoTls::OffCluster, &Arc::default())
        };
        let told = apply(None, add(&[("1.1.1.1:1", None)]), true);
        let set = refused(&told);
        assert_eq!(addresses(&set), [TARGET]);
        assert!(told.list[0].is_gone());
        let again = refused(&set);
        assert!(Arc::ptr_eq(&set.list[0], &again.list[0]) && !set.list[0].is_gone());
    }

    #[test]
    fn a_service_without_endpoints_has_none() {
        assert!(apply(None, none(true), true).list.is_empty());
    }

    #[test]
    fn a_service_without_endpoints_stays_known_by_its_labels() {
        const LABELS: &str = r#"dst_namespace="ns",dst_service="web""#;
        let told = apply(None, add(&[("1.1.1.1:1", None)]), true);
        assert_eq!(&*told.labels, LABELS);
        for update in [none(true), remove(&["1.1.1.1:1"])] {
            let empty = apply(Some(&told), update, false);
            assert_eq!((empty.list.len(), &*empty.labels), (0, LABELS));
        }
        // It has had none since it is known.
        let empty = apply(None, none(true), true);
        assert_eq!(&*empty.labels, "");
        let empty = apply(Some(&empty), add(&[]), false);
        assert_eq!((empty.list.len(), &*empty.labels), (0, LABELS));
        assert_eq!(&*empty.service, "web.ns");
        // The address is nobody's any more.
        assert_eq!(&*apply(Some(&empty), none(false), false).labels, "");
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
