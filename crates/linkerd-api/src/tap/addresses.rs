//! Whose address an address is: adds to events what the proxies do not know. Entries: [`Shared::of`],
//! [`Addresses::name`].

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Weak},
};

use linkerd_proto::{
    net::TcpAddress,
    tap::{TapEvent, tap_event::EndpointMeta},
};
use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use super::FOLLOW_INTERVAL;
use crate::cluster::Cluster;

const POD: &str = "pod";
const NAMESPACE: &str = "namespace";

/// The pods of the cluster by address. Addresses of nodes are left out, and those that a pod had and another
/// one has by now, until it is known which.
#[derive(Debug, Default)]
pub(super) struct Addresses(HashMap<IpAddr, Option<Labels>>);

type Labels = BTreeMap<String, String>;

/// One map for all taps: of a large cluster it costs too much to be made for each.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Weak<Kept>>);

/// Follows the cluster for as long as somebody has it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) latest: watch::Receiver<Arc<Addresses>>,
    _follower: AbortOnDropHandle<()>,
}

impl Shared {
    /// The map of the cluster, which is always the same one.
    pub(super) fn of(&self, cluster: &Arc<Cluster>) -> Arc<Kept> {
        let mut shared = self.0.lock();
        shared.upgrade().unwrap_or_else(|| {
            let kept = Arc::new(Kept::follow(cluster.clone()));
            *shared = Arc::downgrade(&kept);
            kept
        })
    }
}

impl Kept {
    fn follow(cluster: Arc<Cluster>) -> Self {
        let mut changes = cluster.pods.changes();
        let addresses = watch::Sender::new(Arc::new(Addresses::of(&cluster)));
        let latest = addresses.subscribe();
        let follow = async move {
            while changes.changed().await.is_ok() {
                sleep(FOLLOW_INTERVAL).await;
                changes.mark_unchanged();
                addresses.send_replace(Arc::new(Addresses::of(&cluster)));
            }
        };
        Self {
            latest,
            _follower: AbortOnDropHandle::new(tokio::spawn(follow)),
        }
    }
}

impl Addresses {
    fn of(cluster: &Cluster) -> Self {
        let mut addresses: HashMap<IpAddr, Option<Labels>> = HashMap::new();
        for ((namespace, name), pod) in cluster.pods.list("") {
            if pod.host_network || !pod.is_alive() {
                continue;
            }
            let mut labels = Labels::from([
                (POD.to_owned(), name),
                (NAMESPACE.to_owned(), namespace.clone()),
            ]);
            if let Some((kind, owner)) = cluster.owner_of(&namespace, &pod) {
                labels.insert(kind.metric_label().to_owned(), owner);
            }
            let ips = std::iter::once(&pod.ip).chain(&pod.other_ips);
            for ip in ips.filter_map(|ip| ip.parse().ok()) {
                addresses
                    .entry(ip)
                    .and_modify(|known| *known = None)
                    .or_insert_with(|| Some(labels.clone()));
            }
        }
        Self(addresses)
    }

    /// Adds pod, namespace and owner to both ends of an event. What the proxy says stays.
    pub(super) fn name(&self, event: &mut TapEvent) {
        let TapEvent {
            source,
            source_meta,
            destination,
            destination_meta,
            ..
        } = event;
        self.add(source.as_ref(), source_meta);
        self.add(destination.as_ref(), destination_meta);
    }

