//! What the index says of targets, and when it says so.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test file uses a part of it")]
mod common;

use common::*;
use k8s_openapi::api::{apps::v1::ReplicaSet, discovery::v1::EndpointSlice};
use kube::core::PartialObjectMeta;
use linkerd_destination::{owner::Link, pod::Pod, service::Service, slice::Slice};
use serde_json::{Value, json};

const WEB: &str = "web.ns:80 10.1.0.1:8080=web";

#[test]
fn a_service_has_the_same_endpoints_by_name_and_by_address() {
    let index = web();
    for path in ["web.ns.svc.cluster.local:80", "10.0.0.1:80"] {
        assert_eq!(answer(&index, path), WEB, "{path}");
    }
}

#[test]
fn what_is_not_in_the_cluster_is_unknown() {
    let index = web();
    index.apply(service(
        "out",
        json!({ "type": "ExternalName", "externalName": "example.com" }),
    ));
    for path in [
        "10.0.0.1:81",
        "10.0.0.9:80",
        "web.ns.svc:81",
        "web.other.svc:80",
        "out.ns.svc:80",
        "db-0.web.other.svc:80",
    ] {
        assert_eq!(answer(&index, path), "unknown", "{path}");
    }
}

#[test]
fn only_what_takes_traffic_is_an_endpoint() {
    let conditions = |ready: Value, serving: bool, terminating: bool| {
        let mut endpoint = common::ready("web-a", "10.1.0.1");
        endpoint["conditions"] =
            json!({ "ready": ready, "serving": serving, "terminating": terminating });
        endpoint
    };
    let other_ip = json!([{ "ip": "10.1.0.2" }]);
    for (claim, endpoint, change, expected) in [
        ("ready", conditions(json!(true), true, false), None, WEB),
        (
            "unknown readiness counts as ready",
            conditions(Value::Null, true, false),
            None,
            WEB,
        ),
        (
            "not ready",
            conditions(json!(false), false, false),
            None,
            "web.ns:80",
        ),
        (
            "terminating",
            conditions(json!(false), true, true),
            None,
            "web.ns:80",
        ),
        (
            "ready by publishNotReady",
            conditions(json!(true), true, true),
            None,
            "web.ns:80",
        ),
        (
            "the pod is being deleted and the slice does not say so yet",
            conditions(json!(true), true, false),
            Some(("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))),
            "web.ns:80",
        ),
        (
            "the pod came to its end",
            conditions(json!(true), true, false),
            Some(("/status/phase", json!("Succeeded"))),
            "web.ns:80",
        ),
        (
            "the pod of that name has another address by now",
            conditions(json!(true), true, false),
            Some(("/status/podIPs", other_ip)),
            "web.ns:80",
        ),
    ] {
        let index = web();
        index.apply(slice("web-1", "web", 8080, json!([endpoint])));
        let mut object = meshed_pod("web-a", "10.1.0.1", "web");
        if let Some((path, value)) = change {
            let (parent, key) = path.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key] = value;
        }
        index.apply(pod(object));
        assert_eq!(answer(&index, "10.0.0.1:80"), expected, "{claim}");
    }
}

#[test]
fn without_a_ready_endpoint_those_whose_node_is_silent_are_used_and_no_others() {
    let condition = |kind: &str, status: &str, reason: &str| match reason {
        "" => json!({ "type": kind, "status": status }),
        reason => json!({ "type": kind, "status": status, "reason": reason }),
    };
    let (unready, ours) = (common::unready("web-a", "10.1.0.1"), true);
    let mut terminating = unready.clone();
    terminating["conditions"]["terminating"] = json!(true);
    let mut no_pod = unready.clone();
    no_pod["targetRef"] = Value::Null;
    let silent = [
        condition("ContainersReady", "True", ""),
        condition("Ready", "False", ""),
    ];
    for (claim, endpoint, by_controller, conditions, expected) in [
        ("the node is silent", &unready, ours, silent.clone(), WEB),
        (
            "the node speaks again, and the slice does not say so yet",
            &unready,
            ours,
            [
                condition("ContainersReady", "True", ""),
                condition("Ready", "True", ""),
            ],
            WEB,
        ),
        (
            "a probe fails",
            &unready,
            ours,
            [
                condition("ContainersReady", "False", "ContainersNotReady"),
                condition("Ready", "False", "ContainersNotReady"),
            ],
            "web.ns:80",
        ),
        (
            "a probe failed before the node fell silent",
            &unready,
            ours,
            [
                condition("ContainersReady", "False", ""),
                condition("Ready", "False", ""),
            ],
            "web.ns:80",
        ),
        (
            "a readiness gate fails",
            &unready,
            ours,
            [
                condition("ContainersReady", "True", ""),
                condition("Ready", "False", "ReadinessGatesNotReady"),
            ],
            "web.ns:80",
        ),
        (
            "kubelet has said nothing of its readiness",
            &unready,
            ours,
            [
                condition("ContainersReady", "True", ""),
                condition("Ready", "Unknown", ""),
            ],
            "web.ns:80",
        ),
        (
            "it is terminating",
            &terminating,
            ours,
            silent.clone(),
            "web.ns:80",
        ),
        (
            "it names no pod",
            &no_pod,
            ours,
            silent.clone(),
            "web.ns:80",
        ),
        (
            "another than Kubernetes wrote the slice",
            &unready,
            false,
            silent.clone(),
            "web.ns:80",
        ),
    ] {
        let index = web();
        let ports = json!([{ "port": 8080 }]);
        let mut object = slice_object("web-1", "web", ports, json!([endpoint]));
        if !by_controller {
            object["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = json!("me");
        }
        index.apply(Slice::from(
            serde_json::from_value::<EndpointSlice>(object).unwrap(),
        ));
        let mut object = meshed_pod("web-a", "10.1.0.1", "web");
        object["status"]["conditions"] = json!(conditions);
        index.apply(pod(object));
        assert_eq!(answer(&index, "10.0.0.1:80"), expected, "{claim}");
        assert_eq!(answer(&index, "web.ns.svc:80"), expected, "{claim}");
    }
}

#[test]
fn an_endpoint_on_a_silent_node_is_not_used_beside_a_ready_one() {
    let index = index();
    let spec = json!({ "clusterIP": "None", "ports": [{ "port": 80 }] });
    index.apply(service("db", spec));
    let mut endpoints = [unready("db-0", "10.1.0.1"), ready("db-1", "10.1.0.2")];
    for (number, endpoint) in endpoints.iter_mut().enumerate() {
        endpoint["hostname"] = json!(format!("db-{number}"));
    }
    index.apply(slice("db-1", "db", 5432, json!(endpoints)));
    index.apply(pod(on_silent_node(plain_pod("db-0", "10.1.0.1"))));
    index.apply(pod(plain_pod("db-1", "10.1.0.2")));
    for (path, expected) in [
        ("db.ns.svc:80", "db.ns:80 10.1.0.2:5432=-"),
        ("db-1.db.ns.svc:80", "db.ns:80 10.1.0.2:5432=-"),
        ("db-0.db.ns.svc:80", "db.ns:80 10.1.0.1:5432=-"),
    ] {
        assert_eq!(answer(&index, path), expected, "{path}");
    }
    let six = slice("db-2", "db", 5432, json!([ready("db-1", "fd00::2")]));
    index.apply(six);
    let mut dual = plain_pod("db-1", "10.1.0.2");
    dual["status"]["podIPs"] = json!([{ "ip": "10.1.0.2" }, { "ip": "fd00::2" }]);
    index.apply(pod(dual));
    index.apply(slice(
        "db-1",
        "db",
        5432,
        json!([unready("db-0", "10.1.0.1")]),
    ));
    let ready_one = "db.ns:80 [fd00::2]:5432=-";
    assert_eq!(answer(&index, "db.ns.svc:80"), ready_one);
}

#[test]
fn an_endpoint_whose_pod_is_not_known_waits_for_it() {
    let index = index();
    index.apply(web_service("10.0.0.1", 80));
    index.apply(slice(
        "web-1",
        "web",
        8080,
        json!([ready("web-a", "10.1.0.1")]),
    ));
    let mut subscription = index.subscribe(target("10.0.0.1:80"));
    assert_eq!(describe(&subscription.latest()), "web.ns:80");
    index.apply(pod(meshed_pod("web-a", "10.1.0.1", "web")));
    assert_eq!(describe(&subscription.latest()), WEB);
}

#[test]
fn a_named_port_may_have_another_number_in_each_slice() {
    let index = index();
    let ports = json!([
        { "name": "http", "port": 80, "targetPort": "http" },
        { "name": "dns", "port": 53, "protocol": "UDP" },
    ]);
    index.apply(service(
        "web",
        json!({ "clusterIP": "10.0.0.1", "ports": ports }),
    ));
    for (name, number, ip) in [("web-1", 8080, "10.1.0.1"), ("web-2", 9090, "10.1.0.2")] {
        let ports = json!([
            { "name": "other", "port": 1 },
            { "name": "http", "port": number },
            { "name": "dns", "port": 53, "protocol": "UDP" },
        ]);
        index.apply(named_slice(name, "web", ports, json!([ready(name, ip)])));
        index.apply(pod(plain_pod(name, ip)));
    }
    assert_eq!(
        answer(&index, "10.0.0.1:80"),
        "web.ns:80 10.1.0.1:8080=- 10.1.0.2:9090=-"
    );
    assert_eq!(answer(&index, "10.0.0.1:53"), "unknown");
}

#[test]
fn each_address_of_a_dual_stack_service_has_the_endpoints_of_its_family() {
    for (families, first) in [
        (["IPv6", "IPv4"], "[fd00::1]"),
        (["IPv4", "IPv6"], "10.1.0.1"),
    ] {
        let index = index();
        let spec = json!({
            "clusterIPs": ["10.0.0.1", "fd00::a"],
            "ipFamilies": families,
            "ports": [{ "port": 80 }],
        });
        index.apply(service("web", spec));
        let mut object = meshed_pod("web-a", "10.1.0.1", "web");
        object["status"]["podIPs"] = json!([{ "ip": "10.1.0.1" }, { "ip": "fd00::1" }]);
        index.apply(pod(object));
        index.apply(slice(
            "web-4",
            "web",
            8080,
            json!([ready("web-a", "10.1.0.1")]),
        ));
        index.apply(slice(
            "web-6",
            "web",
            8080,
            json!([ready("web-a", "fd00::1")]),
        ));
        assert_eq!(answer(&index, "10.0.0.1:80"), WEB);
        assert_eq!(
            answer(&index, "[fd00::a]:80"),
            "web.ns:80 [fd00::1]:8080=web"
        );
        assert_eq!(answer(&index, "[fd00::1]:9"), "pod in ns [fd00::1]:9=web");
        assert_eq!(
            answer(&index, "web.ns.svc:80"),
            format!("web.ns:80 {first}:8080=web")
        );
    }
}

#[test]
fn a_headless_service_is_found_by_name_and_its_pods_by_their_host_names() {
    let index = index();
    index.apply(service(
        "db",
        json!({ "clusterIP": "None", "ports": [{ "port": 5432 }] }),
    ));
    let mut endpoints = [ready("db-0", "10.1.0.1"), ready("db-1", "10.1.0.2")];
    for (number, endpoint) in endpoints.iter_mut().enumerate() {
        endpoint["hostname"] = json!(format!("db-{number}"));
    }
    index.apply(slice("db-1", "db", 5432, json!(endpoints)));
    index.apply(pod(plain_pod("db-0", "10.1.0.1")));
    index.apply(pod(plain_pod("db-1", "10.1.0.2")));
    assert_eq!(
        answer(&index, "db.ns.svc:5432"),
        "db.ns:5432 10.1.0.1:5432=- 10.1.0.2:5432=-"
    );
    assert_eq!(
        answer(&index, "db-1.db.ns.svc:5432"),
        "db.ns:5432 10.1.0.2:5432=-"
    );
    assert_eq!(answer(&index, "db-9.db.ns.svc:5432"), "db.ns:5432");
}

#[test]
fn slices_made_by_hand_are_endpoints_without_identity() {
    let index = index();
    index.apply(web_service("10.0.0.1", 80));
    let outside = json!([{ "addresses": ["192.0.2.1"] }, { "addresses": ["example.com"] }]);
    index.apply(slice("by-hand", "web", 8080, outside));
    let no_number = json!([{ "protocol": "TCP" }]);
    index.apply(named_slice(
        "all",
        "web",
        no_number,
        json!([{ "addresses": ["192.0.2.2"] }]),
    ));
    assert_eq!(
        answer(&index, "10.0.0.1:80"),
        "web.ns:80 192.0.2.1:8080=- 192.0.2.2:80=-"
    );
}

#[test]
fn a_service_answers_at_its_node_port_and_outside_addresses() {
    let index = web();
    let object = json!({
        "metadata": { "name": "web", "namespace": "ns" },
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.0.0.1",
            "externalIPs": ["192.0.2.1"],
            "ports": [{ "port": 80, "nodePort": 30080 }],
        },
        "status": { "loadBalancer": { "ingress": [
            { "ip": "192.0.2.2" },
            { "ip": "192.0.2.3", "ipMode": "Proxy" },
            { "hostname": "lb.example.com" },
        ] } },
    });
    let mut at_node = index.subscribe(target("172.16.0.1:30080"));
    assert_eq!(describe(&at_node.latest()), "unknown");
    index.apply(Service::from(
        serde_json::from_value::<k8s_openapi::api::core::v1::Service>(object).unwrap(),
    ));
    index.apply(node("node-1", "172.16.0.1"));
    index.apply(node("node-2", "172.16.0.2"));
    assert_eq!(describe(&at_node.latest()), WEB);
    for (path, expected) in [
        ("172.16.0.2:30080", WEB),
        ("192.0.2.1:80", WEB),
        ("192.0.2.2:80", WEB),
        ("192.0.2.3:80", "unknown"),
        ("172.16.0.1:80", "unknown"),
        ("10.0.0.1:30080", "unknown"),
        ("172.16.0.3:30080", "unknown"),
    ] {
        assert_eq!(answer(&index, path), expected, "{path}");
    }
}

/// A Service of another tenant that claims `ip`, and its one endpoint.
fn claim(namespace: &str, created: &str, spec: Value, status: Value) -> Service {
    let mut spec = spec;
    spec["ports"] = json!([{ "port": 80, "nodePort": 30081 }, { "name": "more", "port": 81 }]);
    let metadata = json!({ "name": "thief", "namespace": namespace, "creationTimestamp": created });
    let object = json!({ "metadata": metadata, "spec": spec, "status": status });
    Service::from(serde_json::from_value::<k8s_openapi::api::core::v1::Service>(object).unwrap())
}

#[test]
fn what_kubernetes_gave_to_one_is_not_anothers_by_claiming_it() {
    let index = web();
    index.apply(node("node-1", "172.16.0.1"));
    let spec = json!({ "clusterIP": "10.0.0.7", "ports": [{ "port": 8, "nodePort": 80 }] });
    index.apply(service("by-node", spec));
    let paths = ["10.0.0.1:80", "10.0.0.1:81", "10.1.0.1:80", "172.16.0.1:80"];
    let before = paths.map(|path| answer(&index, path));
    assert_eq!(
        before,
        [WEB, "unknown", "pod in ns 10.1.0.1:80=web", "by-node.ns:8"]
    );
    let ips = json!(["10.0.0.1", "10.1.0.1", "172.16.0.1"]);
    let ingress = json!([{ "ip": "10.0.0.1" }, { "ip": "10.1.0.1" }, { "ip": "172.16.0.1" }]);
    for (spec, status) in [
        (json!({ "externalIPs": ips }), Value::Null),
        (
            json!({ "type": "LoadBalancer" }),
            json!({ "loadBalancer": { "ingress": ingress } }),
        ),
    ] {
        let thief = claim("aaa", "2020-01-01T00:00:00Z", spec, status);
        let mut followed = index.subscribe(target("10.0.0.1:80"));
        index.apply(thief.clone());
        assert_eq!(describe(&followed.latest()), WEB);
        assert_eq!(paths.map(|path| answer(&index, path)), before);
        // The node's other ports are nobody's.
        assert_eq!(answer(&index, "172.16.0.1:81"), "thief.aaa:81");
        index.delete::<Service>(&thief.key);
    }
}

#[test]
fn of_several_claims_to_an_outside_address_a_load_balancers_and_then_the_oldest_counts() {
    let index = index();
    let external = || json!({ "externalIPs": ["192.0.2.1"] });
    let path = "192.0.2.1:80";
    let mut followed = index.subscribe(target(path));
    let newest = claim("aaa", "2026-03-01T00:00:00Z", external(), Value::Null);
    let oldest = claim("zzz", "2026-01-01T00:00:00Z", external(), Value::Null);
    index.apply(newest);
    assert_eq!(describe(&followed.latest()), "thief.aaa:80");
    index.apply(oldest.clone());
    assert_eq!(describe(&followed.latest()), "thief.zzz:80");
    let status = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } });
    let served = claim("mmm", "2026-02-01T00:00:00Z", json!({}), status);
    index.apply(served.clone());
    assert_eq!(describe(&followed.latest()), "thief.mmm:80");
    index.delete::<Service>(&served.key);
    index.delete::<Service>(&oldest.key);
    assert_eq!(describe(&followed.latest()), "thief.aaa:80");
}

