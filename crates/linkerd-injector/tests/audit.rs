//! What is found of pods that nobody asked the webhook about, and who is told. The clock is the tests' own.

mod common;

use std::{sync::Arc, time::Duration};

use common::{
    Bench,
    api_server::{ApiServer, State},
    options, review,
};
use linkerd_injector::{
    audit::{Audit, Pace},
    cluster::Cluster,
    events::{Writer, write_all},
    judge::Judge,
    metrics::Metrics,
};
use linkerd_process::render_metrics;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::AbortHandle, time::sleep};

/// Longer than the grace and a look.
const A_WHILE: Duration = Duration::from_secs(20);

/// A replica that looks for pods without a proxy.
struct Replica {
    registry: Registry,
    running: AbortHandle,
}

impl Replica {
    fn of(server: &Arc<ApiServer>) -> Self {
        let client = server.client();
        let mut registry = Registry::default();
        let judge = Judge {
            cluster: Cluster::new(client.clone()),
            options: options(),
        };
        let audit = Audit::new(
            client.clone(),
            judge,
            Metrics::new(&mut registry),
            Writer::new(client, "linkerd-injector-1".to_owned()),
            Pace::default(),
        );
        Self {
            registry,
            running: tokio::spawn(audit.run()).abort_handle(),
        }
    }

    fn count(&self, reason: &str) -> u64 {
        let series = format!("linkerd_injector_pods_without_proxy{{reason=\"{reason}\"}} ");
        self.figure(&series)
    }

    fn figure(&self, series: &str) -> u64 {
        let metrics = render_metrics(&self.registry);
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(series));
        value.expect("a series").parse().expect("a number")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// A cluster with the namespace `shop`, and in it the Deployment `web` with its ReplicaSet `web-5d4f`.
fn cluster(namespace: &Value) -> Arc<ApiServer> {
    let server = Arc::new(ApiServer::default());
    server.set_namespace("shop", namespace);
    replica_set(&server, "web-5d4f");
    server
}

fn replica_set(server: &ApiServer, name: &str) {
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true,
    });
    server.set(
        &format!("/apis/apps/v1/namespaces/shop/replicasets/{name}"),
        json!({"metadata": {"name": name, "namespace": "shop", "ownerReferences": [owner]}}),
    );
}

fn enabled() -> Value {
    json!({"annotations": {"linkerd.io/inject": "enabled"}})
}

/// A running pod of the ReplicaSet `web-5d4f`.
fn pod(name: &str) -> Value {
    let mut pod = common::pod();
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["uid"] = json!(format!("uid of {name}"));
    pod["status"]["phase"] = json!("Running");
    pod
}

