//! Objects of the API in a few words, and a look at what the index says of a target.

use k8s_openapi::api::{core::v1, discovery::v1::EndpointSlice};
use linkerd_destination::{
    endpoints::{Endpoints, Source},
    index::Index,
    node::Node,
    pod::Pod,
    service::Service,
    slice::Slice,
    target::Target,
};
use serde_json::{Value, json};

/// An index of the control plane in namespace `linkerd`.
pub(crate) fn index() -> Index {
    let index = Index::new("linkerd");
    index.set_complete();
    index
}

pub(crate) fn target(path: &str) -> Target {
    Target::parse("k8s", path, "cluster.local").unwrap()
}

/// The Service `web` at 10.0.0.1:80 with one meshed pod at 10.1.0.1:8080.
pub(crate) fn web() -> Index {
    let index = index();
    index.apply(web_service("10.0.0.1", 80));
    index.apply(slice(
        "web-1",
        "web",
        8080,
        json!([ready("web-a", "10.1.0.1")]),
    ));
    index.apply(pod(meshed_pod("web-a", "10.1.0.1", "web")));
    index
}

/// What the index says now: `unknown`, or the source and each endpoint with its identity's owner.
pub(crate) fn answer(index: &Index, path: &str) -> String {
    describe(&index.subscribe(target(path)).latest())
}

pub(crate) fn describe(endpoints: &Endpoints) -> String {
    let source = match &endpoints.source {
        Source::Unknown => return "unknown".to_owned(),
        Source::Service { key, port, .. } => format!("{key}:{port}"),
        Source::Pod { namespace, .. } => format!("pod in {namespace}"),
    };
    let list = endpoints.list.iter().map(|endpoint| {
        let identity = endpoint.identity().map(|identity| identity.as_str());
        let owner = identity
            .and_then(|name| name.split('.').next())
            .unwrap_or("-");
        format!(" {}={owner}", endpoint.address)
    });
    source + &list.collect::<String>()
}

/// A Service of namespace `ns` with the given specification.
pub(crate) fn service(name: &str, spec: Value) -> Service {
    let object = json!({ "metadata": { "name": name, "namespace": "ns" }, "spec": spec });
    serde_json::from_value::<v1::Service>(object)
        .unwrap()
        .into()
}

/// A Service with one TCP port.
pub(crate) fn web_service(ip: &str, port: u16) -> Service {
    service(
        "web",
        json!({ "clusterIP": ip, "clusterIPs": [ip], "ports": [{ "port": port }] }),
    )
}

/// A slice of namespace `ns` with one port without a name.
pub(crate) fn slice(name: &str, service: &str, port: u16, endpoints: Value) -> Slice {
    named_slice(
        name,
        service,
        json!([{ "port": port, "protocol": "TCP" }]),
        endpoints,
    )
}

pub(crate) fn named_slice(name: &str, service: &str, ports: Value, endpoints: Value) -> Slice {
    let object = slice_object(name, service, ports, endpoints);
    serde_json::from_value::<EndpointSlice>(object)
        .unwrap()
        .into()
}

/// A slice that Kubernetes itself has made of the Service's pods.
pub(crate) fn slice_object(name: &str, service: &str, ports: Value, endpoints: Value) -> Value {
    json!({
        "metadata": {
            "name": name,
            "namespace": "ns",
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    })
}

/// A ready endpoint that is a pod.
pub(crate) fn ready(pod: &str, ip: &str) -> Value {
    json!({
        "addresses": [ip],
        "conditions": { "ready": true, "serving": true, "terminating": false },
        "targetRef": { "kind": "Pod", "name": pod, "namespace": "ns" },
    })
}

/// An endpoint that is a pod and not ready.
pub(crate) fn unready(pod: &str, ip: &str) -> Value {
    let mut endpoint = ready(pod, ip);
    endpoint["conditions"] = json!({ "ready": false, "serving": false, "terminating": false });
    endpoint
}

/// The pod after its node was silent for too long: all but the status of `Ready` is as it was.
pub(crate) fn on_silent_node(mut pod: Value) -> Value {
    pod["status"]["conditions"] = json!([
        { "type": "ContainersReady", "status": "True" },
        { "type": "Ready", "status": "False" },
    ]);
    pod
}

/// The pod after its own readiness probe failed.
pub(crate) fn with_failing_probe(mut pod: Value) -> Value {
    let (reason, message) = (
        "ContainersNotReady",
        "containers with unready status: [web]",
    );
    pod["status"]["conditions"] = json!([
        { "type": "ContainersReady", "status": "False", "reason": reason, "message": message },
        { "type": "Ready", "status": "False", "reason": reason, "message": message },
    ]);
    pod
}

/// A running pod of namespace `ns` without the mesh.
pub(crate) fn plain_pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "ns", "labels": {}, "annotations": {} },
        "spec": { "containers": [] },
        "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] },
    })
}

/// A running pod that `inject --tls=optional` marked as part of the Deployment `owner`.
pub(crate) fn meshed_pod(name: &str, ip: &str, owner: &str) -> Value {
    let mut pod = plain_pod(name, ip);
    pod["metadata"]["labels"] = json!({
        "linkerd.io/control-plane-ns": "linkerd",
        "linkerd.io/tls-mode": "optional",
        "linkerd.io/proxy-deployment": owner,
        "pod-template-hash": "5d4f",
    });
    pod
}

pub(crate) fn pod(object: Value) -> Pod {
    serde_json::from_value::<v1::Pod>(object).unwrap().into()
}

pub(crate) fn node(name: &str, ip: &str) -> Node {
    let object = json!({
        "metadata": { "name": name },
        "status": { "addresses": [
            { "type": "InternalIP", "address": ip },
            { "type": "Hostname", "address": name },
        ] },
    });
    serde_json::from_value::<v1::Node>(object).unwrap().into()
}

/// What the API server says of the token of pod `web-a`.
pub(crate) fn good_token() -> Value {
    json!({
        "authenticated": true,
        "audiences": ["identity.l5d.io"],
        "user": {
            "username": "system:serviceaccount:ns:robot",
            "extra": {
                "authentication.kubernetes.io/pod-name": ["web-a"],
                "authentication.kubernetes.io/pod-uid": ["1"],
            },
        },
    })
}
