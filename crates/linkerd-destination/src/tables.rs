//! How each kind of object enters and leaves the tables of [`Cluster`], and what that affects.
//! Entry: [`Object`]. An object that did not change affects nothing.

use std::{hash::Hash, sync::Arc};

use linkerd_names::OwnerKind;

use crate::{
    cluster::{Affected, Cluster},
    node::Node,
    owner::{Link, LinkKey},
    pod::{Network, Pod, PodKey},
    service::Service,
    slice::{Slice, SliceKey},
    target::ServiceKey,
};

/// An object of a kind that [`Cluster`] keeps.
pub trait Object: Sized {
    /// What names an object of this kind.
    type Key: Clone + Eq + Hash + Send;

    /// Names this object.
    fn key(&self) -> Self::Key;
    /// Puts this object in the place of an older state of it.
    fn apply(self, cluster: &mut Cluster) -> Affected;
    /// Forgets an object.
    fn delete(key: &Self::Key, cluster: &mut Cluster) -> Affected;
}

impl Object for Service {
    type Key = ServiceKey;

    fn key(&self) -> ServiceKey {
        self.key.clone()
    }

    fn apply(self, cluster: &mut Cluster) -> Affected {
        if cluster.services.get(&self.key) == Some(&self) {
            return Affected::default();
        }
        let mut affected = Self::delete(&self.key, cluster);
        for ip in &self.cluster_ips {
            cluster.services_by_cluster_ip.insert(*ip, self.key.clone());
        }
        for ip in self.outside_ips() {
            cluster.services_by_outside_ip.insert(*ip, self.key.clone());
        }
        for node_port in self.ports.iter().filter_map(|port| port.node_port) {
            cluster
                .services_by_node_port
                .insert(node_port, self.key.clone());
        }
        affected_by_service(cluster, &self, &mut affected);
        cluster.services.insert(self.key.clone(), self);
        affected
    }

    fn delete(key: &ServiceKey, cluster: &mut Cluster) -> Affected {
        let mut affected = Affected::default();
        if let Some(service) = cluster.services.remove(key) {
            for ip in &service.cluster_ips {
                cluster.services_by_cluster_ip.remove(*ip, key);
            }
            for ip in service.outside_ips() {
                cluster.services_by_outside_ip.remove(*ip, key);
            }
            for node_port in service.ports.iter().filter_map(|port| port.node_port) {
                cluster.services_by_node_port.remove(node_port, key);
            }
            affected_by_service(cluster, &service, &mut affected);
        }
        affected
    }
}

impl Object for Slice {
    type Key = SliceKey;

    fn key(&self) -> SliceKey {
        self.key.clone()
    }

    fn apply(self, cluster: &mut Cluster) -> Affected {
        if cluster.slices.get(&self.key) == Some(&self) {
            return Affected::default();
        }
        let mut affected = Self::delete(&self.key, cluster);
        cluster
            .slices_by_service
            .insert(self.service.clone(), self.key.clone());
        for endpoint in &self.endpoints {
            cluster.slices_by_ip.insert(endpoint.ip, self.key.clone());
        }
        affected.services.insert(self.service.clone());
        cluster.slices.insert(self.key.clone(), self);
        affected
    }

    fn delete(key: &SliceKey, cluster: &mut Cluster) -> Affected {
        let mut affected = Affected::default();
        if let Some(slice) = cluster.slices.remove(key) {
            cluster.slices_by_service.remove(slice.service.clone(), key);
            for endpoint in &slice.endpoints {
                cluster.slices_by_ip.remove(endpoint.ip, key);
            }
            affected.services.insert(slice.service);
        }
        affected
    }
}

impl Object for Pod {
    type Key = PodKey;

    fn key(&self) -> PodKey {
        self.key.clone()
    }

    fn apply(self, cluster: &mut Cluster) -> Affected {
        let before = cluster.pods.get(&self.key);
        if before.is_some_and(|(pod, _)| *pod == self) {
            return Affected::default();
        }
        let before = before.map(|(_, workload)| Arc::clone(workload));
        let workload = cluster.workload(&self);
        // An equal value stays the very same one, so that comparing it costs nothing later.
        let workload = before
            .filter(|before| **before == workload)
            .unwrap_or_else(|| Arc::new(workload));
        let mut affected = Self::delete(&self.key, cluster);
        if self.network == Network::Pod {
            for ip in &self.ips {
                cluster.pods_by_ip.insert(*ip, self.key.clone());
            }
        }
        if let Some(link) = link_of(&self) {
            cluster.pods_by_link.insert(link, self.key.clone());
        }
        affected_by_pod(cluster, &self, &mut affected);
        cluster.pods.insert(self.key.clone(), (self, workload));
        affected
    }

