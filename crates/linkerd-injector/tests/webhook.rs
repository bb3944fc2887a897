//! What the webhook answers the API server, review by review.

mod common;

use common::{Bench, pod, review};
use serde_json::{Value, json};

fn enabled() -> Value {
    json!({"linkerd.io/inject": "enabled"})
}

fn init_container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let containers = pod["spec"]["initContainers"].as_array()?;
    containers
        .iter()
        .find(|container| container["name"] == name)
}

#[tokio::test]
async fn the_pods_of_an_annotated_namespace_get_the_proxy_of_their_deployment() {
    let mut bench = Bench::new(enabled());
    let pod = bench.pod_after(&review(&pod())).await.expect("a patch");
    assert!(init_container(&pod, "linkerd-init").is_some());
    let proxy = init_container(&pod, "linkerd-proxy").expect("a proxy");
    let identity = proxy["env"]
        .as_array()
        .and_then(|env| {
            env.iter()
                .find(|it| it["name"] == "LINKERD2_PROXY_TLS_POD_IDENTITY")
        })
        .expect("an identity");
    assert_eq!(
        identity["value"],
        "web.deployment.$LINKERD2_PROXY_POD_NAMESPACE.linkerd-managed.linkerd.svc.cluster.local"
    );
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["linkerd.io/proxy-deployment"], "web");
    assert_eq!(labels["linkerd.io/tls-mode"], "optional");
    assert_eq!(labels["app"], "web");
    let secret = pod["spec"]["volumes"]
        .as_array()
        .and_then(|volumes| volumes.iter().find(|it| it["name"] == "linkerd-secrets"))
        .expect("a volume");
    assert_eq!(
        secret["secret"]["secretName"],
        "web-deployment-tls-linkerd-io"
    );
    assert!(bench.has_metric("linkerd_injector_pods_injected_total 1"));
    assert!(bench.events.try_recv().is_err());
}

#[tokio::test]
async fn what_we_do_not_know_in_a_pod_stays_as_it_is() {
    let bench = Bench::new(enabled());
    let pod = bench.pod_after(&review(&pod())).await.expect("a patch");
    let app = &pod["spec"]["containers"][0];
    assert_eq!(app["aFieldOfTomorrow"], json!({"kept": [1, 2.5, "3"]}));
    assert_eq!(pod["metadata"]["creationTimestamp"], Value::Null);
}

/// One handler alone, or the API server refuses the pod.
#[tokio::test]
async fn kubelet_asks_the_proxy_what_a_tcp_probe_is_about() {
    let bench = Bench::new(enabled());
    let mut pod = pod();
    pod["spec"]["containers"][0]["livenessProbe"] =
        json!({"tcpSocket": {"port": 5432}, "timeoutSeconds": 2});
    let pod = bench.pod_after(&review(&pod)).await.expect("a patch");
    assert_eq!(
        pod["spec"]["containers"][0]["livenessProbe"],
        json!({"httpGet": {"path": "/probe/tcp/5432", "port": 4191}, "timeoutSeconds": 2})
    );
    let proxy = init_container(&pod, "linkerd-proxy").expect("a proxy");
    let told = json!({"name": "LINKERD2_PROXY_TCP_PROBES", "value": "5432=2s"});
    let mut variables = proxy["env"].as_array().expect("a list").iter();
    assert!(variables.any(|it| *it == told), "{proxy:#}");
}

#[tokio::test]
async fn pods_that_forbid_it_or_are_not_asked_for_are_left_alone() {
    let bench = Bench::new(json!({}));
    assert_eq!(bench.pod_after(&review(&pod())).await, None);
    assert!(bench.has_metric("linkerd_injector_pods_left_alone_total{reason=\"not_asked\"} 1"));

    let mut bench = Bench::new(enabled());
    let mut disabled = pod();
    disabled["metadata"]["annotations"] = json!({"linkerd.io/inject": "disabled"});
    assert_eq!(bench.pod_after(&review(&disabled)).await, None);
    let mut injected = pod();
    injected["metadata"]["labels"] = json!({"linkerd.io/control-plane-ns": "linkerd"});
    injected["spec"]["initContainers"] = json!([{"name": "linkerd-proxy"}]);
    assert_eq!(bench.pod_after(&review(&injected)).await, None);
    for namespace in ["kube-system", "linkerd"] {
        let mut review = review(&pod());
        review["request"]["namespace"] = json!(namespace);
        assert_eq!(bench.pod_after(&review).await, None, "{namespace}");
    }
    assert!(bench.events.try_recv().is_err());
}

/// From a template that was copied of a pod, and whose containers were taken out.
#[tokio::test]
async fn a_label_without_a_proxy_keeps_no_pod_from_its_own() {
    let bench = Bench::new(enabled());
    let mut labelled = pod();
    labelled["metadata"]["labels"] = json!({"linkerd.io/control-plane-ns": "old"});
    let pod = bench.pod_after(&review(&labelled)).await.expect("a patch");
    assert!(init_container(&pod, "linkerd-proxy").is_some());
    let label = &pod["metadata"]["labels"]["linkerd.io/control-plane-ns"];
    assert_eq!(label, "linkerd");
}

#[tokio::test]
async fn other_objects_and_other_operations_are_none_of_ours() {
    let bench = Bench::new(enabled());
    let mut update = review(&pod());
    update["request"]["operation"] = json!("UPDATE");
    assert_eq!(bench.pod_after(&update).await, None);
    let mut service = review(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {}}));
    service["request"]["kind"]["kind"] = json!("Service");
    assert_eq!(bench.pod_after(&service).await, None);
}