#[test]
fn a_pods_address_means_that_pod_at_any_port_ready_or_not() {
    let index = index();
    let mut object = meshed_pod("web-a", "10.1.0.1", "web");
    object["metadata"]["annotations"] =
        json!({ "config.linkerd.io/skip-inbound-ports": "9000-9009" });
    index.apply(pod(object.clone()));
    assert_eq!(
        answer(&index, "10.1.0.1:8080"),
        "pod in ns 10.1.0.1:8080=web"
    );
    assert_eq!(answer(&index, "10.1.0.1:9005"), "pod in ns 10.1.0.1:9005=-");
    for phase in ["Pending", "Succeeded", "Failed"] {
        object["status"]["phase"] = json!(phase);
        index.apply(pod(object.clone()));
        assert_eq!(answer(&index, "10.1.0.1:8080"), "unknown", "{phase}");
    }
}

#[test]
fn a_pod_of_the_host_network_has_no_identity_and_no_address_of_its_own() {
    let index = web();
    let mut object = meshed_pod("agent", "172.16.0.1", "agent");
    object["spec"]["hostNetwork"] = json!(true);
    index.apply(pod(object));
    index.apply(slice(
        "web-1",
        "web",
        8080,
        json!([ready("agent", "172.16.0.1")]),
    ));
    assert_eq!(answer(&index, "172.16.0.1:8080"), "unknown");
    assert_eq!(answer(&index, "10.0.0.1:80"), "web.ns:80 172.16.0.1:8080=-");
}

