//! The cluster as discovery sees it: the tables of its objects, and the answer to a target.
//! Entry: [`Cluster::resolve`]. Pure: no I/O, no clock; who asked is for `index.rs` to know.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    endpoints::{Endpoint, Endpoints, Source, Workload},
    multimap::Multimap,
    node::Node,
    owner::{Link, LinkKey, owner_of},
    pod::{Network, Pod, PodKey, Readiness, Stage, TlsMark},
    service::{Service, ServicePort},
    slice::{Slice, SliceEndpoint, SliceKey, Turn},
    target::{ServiceKey, Target},
};

/// All objects that discovery follows, and the ways to find them.
#[derive(Debug)]
pub struct Cluster {
    control_plane_namespace: String,
    pub(crate) services: HashMap<ServiceKey, Service>,
    pub(crate) services_by_cluster_ip: Multimap<IpAddr, ServiceKey>,
    pub(crate) services_by_outside_ip: Multimap<IpAddr, ServiceKey>,
    pub(crate) services_by_node_port: Multimap<u16, ServiceKey>,
    pub(crate) slices: HashMap<SliceKey, Slice>,
    pub(crate) slices_by_service: Multimap<ServiceKey, SliceKey>,
    pub(crate) slices_by_ip: Multimap<IpAddr, SliceKey>,
    pub(crate) pods: HashMap<PodKey, (Pod, Arc<Workload>)>,
    pub(crate) pods_by_ip: Multimap<IpAddr, PodKey>,
    pub(crate) pods_by_link: Multimap<LinkKey, PodKey>,
    pub(crate) links: HashMap<LinkKey, Link>,
    pub(crate) nodes: HashMap<String, Node>,
    pub(crate) nodes_by_ip: Multimap<IpAddr, String>,
}

/// What a change may have changed: the answers to targets of these Services and at these addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Services whose endpoints may differ.
    pub services: HashSet<ServiceKey>,
    /// Addresses that may mean something else.
    pub ips: HashSet<IpAddr>,
    /// Pods that may look different.
    pub pods: HashSet<PodKey>,
}

/// How many objects of each kind are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Services.
    pub services: usize,
    /// EndpointSlices.
    pub slices: usize,
    /// Pods.
    pub pods: usize,
    /// Nodes.
    pub nodes: usize,
    /// ReplicaSets and Jobs.
    pub links: usize,
}

impl Cluster {
    /// An empty cluster; only pods meshed by `control_plane_namespace` will have identities.
    pub fn new(control_plane_namespace: &str) -> Self {
        Self {
            control_plane_namespace: control_plane_namespace.to_owned(),
            services: HashMap::new(),
            services_by_cluster_ip: Multimap::default(),
            services_by_outside_ip: Multimap::default(),
            services_by_node_port: Multimap::default(),
            slices: HashMap::new(),
            slices_by_service: Multimap::default(),
            slices_by_ip: Multimap::default(),
            pods: HashMap::new(),
            pods_by_ip: Multimap::default(),
            pods_by_link: Multimap::default(),
            links: HashMap::new(),
            nodes: HashMap::new(),
            nodes_by_ip: Multimap::default(),
        }
    }

    /// Returns what stands behind `target` now.
    ///
    /// A name, and a Service's address with one of its ports, mean its ready endpoints, or, when there
    /// is none, those whose node is silent; a pod's address and its name mean that pod, ready or not;
    /// all else is unknown. What several claim is the one's to whom Kubernetes gave it.
    pub fn resolve(&self, target: &Target) -> Endpoints {
        match target {
            Target::Name {
                service,
                hostname,
                port,
            } => self
                .services
                .get(service)
                .and_then(|service| {
                    let port = service
                        .ports
                        .iter()
                        .find(|candidate| candidate.port == *port)?;
                    let ipv6 = self.family_of(service);
                    Some(self.endpoints_of(service, port, ipv6, hostname.as_deref()))
                })
                .unwrap_or_default(),
            Target::Address(address) => self.resolve_address(*address).unwrap_or_default(),
            Target::Pod { pod, port } => self
                .pods
                .get(pod)
                .map(|(pod, workload)| pod_endpoints(pod, workload, &pod.ips, *port))
                .unwrap_or_default(),
        }
    }