#[tokio::test]
async fn whoever_creates_a_pod_that_cannot_be_meshed_is_warned_and_the_event_is_the_audits() {
    let mut bench = Bench::new(enabled());
    let mut host = pod();
    host["spec"]["hostNetwork"] = json!(true);
    let response = bench.review(&review(&host)).await;
    assert!(response.get("patch").is_none());
    let warning = response["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.starts_with(
            "linkerd: pod web-5d4f- starts without a proxy: it uses the host's network"
        ),
        "{warning}"
    );
    assert!(bench.has_metric("linkerd_injector_pods_not_meshed_total{reason=\"host_network\"} 1"));
    assert!(bench.events.try_recv().is_err());
}

#[tokio::test]
async fn a_dry_run_shows_the_patch_and_leaves_no_trace() {
    let mut bench = Bench::new(enabled());
    let mut dry = review(&pod());
    dry["request"]["dryRun"] = json!(true);
    assert!(bench.pod_after(&dry).await.is_some());
    let mut host = dry;
    host["request"]["object"]["spec"]["hostNetwork"] = json!(true);
    assert!(bench.review(&host).await["warnings"][0].is_string());
    assert!(bench.events.try_recv().is_err());
    assert!(bench.has_metric("linkerd_injector_pods_injected_total 0"));
    assert!(bench.has_metric("linkerd_injector_pods_not_meshed_total{reason=\"host_network\"} 0"));
}

#[tokio::test]
async fn who_cannot_be_looked_up_starts_unmeshed_and_is_warned() {
    let bench = Bench::with(|_| None);
    let response = bench.review(&review(&pod())).await;
    assert!(response.get("patch").is_none());
    assert!(bench.has_metric("linkerd_injector_pods_not_meshed_total{reason=\"lookup\"} 1"));
    let warning = response["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.contains("cannot read namespace/shop: "),
        "{warning}"
    );
}

#[tokio::test]
async fn a_namespace_configures_the_proxy_and_the_pod_overrides_it() {
    let mut bench = Bench::new(json!({
        "linkerd.io/inject": "enabled",
        "config.linkerd.io/proxy-cpu-request": "100m",
        "config.linkerd.io/proxy-memory-limit": "250Mi",
        "config.linkerd.io/opaque-ports": "3306",
        "config.linkerd.io/proxy-log-level": "debug",
        "config.linkerd.io/access-log": "apache",
    }));
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({
        "config.linkerd.io/proxy-log-level": "warn",
        "config.linkerd.io/skip-outbound-ports": "4567",
    });
    let pod = bench.pod_after(&review(&pod)).await.expect("a patch");
    let proxy = init_container(&pod, "linkerd-proxy").expect("a proxy");
    assert_eq!(
        proxy["resources"],
        json!({"requests": {"cpu": "100m", "memory": "20Mi"}, "limits": {"memory": "250Mi"}})
    );
    assert_eq!(proxy["env"][0]["value"], "warn");
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations["config.linkerd.io/opaque-ports"], "3306");
    let opaque = json!({
        "name": "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION",
        "value": "3306",
    });
    let environment = proxy["env"].as_array().expect("a list");
    assert!(environment.contains(&opaque), "{environment:?}");
    let init = init_container(&pod, "linkerd-init").expect("an init container");
    let args = init["args"].as_array().expect("arguments");
    assert_eq!(args.last(), Some(&json!("4567")));
    let event = bench.events.try_recv().expect("an event");
    assert_eq!(
        (event.reason, event.note.as_str()),
        (
            "UnknownAnnotation",
            "unknown annotations have no effect: config.linkerd.io/access-log"
        )
    );
}

/// The pod alone would be as good as the namespace alone.
#[tokio::test]
async fn ports_that_collide_with_those_of_the_namespace_leave_the_pod_without_a_proxy() {
    let bench = Bench::new(json!({
        "linkerd.io/inject": "enabled",
        "config.linkerd.io/inbound-port": "5000",
    }));
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({"config.linkerd.io/control-port": "5000"});
    let response = bench.review(&review(&pod)).await;
    assert!(response.get("patch").is_none());
    let warning = response["warnings"][0].as_str().expect("a warning");
    let expected = "the proxy would listen on port 5000 twice";
    assert!(warning.contains(expected), "{warning}");
    assert!(bench.has_metric("linkerd_injector_pods_not_meshed_total{reason=\"refused\"} 1"));
}

#[tokio::test]
async fn a_bare_pod_is_a_workload_of_its_own_and_needs_a_name() {
    let bench = Bench::new(enabled());
    let mut bare = pod();
    bare["metadata"]["ownerReferences"] = json!([]);
    let response = bench.review(&review(&bare)).await;
    assert!(response.get("patch").is_none());
    let warning = response["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains("has no name"), "{warning}");
    bare["metadata"]["name"] = json!("one");
    let injected = bench.pod_after(&review(&bare)).await.expect("a patch");
    let volumes = injected["spec"]["volumes"].to_string();
    assert!(volumes.contains("one-pod-tls-linkerd-io"), "{volumes}");
    // So is one whose controller only has the name of a workload of Kubernetes.
    bare["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps.kruise.io/v1beta1", "kind": "StatefulSet", "name": "web", "uid": "u",
        "controller": true,
    }]);
    let injected = bench.pod_after(&review(&bare)).await.expect("a patch");
    let volumes = injected["spec"]["volumes"].to_string();
    assert!(volumes.contains("one-pod-tls-linkerd-io"), "{volumes}");
}

#[tokio::test]
async fn what_is_no_review_is_refused() {
    let bench = Bench::new(enabled());
    for body in [
        "",
        "{}",
        "[]",
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#,
    ] {
        assert!(
            bench.webhook.review(body.as_bytes()).await.is_err(),
            "{body}"
        );
    }
}
