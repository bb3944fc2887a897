//! One workload's pod template before and after injection, and what can be read from it.
//! Entry: [`Pod`].

use linkerd_names::{component, env};
use serde_json::Value;

use super::{Fate, Placed, ProxyPlan, inherited::Inherited};
use crate::{
    Options,
    object::Workload,
    options::{self, PortRange},
    tcp_probes,
};

/// Stands for a namespace that the manifest leaves to kubectl.
const NAMESPACE_UNKNOWN: &str = "<namespace>";

/// A workload and its pod template.
pub(super) struct Pod<'a> {
    pub(super) workload: &'a Workload,
    /// The template in the manifest.
    pub(super) before: &'a Value,
    /// The template that injection has made; half changed when it was refused.
    pub(super) after: &'a Value,
    /// The flags, and over them what the pod's annotations configure.
    pub(super) options: &'a Options,
    /// Annotations that begin like those, and that we do not know.
    pub(super) ignored: &'a [String],
    /// What the pod's Namespace configures.
    pub(super) inherited: &'a Inherited,
    pub(super) fate: Fate,
}

impl<'a> Pod<'a> {
    /// The pod's spec in the manifest.
    pub(super) fn spec(&self) -> &'a Value {
        &self.before["spec"]
    }

    /// The init containers and the containers in the manifest.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec();
        items(&spec["initContainers"]).chain(items(&spec["containers"]))
    }

    /// Those that serve: containers, and init containers that keep running.
    pub(super) fn serving_containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec();
        let sidecars =
            items(&spec["initContainers"]).filter(|one| one["restartPolicy"] == "Always");
        sidecars.chain(items(&spec["containers"]))
    }

    /// A label of the pods.
    pub(super) fn label(&self, key: &str) -> Option<&'a str> {
        self.after["metadata"]["labels"][key].as_str()
    }

    /// An annotation of the pods.
    pub(super) fn annotation(&self, key: &str) -> Option<&'a str> {
        self.after["metadata"]["annotations"][key].as_str()
    }

    /// Whether `port` is in the list that the annotation `key` of the pods has.
    pub(super) fn annotated(&self, key: &str, port: u16) -> bool {
        let ports = self.annotation(key).unwrap_or_default();
        contains(&options::port_ranges(ports).unwrap_or_default(), port)
    }

    /// Whether the proxy is not to look at the bytes of `port`.
    pub(super) fn is_opaque(&self, port: u16) -> bool {
        let ports = self.proxy_env(env::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION);
        let ports = options::port_ranges(ports.unwrap_or_default());
        contains(&ports.unwrap_or_default(), port)
    }

    /// Whether this is a pod of our proxy that TLS is switched on for.
    pub(super) fn has_tls(&self) -> bool {
        self.proxy_env(env::TLS_POD_IDENTITY).is_some()
    }

    /// The number of a port that is given by number or by the name of a container's port.
    pub(super) fn port_number(&self, port: &Value) -> Option<u16> {
        if let Some(number) = port.as_u64() {
            return u16::try_from(number).ok();
        }
        let name = port.as_str()?;
        let of_pod = &self.after["spec"];
        let containers = items(&of_pod["initContainers"]).chain(items(&of_pod["containers"]));
        let mut ports = containers.flat_map(|container| items(&container["ports"]));
        let named = ports.find(|port| port["name"] == name)?;
        u16::try_from(named["containerPort"].as_u64()?).ok()
    }

    /// Whether kubelet asks the proxy what the probe in this field of a container is about.
    pub(super) fn asks_proxy(&self, container: &Value, field: &str) -> bool {
        let of_pod = &self.after["spec"];
        let mut containers = items(&of_pod["initContainers"]).chain(items(&of_pod["containers"]));
        let after = containers.find(|after| after["name"] == container["name"]);
        let port = self.options.metrics_port;
        self.fate == Fate::Meshed
            && after.is_some_and(|after| tcp_probes::is_redirected(&after[field], port))
    }

    /// What injection adds; none when the pods get no proxy.
    pub(super) fn proxy_plan(&self) -> Option<ProxyPlan> {
        let (proxy, sidecar) = self.proxy()?;
        let request = |resource: &str| {
            let request = proxy["resources"]["requests"][resource].as_str();
            request.map(str::to_owned)
        };
        let namespace = self
            .workload
            .namespace
            .as_deref()
            .unwrap_or(NAMESPACE_UNKNOWN);
        let identity = self.proxy_env(env::TLS_POD_IDENTITY);
        let volumes = items(&self.after["spec"]["volumes"]);
        let secret = volumes
            .filter(|volume| volume["name"] == component::IDENTITY_VOLUME)
            .find_map(|volume| volume["secret"]["secretName"].as_str());
        Some(ProxyPlan {
            sidecar,
            identity: identity.map(|name| name.replace(env::POD_NAMESPACE_TOKEN, namespace)),
            secret: secret.map(str::to_owned),
            cpu_request: request("cpu"),
            memory_request: request("memory"),
            skip_outbound_ports: self
                .annotation(linkerd_names::annotations::SKIP_OUTBOUND_PORTS)
                .map(str::to_owned),
        })
    }

    /// The proxy's container, when injection has added one.
    fn proxy(&self) -> Option<(&'a Value, Placed)> {
        if self.fate != Fate::Meshed {
            return None;
        }
        let spec = &self.after["spec"];
        let named =
            |list: &'a Value| items(list).find(|it| it["name"] == component::PROXY_CONTAINER);
        named(&spec["initContainers"])
            .map(|proxy| (proxy, Placed::Native))
            .or_else(|| named(&spec["containers"]).map(|proxy| (proxy, Placed::Plain)))
    }

    /// What nodes pull for the containers that injection adds.
    pub(super) fn images(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let added = |container: &&Value| {
            matches!(
                text(&container["name"]),
                component::PROXY_CONTAINER | component::INIT_CONTAINER
            )
        };
        let spec = &self.after["spec"];
        let containers = items(&spec["initContainers"]).chain(items(&spec["containers"]));
        let meshed = self.fate == Fate::Meshed;
        let added = containers.filter(move |container| meshed && added(container));
        added.filter_map(|container| container["image"].as_str())
    }

    fn proxy_env(&self, name: &str) -> Option<&'a str> {
        let (proxy, _) = self.proxy()?;
        let variable = items(&proxy["env"]).find(|variable| variable["name"] == name)?;
        variable["value"].as_str()
    }
}

/// The items of a list; none of anything else.
pub(super) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The text of a field; empty when it has none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn contains(ranges: &[PortRange], port: u16) -> bool {
    ranges.iter().any(|range| range.contains(port))
}