fn notes(state: &State) -> Vec<&str> {
    let events = state.events.values();
    events.filter_map(|event| event["note"].as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn pods_of_before_the_annotation_are_told_of_once_on_their_deployment() {
    let server = cluster(&json!({}));
    for name in ["web-5d4f-a", "web-5d4f-b", "web-5d4f-c"] {
        server.set_pod(pod(name));
    }
    let replica = Replica::of(&server);
    sleep(A_WHILE).await;
    assert_eq!(replica.count("needs_restart"), 0);

    server.set_namespace("shop", &enabled());
    sleep(Duration::from_secs(6)).await;
    assert_eq!(replica.count("needs_restart"), 3);
    assert_eq!(notes(&server.state()), [""; 0], "a moment of grace");
    sleep(A_WHILE).await;
    {
        let state = server.state();
        assert_eq!(
            notes(&state),
            [
                "pod web-5d4f-a (and 2 more like it) has no proxy: it was created before it was asked for, or \
                 while linkerd-injector could not be asked; restart the workload: kubectl rollout restart \
                 deployment/web -n shop"
            ]
        );
        let event = state.events.values().next().expect("an Event");
        assert_eq!(event["reason"], "NotMeshed");
        assert_eq!(
            event["regarding"],
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web",
                "uid": "d",
            })
        );
        assert_eq!(event["metadata"]["namespace"], "shop");
        assert_eq!(event["reportingInstance"], "linkerd-injector-1");
    }

    // Four attempts an hour; while the Event is there none of them makes another.
    sleep(Duration::from_secs(59 * 60)).await;
    assert_eq!(server.state().events.len(), 1);
    assert_eq!(server.state().event_calls, 4);
    server.state().events.clear();
    sleep(Duration::from_secs(15 * 60)).await;
    assert_eq!(server.state().events.len(), 1);

    for (name, left) in [("web-5d4f-a", 2), ("web-5d4f-b", 1), ("web-5d4f-c", 0)] {
        server.delete_pod(&pod(name));
        sleep(A_WHILE).await;
        assert_eq!(replica.count("needs_restart"), left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_created_while_we_were_away_is_found() {
    let server = cluster(&enabled());
    server.set_pod(pod("web-5d4f-a"));
    let replica = Replica::of(&server);
    sleep(A_WHILE).await;
    assert_eq!(replica.count("needs_restart"), 1);
    assert_eq!(server.state().events.len(), 1);

    // After a restart without effect its pods are another ReplicaSet's, and that is news.
    replica_set(&server, "web-7c9b");
    let mut again = pod("web-7c9b-a");
    again["metadata"]["ownerReferences"][0]["name"] = json!("web-7c9b");
    again["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    server.set_pod(again);
    server.delete_pod(&pod("web-5d4f-a"));
    sleep(A_WHILE).await;
    assert_eq!(replica.count("needs_restart"), 1);
    assert_eq!(server.state().events.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_meshed_is_counted_by_its_reason() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 4] = [
        ("host_network", |pod| {
            pod["spec"]["hostNetwork"] = json!(true)
        }),
        ("other_proxy", |pod| {
            pod["spec"]["containers"][0]["name"] = json!("istio-proxy");
        }),
        ("refused", |pod| {
            pod["metadata"]["annotations"] = json!({"config.linkerd.io/proxy-uid": "root"});
        }),
        ("unknown_word", |pod| {
            pod["metadata"]["annotations"] = json!({"linkerd.io/inject": "yes"});
        }),
    ];
    for (reason, change) in changes {
        let server = cluster(&enabled());
        let mut pod = pod("web-5d4f-a");
        change(&mut pod);
        server.set_pod(pod);
        let replica = Replica::of(&server);
        sleep(A_WHILE).await;
        assert_eq!(replica.count(reason), 1, "{reason}");
        assert_eq!(replica.count("needs_restart"), 0, "{reason}");
        let state = server.state();
        let [note] = notes(&state)[..] else {
            panic!("{:?}", state.events);
        };
        assert!(!note.contains("kubectl rollout"), "{note}");
    }
}

/// Its Job may end soon, and waiting changes nothing.
#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_meshed_is_told_of_without_grace() {
    let server = cluster(&enabled());
    let _replica = Replica::of(&server);
    sleep(A_WHILE).await;
    let mut host = pod("web-5d4f-a");
    host["spec"]["hostNetwork"] = json!(true);
    server.set_pod(host);
    sleep(Duration::from_millis(2500)).await;
    let state = server.state();
    let [note] = notes(&state)[..] else {
        panic!("{:?}", state.events);
    };
    assert!(
        note.starts_with("pod web-5d4f-a has no proxy: it uses the host's"),
        "{note}"
    );
    let event = state.events.values().next().expect("an Event");
    assert_eq!(event["regarding"]["kind"], "Deployment");
    assert_eq!(event["regarding"]["name"], "web");
}

/// Whoever makes up a pod makes up no Event that was not there, and none with his own words.
#[tokio::test(start_paused = true)]
async fn many_reviews_are_few_events() {
    let server = cluster(&enabled());
    let mut bench = Bench::new(enabled()["annotations"].clone());
    let writer = Writer::new(server.client(), "linkerd-injector-1".to_owned());
    let (sender, reports) = mpsc::channel(1);
    let metrics = bench.metrics.clone();
    let writing = tokio::spawn(write_all(writer, reports, metrics));
    for number in 0..100 {
        for _ in 0..2 {
            let mut pod = pod("web-5d4f-a");
            let annotation = format!("config.linkerd.io/slip-{number}");
            pod["metadata"]["annotations"] = json!({ annotation: "a" });
            bench.review(&review(&pod)).await;
            let report = bench.events.try_recv().expect("a report");
            sender.send(report).await.expect("it is taken");
        }
    }
    drop(sender);
    writing.await.expect("no panic");
    assert_eq!(server.state().event_calls, 20);
    assert!(bench.has_metric("linkerd_injector_events_lost_total 160"));

    let mut words = pod("web-5d4f-a");
    words["metadata"]["annotations"] = json!({"config.linkerd.io/call this number": "a"});
    let response = bench.review(&review(&words)).await;
    assert!(response["warnings"][0].is_string());
    assert!(bench.events.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn two_replicas_count_the_same_and_write_one_event() {
    let server = cluster(&enabled());
    server.set_pod(pod("web-5d4f-a"));
    let replicas = [Replica::of(&server), Replica::of(&server)];
    sleep(A_WHILE).await;
    assert_eq!(replicas.map(|it| it.count("needs_restart")), [1, 1]);
    assert_eq!(server.state().event_calls, 2);
    assert_eq!(server.state().events.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_nobody_is_told_of_itself() {
    let server = cluster(&enabled());
    let mut bare = pod("one");
    bare["metadata"]["ownerReferences"] = json!([]);
    server.set_pod(bare);
    let _replica = Replica::of(&server);
    sleep(A_WHILE).await;
    let state = server.state();
    let event = state.events.values().next().expect("an Event");
    assert_eq!(event["regarding"]["kind"], "Pod");
    assert_eq!(event["regarding"]["uid"], "uid of one");
    let note = event["note"].as_str().expect("a note");
    assert!(note.ends_with("kubectl delete pod one -n shop"), "{note}");
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_proxy_or_goes_away_is_not_counted() {
    let server = cluster(&enabled());
    let changed = |name: &str, change: fn(&mut Value)| {
        let mut pod = pod(name);
        change(&mut pod["metadata"]);
        server.set_pod(pod);
    };
    changed("disabled", |it| {
        it["annotations"] = json!({"linkerd.io/inject": "disabled"});
    });
    changed("ending", |it| {
        it["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    for namespace in ["kube-system", "linkerd", "default"] {
        let metadata = if namespace == "default" {
            json!({})
        } else {
            enabled()
        };
        server.set_namespace(namespace, &metadata);
        let mut pod = pod("elsewhere");
        pod["metadata"]["namespace"] = json!(namespace);
        server.set_pod(pod);
    }
    let mut going = enabled();
    going["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    server.set_namespace("going", &going);
    changed("going", |it| it["namespace"] = json!("going"));

    let replica = Replica::of(&server);
    sleep(A_WHILE).await;
    for reason in ["needs_restart", "lookup", "refused"] {
        assert_eq!(replica.count(reason), 0, "{reason}");
    }
    let state = server.state();
    assert_eq!(notes(&state), [""; 0]);
    let mut requests = state.requests.iter();
    let listed = requests.find(|it| it.starts_with("/api/v1/pods?"));
    let listed = listed.expect("a list");
    for selected in [
        "labelSelector=%21linkerd.io%2Fcontrol-plane-ns",
        "status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed",
        "metadata.namespace%21%3Dlinkerd%2Cmetadata.namespace%21%3Dkube-system",
        "as=PartialObjectMetadataList",
    ] {
        assert!(listed.contains(selected), "{listed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_refused_is_tried_again_and_counted() {
    for (kind, path) in [
        ("pods", "/api/v1/pods"),
        ("namespaces", "/api/v1/namespaces"),
    ] {
        let server = cluster(&enabled());
        server.set_pod(pod("web-5d4f-a"));
        server.state().refused = Some(path);
        let replica = Replica::of(&server);
        sleep(A_WHILE).await;
        let errors = format!("linkerd_injector_watch_errors_total{{kind=\"{kind}\"}} ");
        let failed = replica.figure(&errors);
        assert!((2..20).contains(&failed), "{failed} times in 20 s");
        assert_eq!(replica.count("needs_restart"), 0);
        server.state().refused = None;
        sleep(2 * A_WHILE).await;
        assert_eq!(replica.count("needs_restart"), 1, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reason_that_cannot_be_found_out_is_asked_for_again() {
    let server = cluster(&enabled());
    server.set_pod(pod("web-5d4f-a"));
    server.state().refused = Some("/apis/apps/");
    let replica = Replica::of(&server);
    sleep(A_WHILE).await;
    assert_eq!(replica.count("lookup"), 1);
    assert_eq!(notes(&server.state()), [""; 0]);
    server.state().refused = None;
    sleep(A_WHILE).await;
    assert_eq!(replica.count("lookup"), 0);
    assert_eq!(replica.count("needs_restart"), 1);
    assert_eq!(server.state().events.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_written_is_tried_again() {
    let server = cluster(&enabled());
    server.set_pod(pod("web-5d4f-a"));
    server.state().refused = Some("/apis/events.k8s.io/");
    let replica = Replica::of(&server);
    sleep(A_WHILE).await;
    assert_eq!(replica.count("needs_restart"), 1);
    server.state().refused = None;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(server.state().events.len(), 1);
}
