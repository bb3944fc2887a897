//! A pod, reduced to what people are told about it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{self as core, Container, ContainerState, ContainerStatus};
use linkerd_names::{component, env, labels};

use crate::{pod_status::pod_status, workload::Controller};

/// A pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// The pod's labels.
    pub labels: BTreeMap<String, String>,
    /// The object that manages the pod.
    pub controller: Option<Controller>,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// The word that kubectl has for it: `CrashLoopBackOff`.
    pub status: String,
    /// Whether the pod is being deleted.
    pub terminating: bool,
    /// Empty until the pod has an address.
    pub ip: String,
    /// Its addresses of other families.
    pub other_ips: Vec<String>,
    /// Whether its addresses are those of its node.
    pub host_network: bool,
    /// Port with the metrics of the pod's proxy; none when it has no proxy.
    pub metrics_port: Option<u16>,
    /// Port at which the pod's proxy serves tap; none when it has no proxy.
    pub tap_port: Option<u16>,
    /// Containers with an admin port, and that port.
    pub admin_ports: Vec<(String, u16)>,
    /// What keeps the containers of the mesh from running.
    pub errors: Vec<ContainerError>,
}

/// Why a container does not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerError {
    /// Name of the container.
    pub container: String,
    /// Its image.
    pub image: String,
    /// A word: `ImagePullBackOff`.
    pub reason: String,
    /// A sentence; often empty.
    pub message: String,
}

impl Pod {
    /// Whether the pod runs or is about to.
    pub fn is_alive(&self) -> bool {
        !self.terminating && matches!(self.phase.as_str(), "Pending" | "Running")
    }

    /// Namespace of the control plane that meshed the pod.
    pub fn control_plane_namespace(&self) -> Option<&str> {
        self.labels
            .get(labels::CONTROL_PLANE_NAMESPACE)
            .map(String::as_str)
    }
}

impl From<core::Pod> for Pod {
    fn from(pod: core::Pod) -> Self {
        let controller = Controller::of(&pod.metadata);
        let word = pod_status(&pod);
        let spec = pod.spec.unwrap_or_default();
        // A native sidecar is an init container.
        let containers: Vec<Container> = spec
            .init_containers
            .into_iter()
            .flatten()
            .chain(spec.containers)
            .collect();
        let host_network = spec.host_network == Some(true);
        let status = pod.status.unwrap_or_default();
        let ip = status.pod_ip.unwrap_or_default();
        let ips = status.pod_ips.into_iter().flatten().map(|it| it.ip);
        let other_ips = ips.filter(|other| *other != ip).collect();
        let errors = status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten()
            .filter_map(container_error)
            .collect();
        Self {
            labels: pod.metadata.labels.unwrap_or_default(),
            controller,
            phase: status.phase.unwrap_or_else(|| "Pending".to_owned()),
            status: word,
            terminating: pod.metadata.deletion_timestamp.is_some(),
            ip,
            other_ips,
            host_network,
            metrics_port: containers
                .iter()
                .find(|container| container.name == component::PROXY_CONTAINER)
                .and_then(|container| named_port(container, component::METRICS_PORT_NAME)),
            tap_port: containers
                .iter()
                .find(|container| container.name == component::PROXY_CONTAINER)
                .and_then(control_port),
            admin_ports: containers
                .iter()
                .filter_map(|container| {
                    let port = named_port(container, component::ADMIN_PORT_NAME)?;
                    Some((container.name.clone(), port))
                })
                .collect(),
            errors,
        }
    }
}

fn named_port(container: &Container, name: &str) -> Option<u16> {
    let ports = container.ports.as_deref().unwrap_or_default();
    let port = ports
        .iter()
        .find(|port| port.name.as_deref() == Some(name))?;
    u16::try_from(port.container_port).ok()
}

/// The port in the proxy's setting `tcp://0.0.0.0:4190`.
fn control_port(container: &Container) -> Option<u16> {
    let settings = container.env.as_deref().unwrap_or_default();
    let listener = settings
        .iter()
        .find(|setting| setting.name == env::CONTROL_LISTENER)?;
    listener.value.as_ref()?.rsplit(':').next()?.parse().ok()
}

/// Returns what is wrong with a container of the mesh; none when it is ready, has done its work, or
/// has not failed yet.
fn container_error(status: &ContainerStatus) -> Option<ContainerError> {
    let ours = matches!(
        status.name.as_str(),
        component::PROXY_CONTAINER | component::INIT_CONTAINER
    );
    if !ours || status.ready {
        return None;
    }
    let (reason, message) = [&status.state, &status.last_state]
        .into_iter()
        .flatten()
        .find_map(state_error)?;
    Some(ContainerError {
        container: status.name.clone(),
        image: status.image.clone(),
        reason,
        message,
    })
}

fn state_error(state: &ContainerState) -> Option<(String, String)> {
    let (reason, message) = match (&state.waiting, &state.terminated) {
        (Some(waiting), _) => (&waiting.reason, &waiting.message),
        (None, Some(terminated)) if terminated.exit_code != 0 => {
            (&terminated.reason, &terminated.message)
        }
        _ => return None,
    };
    Some((
        reason.clone().unwrap_or_default(),
        message.clone().unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn errors(name: &str, ready: bool, state: Value) -> Vec<ContainerError> {
        let pod = json!({
            "metadata": {},
            "status": {"containerStatuses": [{
                "name": name, "ready": ready, "image": "i", "imageID": "", "restartCount": 0,
                "state": state,
            }]},
        });
        Pod::from(serde_json::from_value::<core::Pod>(pod).expect("a pod")).errors
    }

    #[test]
    fn a_proxy_that_cannot_start_says_why() {
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "m"}});
        let expected = ContainerError {
            container: "linkerd-proxy".into(),
            image: "i".into(),
            reason: "ImagePullBackOff".into(),
            message: "m".into(),
        };
        assert_eq!(errors("linkerd-proxy", false, waiting), [expected]);
    }

    #[test]
    fn the_port_of_tap_is_that_of_the_proxys_setting() {
        let pod = json!({
            "metadata": {},
            "spec": {"containers": [{"name": "linkerd-proxy", "env": [
                {"name": "LINKERD2_PROXY_CONTROL_LISTENER", "value": "tcp://0.0.0.0:5190"},
            ]}]},
        });
        let pod = Pod::from(serde_json::from_value::<core::Pod>(pod).expect("a pod"));
        assert_eq!(pod.tap_port, Some(5190));
        assert_eq!(Pod::from(core::Pod::default()).tap_port, None);
    }

    #[test]
    fn addresses_of_both_families_and_whose_they_are_are_known() {
        let pod = json!({
            "metadata": {},
            "spec": {"hostNetwork": true, "containers": []},
            "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
        });
        let pod = Pod::from(serde_json::from_value::<core::Pod>(pod).expect("a pod"));
        assert_eq!(
            (pod.ip.as_str(), pod.other_ips.as_slice(), pod.host_network),
            ("10.0.0.1", &["fd00::1".to_owned()][..], true)
        );
    }

    #[test]
    fn other_containers_and_a_finished_init_container_are_no_errors() {
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        assert_eq!(errors("app", false, waiting), []);
        let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        assert_eq!(errors("linkerd-init", false, done), []);
        assert_eq!(errors("linkerd-proxy", true, json!({"running": {}})), []);
    }
}