    fn delete(key: &PodKey, cluster: &mut Cluster) -> Affected {
        let mut affected = Affected::default();
        if let Some((pod, _)) = cluster.pods.remove(key) {
            for ip in &pod.ips {
                cluster.pods_by_ip.remove(*ip, key);
            }
            if let Some(link) = link_of(&pod) {
                cluster.pods_by_link.remove(link, key);
            }
            affected_by_pod(cluster, &pod, &mut affected);
        }
        affected
    }
}

impl Object for Link {
    type Key = LinkKey;

    fn key(&self) -> LinkKey {
        self.key.clone()
    }

    /// Pods may have come before the ReplicaSet or Job that names their owner.
    fn apply(self, cluster: &mut Cluster) -> Affected {
        let mut affected = Affected::default();
        if cluster.links.get(&self.key) == Some(&self) {
            return affected;
        }
        let key = self.key.clone();
        cluster.links.insert(key.clone(), self);
        for pod_key in cluster
            .pods_by_link
            .get(&key)
            .cloned()
            .into_iter()
            .flatten()
        {
            let Some((pod, before)) = cluster.pods.get(&pod_key) else {
                continue;
            };
            let workload = cluster.workload(pod);
            if **before != workload {
                affected_by_pod(cluster, pod, &mut affected);
                if let Some((_, before)) = cluster.pods.get_mut(&pod_key) {
                    *before = Arc::new(workload);
                }
            }
        }
        affected
    }

    /// Pods keep the owner that they had, also when they change: it was theirs, and they are about to go
    /// as well.
    fn delete(key: &LinkKey, cluster: &mut Cluster) -> Affected {
        cluster.links.remove(key);
        Affected::default()
    }
}

impl Object for Node {
    type Key = String;

    fn key(&self) -> String {
        self.name.clone()
    }

    fn apply(self, cluster: &mut Cluster) -> Affected {
        if cluster.nodes.get(&self.name) == Some(&self) {
            return Affected::default();
        }
        let mut affected = Self::delete(&self.name, cluster);
        for ip in &self.ips {
            cluster.nodes_by_ip.insert(*ip, self.name.clone());
        }
        affected.ips.extend(&self.ips);
        cluster.nodes.insert(self.name.clone(), self);
        affected
    }

    fn delete(name: &String, cluster: &mut Cluster) -> Affected {
        let mut affected = Affected::default();
        if let Some(node) = cluster.nodes.remove(name) {
            for ip in &node.ips {
                cluster.nodes_by_ip.remove(*ip, name);
            }
            affected.ips.extend(node.ips);
        }
        affected
    }
}

fn link_of(pod: &Pod) -> Option<LinkKey> {
    let controller = pod.controller.as_ref()?;
    let kind = controller
        .kind
        .parse()
        .ok()
        .filter(|kind| matches!(kind, OwnerKind::ReplicaSet | OwnerKind::Job))?;
    Some(LinkKey {
        kind,
        namespace: pod.key.namespace.clone(),
        name: controller.name.clone(),
    })
}

fn affected_by_pod(cluster: &Cluster, pod: &Pod, affected: &mut Affected) {
    affected.pods.insert(pod.key.clone());
    for ip in &pod.ips {
        affected.ips.insert(*ip);
        let slices = cluster.slices_by_ip.get(ip).into_iter().flatten();
        let slices = slices.filter_map(|key| cluster.slices.get(key));
        affected
            .services
            .extend(slices.map(|slice| slice.service.clone()));
    }
}

fn affected_by_service(cluster: &Cluster, service: &Service, affected: &mut Affected) {
    affected.services.insert(service.key.clone());
    affected.ips.extend(&service.cluster_ips);
    affected.ips.extend(service.outside_ips());
    if service.ports.iter().any(|port| port.node_port.is_some()) {
        affected.ips.extend(cluster.nodes_by_ip.keys());
    }
}