#[test]
fn of_two_pods_with_one_address_the_running_one_counts() {
    let index = index();
    let mut ended = meshed_pod("a", "10.1.0.1", "old");
    ended["status"]["phase"] = json!("Failed");
    index.apply(pod(ended));
    let mut ending = meshed_pod("b", "10.1.0.1", "older");
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    index.apply(pod(ending));
    assert_eq!(answer(&index, "10.1.0.1:80"), "pod in ns 10.1.0.1:80=older");
    index.apply(pod(meshed_pod("c", "10.1.0.1", "new")));
    assert_eq!(answer(&index, "10.1.0.1:80"), "pod in ns 10.1.0.1:80=new");
}

#[test]
fn only_pods_that_our_control_plane_meshed_and_marked_have_an_identity() {
    let long = "a".repeat(64);
    for (control_plane, mode, owner, expected) in [
        (Some("linkerd"), Some("optional"), "web", "web"),
        (Some("linkerd"), None, "web", "-"),
        (Some("another"), Some("optional"), "web", "-"),
        (Some(""), Some("optional"), "web", "-"),
        (None, Some("optional"), "web", "-"),
        (Some("linkerd"), Some("optional"), long.as_str(), "-"),
    ] {
        let index = index();
        let mut object = meshed_pod("p", "10.1.0.1", owner);
        object["metadata"]["labels"] = json!({ "linkerd.io/proxy-deployment": owner });
        if let Some(namespace) = control_plane {
            object["metadata"]["labels"]["linkerd.io/control-plane-ns"] = json!(namespace);
        }
        if let Some(mode) = mode {
            object["metadata"]["labels"]["linkerd.io/tls-mode"] = json!(mode);
        }
        index.apply(pod(object));
        let answer = answer(&index, "10.1.0.1:80");
        assert_eq!(
            answer,
            format!("pod in ns 10.1.0.1:80={expected}"),
            "{control_plane:?} {mode:?}"
        );
    }
}

