//! Recognises pods that have a proxy already, ours or another mesh's.
//! Entry: [`is_known`]; two proxies in one pod would redirect each other's traffic.

use serde_json::Value;

use linkerd_names::component;

/// Names of proxy containers; a native sidecar stands among the init containers.
const CONTAINERS: [&str; 4] = [
    component::PROXY_CONTAINER,
    "istio-proxy",
    "contour",
    "envoy",
];

/// Beginnings of the images of proxies.
const IMAGES: [&str; 4] = [
    "gcr.io/linkerd-io/proxy:",
    "gcr.io/istio-release/proxyv2:",
    "gcr.io/heptio-images/contour:",
    "docker.io/envoyproxy/envoy-alpine:",
];

/// Names of init containers that redirect traffic or configure a proxy.
const INIT_CONTAINERS: [&str; 3] = [component::INIT_CONTAINER, "istio-init", "envoy-initconfig"];

/// Beginnings of the images of such init containers.
const INIT_IMAGES: [&str; 3] = [
    "gcr.io/linkerd-io/proxy-init:",
    "gcr.io/istio-release/proxy_init:",
    "gcr.io/heptio-images/contour:",
];

/// Whether one of the containers of the pod is a mesh's.
pub(crate) fn is_known(pod_spec: &Value) -> bool {
    let any = |list: &str, names: &[&str], images: &[&str]| {
        pod_spec[list]
            .as_array()
            .into_iter()
            .flatten()
            .any(|container| {
                let field = |key: &str| container[key].as_str().unwrap_or_default();
                names.contains(&field("name"))
                    || images.iter().any(|image| field("image").starts_with(image))
            })
    };
    any("containers", &CONTAINERS, &IMAGES)
        || any("initContainers", &CONTAINERS, &IMAGES)
        || any("initContainers", &INIT_CONTAINERS, &INIT_IMAGES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn proxies_are_recognised_by_name_or_image() {
        for pod in [
            json!({"containers": [{"name": "app"}, {"name": "linkerd-proxy"}]}),
            json!({"containers": [{"name": "x", "image": "gcr.io/istio-release/proxyv2:1"}]}),
            json!({"initContainers": [{"name": "linkerd-proxy", "restartPolicy": "Always"}]}),
            json!({"initContainers": [{"name": "istio-init"}]}),
            json!({"initContainers": [{"name": "x", "image": "gcr.io/linkerd-io/proxy-init:1"}]}),
        ] {
            assert!(is_known(&pod), "{pod}");
        }
    }

    #[test]
    fn applications_are_not_taken_for_proxies() {
        for pod in [
            json!({}),
            json!({"containers": null}),
            json!({"containers": [{"name": "envoy-manager", "image": "envoyproxy/envoy:v1"}]}),
            json!({"containers": [{"name": "istio-init"}]}),
        ] {
            assert!(!is_known(&pod), "{pod}");
        }
    }
}