    /// Counts the objects.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            services: self.services.len(),
            slices: self.slices.len(),
            pods: self.pods.len(),
            nodes: self.nodes.len(),
            links: self.links.len(),
        }
    }

    /// Whoever may write Services may claim any outside address. So a cluster IP, a pod's own address and
    /// a NodePort mean what Kubernetes gave them to, whatever others claim: else clients would be sent to
    /// another's endpoints, and told to expect another's identity.
    fn resolve_address(&self, address: SocketAddr) -> Option<Endpoints> {
        let (ip, number) = (address.ip(), address.port());
        let endpoints = |(service, port)| self.endpoints_of(service, port, ip.is_ipv6(), None);
        if let Some(keys) = self.services_by_cluster_ip.get(&ip) {
            let mut services = self.with_port(keys, |port| port.port == number);
            return services.next().map(endpoints);
        }
        if let Some((pod, workload)) = self.pod_at(ip) {
            return Some(pod_endpoints(pod, workload, &[ip], number));
        }
        self.node_port(ip, number)
            .or_else(|| self.first_claim(ip, number))
            .map(endpoints)
    }

    fn node_port(&self, ip: IpAddr, number: u16) -> Option<(&Service, &ServicePort)> {
        self.nodes_by_ip.get(&ip)?;
        let keys = self.services_by_node_port.get(&number)?;
        self.with_port(keys, |port| port.node_port == Some(number))
            .next()
    }

    /// Of those that claim an outside address: whom a load balancer serves, before who only says so; then
    /// the oldest, which a newcomer cannot be.
    fn first_claim(&self, ip: IpAddr, number: u16) -> Option<(&Service, &ServicePort)> {
        let keys = self.services_by_outside_ip.get(&ip)?;
        self.with_port(keys, |port| port.port == number)
            .min_by_key(|(service, _)| {
                let only_says_so = !service.load_balancer_ips.contains(&ip);
                (only_says_so, &service.created, &service.key)
            })
    }

    /// Those of `keys` that have a port that `matches`, and that port.
    fn with_port(
        &self,
        keys: &BTreeSet<ServiceKey>,
        matches: impl Fn(&ServicePort) -> bool,
    ) -> impl Iterator<Item = (&Service, &ServicePort)> {
        let services = keys.iter().filter_map(|key| self.services.get(key));
        services.filter_map(move |service| {
            let port = service.ports.iter().find(|port| matches(port))?;
            Some((service, port))
        })
    }

    /// A name stands for the endpoints of one family, else a dual-stack pod would be there twice.
    /// Returns whether that is IPv6: the Service's first family if it has endpoints, or the other.
    fn family_of(&self, service: &Service) -> bool {
        for turn in [Turn::Always, Turn::Last] {
            let mut families = self
                .slices_of(&service.key)
                .filter_map(|slice| slice.endpoints.iter().find(|each| each.turn == turn))
                .map(|endpoint| endpoint.ip.is_ipv6());
            if let Some(first) = families.next() {
                let preferred = service.prefers_ipv6;
                let has_preferred = first == preferred || families.any(|ipv6| ipv6 == preferred);
                return if has_preferred { preferred } else { first };
            }
        }
        service.prefers_ipv6
    }

    fn slices_of(&self, service: &ServiceKey) -> impl Iterator<Item = &Slice> {
        let keys = self.slices_by_service.get(service);
        keys.into_iter()
            .flatten()
            .filter_map(|key| self.slices.get(key))
    }

    fn endpoints_of(
        &self,
        service: &Service,
        port: &ServicePort,
        ipv6: bool,
        hostname: Option<&str>,
    ) -> Endpoints {
        let list_of = |turn| {
            let mut list = Vec::new();
            for slice in self.slices_of(&service.key) {
                let Some(slice_port) = slice.ports.iter().find(|each| each.name == port.name)
                else {
                    continue;
                };
                let number = slice_port.port.unwrap_or(port.port);
                let endpoints = slice
                    .endpoints
                    .iter()
                    .filter(|each| each.turn == turn && each.ip.is_ipv6() == ipv6)
                    .filter(|each| hostname.is_none() || each.hostname.as_deref() == hostname)
                    .filter_map(|each| self.slice_endpoint(each, number));
                list.extend(endpoints);
            }
            list
        };
        let mut list = list_of(Turn::Always);
        if list.is_empty() {
            list = list_of(Turn::Last);
        }
        list.sort_by_key(|endpoint| endpoint.address);
        list.dedup_by_key(|endpoint| endpoint.address);
        Endpoints {
            source: Source::Service {
                key: service.key.clone(),
                port: port.port,
                opaque: service.opaque_ports.contains(port.port),
                listed_opaque: service.opaque_ports.lists(port.port),
            },
            list,
        }
    }

    /// An endpoint that names a pod counts only while that pod has that address and is not ending,
    /// and as a last resort only if the pod was ready when its node was last heard of; one that names
    /// none is taken as it is, with what is known of whoever has the address.
    fn slice_endpoint(&self, endpoint: &SliceEndpoint, port: u16) -> Option<Endpoint> {
        let address = SocketAddr::new(endpoint.ip, port);
        let workload = match &endpoint.pod {
            Some(key) => {
                let (pod, workload) = self.pods.get(key)?;
                let takes_traffic = matches!(pod.stage, Stage::Pending | Stage::Running);
                let is_its_turn =
                    endpoint.turn == Turn::Always || pod.readiness == Readiness::Ready;
                if !takes_traffic || !is_its_turn || !pod.ips.contains(&endpoint.ip) {
                    return None;
                }
                Some(Arc::clone(workload))
            }
            None if endpoint.turn == Turn::Last => return None,
            None => self
                .pod_at(endpoint.ip)
                .map(|(_, workload)| Arc::clone(workload)),
        };
        Some(Endpoint { address, workload })
    }

    /// The pod that has an address now: when two claim it, the one that is further from its end.
    pub(crate) fn pod_at(&self, ip: IpAddr) -> Option<&(Pod, Arc<Workload>)> {
        self.pods_by_ip
            .get(&ip)?
            .iter()
            .filter_map(|key| self.pods.get(key))
            .filter(|(pod, _)| matches!(pod.stage, Stage::Running | Stage::Terminating))
            .max_by_key(|(pod, _)| pod.stage)
    }

    /// What is to be told of a pod. The owner that is known of an earlier state of it stays while the object
    /// between is not known.
    pub(crate) fn workload(&self, pod: &Pod) -> Workload {
        let owner = owner_of(pod, |key| self.links.get(key)).or_else(|| {
            let (before, workload) = self.pods.get(&pod.key)?;
            let is_the_same = before.uid == pod.uid && before.controller == pod.controller;
            workload.owner.clone().filter(|_| is_the_same)
        });
        let ours = pod.control_plane_namespace.as_ref() == Some(&self.control_plane_namespace);
        let proves_identity = ours && pod.tls == TlsMark::Present && pod.network == Network::Pod;
        let identity = owner
            .as_ref()
            .filter(|_| proves_identity)
            // Names too long for DNS have no certificate, so they have no identity either.
            .and_then(|owner| owner.identity(&self.control_plane_namespace).ok());
        Workload {
            pod: pod.key.clone(),
            owner,
            control_plane_namespace: pod.control_plane_namespace.clone(),
            template_hash: pod.template_hash.clone(),
            identity,
            skip_inbound_ports: pod.skip_inbound_ports.clone(),
            opaque_ports: pod.opaque_ports.clone(),
            inbound_port: pod.inbound_port,
        }
    }
}

fn pod_endpoints(pod: &Pod, workload: &Arc<Workload>, ips: &[IpAddr], port: u16) -> Endpoints {
    let mut list: Vec<_> = ips
        .iter()
        .map(|ip| Endpoint {
            address: SocketAddr::new(*ip, port),
            workload: Some(Arc::clone(workload)),
        })
        .collect();
    list.sort_by_key(|endpoint| endpoint.address);
    Endpoints {
        source: Source::Pod {
            namespace: pod.key.namespace.clone(),
            opaque: pod.opaque_ports.contains(port),
        },
        list,
    }
}