#[test]
fn the_identity_comes_as_soon_as_the_replica_set_names_the_owner() {
    let index = web();
    let mut object = meshed_pod("web-a", "10.1.0.1", "");
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "uid": "1", "controller": true,
    }]);
    object["metadata"]["uid"] = json!("3");
    index.apply(pod(object.clone()));
    let mut by_service = index.subscribe(target("10.0.0.1:80"));
    let mut by_pod = index.subscribe(target("10.1.0.1:8080"));
    assert_eq!(describe(&by_service.latest()), "web.ns:80 10.1.0.1:8080=-");

    let link = json!({ "metadata": {
        "name": "web-5d4f",
        "namespace": "ns",
        "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "uid": "2", "controller": true,
        }],
    } });
    let link = Link::from(serde_json::from_value::<PartialObjectMeta<ReplicaSet>>(link).unwrap());
    index.apply(link.clone());
    assert_eq!(
        describe(&by_service.latest()),
        "web.ns:80 10.1.0.1:8080=shop"
    );
    assert_eq!(describe(&by_pod.latest()), "pod in ns 10.1.0.1:8080=shop");

    // Who deletes the Deployment deletes the ReplicaSet first; the pods then end one by one.
    index.delete::<Link>(&link.key);
    assert_eq!(describe(&by_pod.latest()), "pod in ns 10.1.0.1:8080=shop");
    let mut ending = object.clone();
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    index.apply(pod(ending));
    assert_eq!(describe(&by_pod.latest()), "pod in ns 10.1.0.1:8080=shop");

    object["metadata"]["uid"] = json!("4");
    index.apply(pod(object));
    assert_eq!(describe(&by_pod.latest()), "pod in ns 10.1.0.1:8080=-");
}