    fn add(&self, address: Option<&TcpAddress>, meta: &mut Option<EndpointMeta>) {
        let ip = address.and_then(|address| IpAddr::try_from(address.ip?).ok());
        let Some(Some(labels)) = ip.and_then(|ip| self.0.get(&ip)) else {
            return;
        };
        let known = &mut meta.get_or_insert_default().labels;
        for (key, value) in labels {
            known.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{
        pod::Pod,
        workload::{Controller, Workload},
    };

    fn running(ip: &str) -> Pod {
        Pod {
            ip: ip.into(),
            phase: "Running".into(),
            ..Pod::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_taps_share_one_map_that_is_kept_while_there_is_a_tap() {
        let (shared, cluster) = (Shared::default(), Arc::new(Cluster::default()));
        let first = shared.of(&cluster);
        let second = shared.of(&cluster);
        assert!(Arc::ptr_eq(&first, &second));
        drop(first);
        let mut latest = second.latest.clone();
        // However many come at once, they are one change of the map.
        for ip in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            let key = ("ns".to_owned(), format!("at-{ip}"));
            cluster.pods.insert(key, running(ip));
        }
        latest.changed().await.expect("it is kept");
        assert_eq!(latest.borrow_and_update().0.len(), 3);
        sleep(FOLLOW_INTERVAL * 2).await;
        assert!(!latest.has_changed().expect("it is kept"));
        drop(second);
        assert!(latest.changed().await.is_err(), "nobody needs it any more");
        // The next tap has what changed meanwhile.
        let key = ("ns".to_owned(), "later".to_owned());
        cluster.pods.insert(key, running("10.0.0.4"));
        assert_eq!(shared.of(&cluster).latest.borrow().0.len(), 4);
    }

    #[test]
    fn pods_have_addresses_of_both_families_and_nodes_have_none() {
        let cluster = Cluster::default();
        let pod = |ip: &str, other: &str, host_network| Pod {
            ip: ip.into(),
            other_ips: vec![other.into()],
            host_network,
            phase: "Running".into(),
            ..Pod::default()
        };
        for (name, pod) in [
            ("a", pod("10.0.0.1", "fd00::1", false)),
            ("on-node", pod("192.0.2.1", "2001:db8::1", true)),
        ] {
            cluster.pods.insert(("ns".into(), name.into()), pod);
        }
        let Addresses(known) = Addresses::of(&cluster);
        let name = |ip: &str| {
            let labels = known.get(&ip.parse().expect("valid"))?;
            Some(labels.as_ref()?[POD].clone())
        };
        assert_eq!(name("10.0.0.1"), Some("a".to_owned()));
        assert_eq!(name("fd00::1"), Some("a".to_owned()));
        assert_eq!((name("192.0.2.1"), name("2001:db8::1")), (None, None));
    }

    #[test]
    fn ends_are_named_by_their_address_and_shared_addresses_by_nobody() {
        let cluster = Cluster::default();
        let managed_by = |kind: &str, name: &str| {
            Some(Controller {
                api_version: "apps/v1".into(),
                kind: kind.into(),
                name: name.into(),
                uid: String::new(),
            })
        };
        let replica_set = Workload {
            controller: managed_by("Deployment", "web"),
            ..Workload::default()
        };
        cluster
            .replica_sets
            .insert(("ns".into(), "web-1".into()), replica_set);
        let pod = |ip: &str| Pod {
            controller: managed_by("ReplicaSet", "web-1"),
            ..running(ip)
        };
        for (name, ip) in [("a", "10.0.0.1"), ("b", "10.0.0.9"), ("c", "10.0.0.9")] {
            cluster.pods.insert(("ns".into(), name.into()), pod(ip));
        }
        let address = |text: &str| Some(text.parse::<SocketAddr>().expect("valid").into());
        let mut event = TapEvent {
            source: address("10.0.0.9:1"),
            destination: address("10.0.0.1:80"),
            destination_meta: Some(EndpointMeta {
                labels: [("pod".to_owned(), "told".to_owned())].into(),
            }),
            ..TapEvent::default()
        };
        Addresses::of(&cluster).name(&mut event);
        assert_eq!(event.source_meta, None);
        let labels = event.destination_meta.expect("known").labels;
        let labels: Vec<_> = labels
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        let expected = [("deployment", "web"), ("namespace", "ns"), ("pod", "told")];
        assert_eq!(labels, expected);
    }
}