#[test]
fn a_subscription_outlives_the_service() {
    let index = web();
    let mut by_name = index.subscribe(target("web.ns.svc:80"));
    let mut by_address = index.subscribe(target("10.0.0.1:80"));
    let service = web_service("10.0.0.1", 80);
    index.delete::<Service>(&service.key);
    assert_eq!(describe(&by_name.latest()), "unknown");
    assert_eq!(describe(&by_address.latest()), "unknown");
    index.apply(service);
    assert_eq!(describe(&by_name.latest()), WEB);
    assert_eq!(describe(&by_address.latest()), WEB);
}

#[test]
fn an_address_that_another_service_gets_is_followed() {
    let index = web();
    let mut subscription = index.subscribe(target("10.0.0.1:80"));
    index.apply(web_service("10.0.0.2", 80));
    assert_eq!(describe(&subscription.latest()), "unknown");
    let spec = json!({ "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }] });
    index.apply(service("shop", spec));
    assert_eq!(describe(&subscription.latest()), "shop.ns:80");
    index.apply(slice(
        "shop-1",
        "shop",
        1234,
        json!([{ "addresses": ["192.0.2.1"] }]),
    ));
    assert_eq!(
        describe(&subscription.latest()),
        "shop.ns:80 192.0.2.1:1234=-"
    );
}

#[test]
fn a_slice_that_goes_or_changes_its_service_takes_its_endpoints_along() {
    let index = web();
    let spec = json!({ "clusterIP": "10.0.0.2", "ports": [{ "port": 80 }] });
    index.apply(service("shop", spec));
    let mut web = index.subscribe(target("10.0.0.1:80"));
    let mut shop = index.subscribe(target("10.0.0.2:80"));
    let moved = slice("web-1", "shop", 8080, json!([ready("web-a", "10.1.0.1")]));
    index.apply(moved.clone());
    assert_eq!(describe(&web.latest()), "web.ns:80");
    assert_eq!(describe(&shop.latest()), "shop.ns:80 10.1.0.1:8080=web");
    index.delete::<Slice>(&moved.key);
    assert_eq!(describe(&shop.latest()), "shop.ns:80");
}

#[test]
fn what_did_not_change_wakes_nobody() {
    let index = web();
    let mut subscription = index.subscribe(target("10.0.0.1:80"));
    let before = subscription.latest();
    index.apply(web_service("10.0.0.1", 80));
    let mut object = meshed_pod("web-a", "10.1.0.1", "web");
    object["metadata"]["labels"]["unrelated"] = json!("label");
    index.apply(pod(object));
    assert!(std::sync::Arc::ptr_eq(&before, &subscription.latest()));
}

#[test]
fn a_target_that_nobody_follows_is_forgotten() {
    let index = web();
    let first = index.subscribe(target("10.0.0.1:80"));
    let second = index.subscribe(target("10.0.0.1:80"));
    let other = index.subscribe(target("web.ns.svc:80"));
    assert_eq!(index.target_count(), 2);
    drop(first);
    assert_eq!(index.target_count(), 2);
    drop((second, other));
    assert_eq!(index.target_count(), 0);
    index.delete::<Pod>(&pod(plain_pod("web-a", "10.1.0.1")).key);
    assert_eq!(answer(&index, "10.0.0.1:80"), "web.ns:80");
}
