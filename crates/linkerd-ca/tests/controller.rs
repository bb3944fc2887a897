//! When the controller writes, and when it does not.

mod script;

use std::{cell::Cell, time::Duration};

use futures::channel::mpsc::{Sender, channel};
use k8s_openapi::api::core::v1::Secret;
use linkerd_ca::{
    bundle,
    context::Context,
    controller::Controller,
    lease::Leadership,
    marks::Mark,
    metrics::Metrics,
    mirror::Change,
    report::Reports,
    secret,
    watches::Observed,
    workloads::{Source, Wanted, Workload},
};
use linkerd_names::{Owner, OwnerKind};
use linkerd_process::{Readiness, render_metrics};
use prometheus_client::registry::Registry;
use script::{Call, Script, conflict, created, found, not_found, refused};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const SECRETS: &str = "/api/v1/namespaces/ns/secrets";
const SECRET: &str = "/api/v1/namespaces/ns/secrets/web-deployment-tls-linkerd-io";
const BUNDLE: &str = "/api/v1/namespaces/ns/configmaps/linkerd-ca-bundle";
const ROOTS: &str = "/api/v1/namespaces/linkerd/secrets";
const ROOT: &str = "/api/v1/namespaces/linkerd/secrets/linkerd-ca-root";

const WEBHOOK: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/\
                       linkerd-linkerd-injector";
const WEBHOOK_SECRET: &str = "/api/v1/namespaces/linkerd/secrets/linkerd-injector-tls";

/// What a test has in hand while the controller runs.
struct Hand {
    observed: Sender<Observed>,
    leadership: watch::Sender<Leadership>,
    readiness: Readiness,
    registry: Registry,
}

impl Hand {
    fn tell(&self, observed: Observed) {
        self.observed
            .clone()
            .try_send(observed)
            .expect("the controller listens");
    }

    /// The first lists of all watches are complete.
    fn tell_that_all_is_known(&self) {
        for kind in OwnerKind::ALL {
            self.tell(Observed::Workload(kind, Change::RelistDone));
        }
        self.tell(Observed::Mark(Change::RelistDone));
        self.tell(Observed::Secret(Change::RelistDone));
        self.tell(Observed::Bundle(Change::RelistDone));
    }

    fn tell_of(&self, name: &str) {
        self.tell_of_one_with(name, Source::Secret);
    }

    fn tell_of_one_with(&self, name: &str, source: Source) {
        self.tell_of_workload(name, source, Wanted::Marked);
    }

    fn tell_of_one_that_is(&self, name: &str, wanted: Wanted) {
        self.tell_of_workload(name, Source::Secret, wanted);
    }

    /// There is one workload, which its own annotation has meshed.
    async fn leads_and_issues_for_a_job(&self) {
        self.leadership.send_replace(Leadership::Leader);
        self.tell_that_all_is_known();
        self.tell_of_one_that_is("job", Wanted::Annotated);
        self.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="missing"} 1"#)
            .await;
    }

    fn tell_that_it_is_gone(&self, name: &str) {
        let change = Change::Remove(owner(name));
        self.tell(Observed::Workload(OwnerKind::Deployment, change));
    }

    fn tell_of_workload(&self, name: &str, source: Source, wanted: Wanted) {
        let change = Change::Set(
            owner(name),
            Workload {
                owner: owner(name),
                uid: "7".into(),
                source,
                wanted,
            },
        );
        self.tell(Observed::Workload(OwnerKind::Deployment, change));
    }

    /// Waits until `/metrics` has this line. The clock is paused: waiting takes no time.
    async fn metrics_have(&self, line: &str) {
        let has_it = async {
            while !render_metrics(&self.registry)
                .lines()
                .any(|found| found == line)
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(600), has_it).await;
        waited.unwrap_or_else(|_| panic!("no {line} in {}", render_metrics(&self.registry)));
    }
}

fn owner(name: &str) -> Owner {
    Owner {
        namespace: "ns".into(),
        kind: OwnerKind::Deployment,
        name: name.into(),
    }
}

/// Runs a controller against the script while `test` goes on, then shuts it down.
async fn run(script: Script<'_>, test: impl AsyncFnOnce(&Hand)) {
    let on_client = async |client: kube::Client| {
        let context = Context {
            client: client.clone(),
            control_plane_namespace: "linkerd".to_owned(),
            leaf_lifetime: Duration::from_secs(60 * 60),
            injected: None,
        };
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let (sender, observed) = channel(64);
        let (leadership, receiver) = watch::channel(Leadership::Unknown);
        let readiness = Readiness::default();
        let shutdown = CancellationToken::new();
        let reports = Reports::new(client, "me".to_owned());
        let running = tokio::spawn(Controller::new(context, metrics, reports).run(
            observed,
            receiver,
            readiness.clone(),
            shutdown.clone(),
        ));
        let hand = Hand {
            observed: sender,
            leadership,
            readiness,
            registry,
        };
        test(&hand).await;
        shutdown.cancel();
        running.await.expect("no panic");
        assert!(!hand.readiness.is_ready(), "who has stopped is not ready");
    };
    script.run(on_client).await;
}

/// A cluster without a root: it is made.
fn with_new_root(script: Script<'_>) -> Script<'_> {
    script
        .expect("GET", ROOT, |_| not_found())
        .expect("POST", ROOTS, |call| created(&call.body))
        .expect("POST", "/api/v1/namespaces/linkerd/configmaps", stored)
}

/// All is written that a first workload of namespace `ns` needs.
fn first_workload() -> Script<'static> {
    with_new_root(Script::new())
        .expect("POST", "/api/v1/namespaces/ns/configmaps", stored)
        .expect("POST", SECRETS, stored)
}

/// The API server's answer to a new object.
fn stored(call: &Call) -> script::Answer {
    let mut object = call.body.clone();
    object["metadata"]["uid"] = json!("1");
    object["metadata"]["resourceVersion"] = json!("1");
    created(&object)
}

#[tokio::test(start_paused = true)]
async fn a_new_workload_is_served_bundle_and_secret_each_with_one_call() {
    run(first_workload(), async |hand| {
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell_that_all_is_known();
        hand.metrics_have("linkerd_ca_bundles_written_total 1")
            .await;
        assert!(hand.readiness.is_ready());
        hand.tell_of("web");
        hand.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="missing"} 1"#)
            .await;
        hand.metrics_have("linkerd_ca_first_write_seconds_count 1")
            .await;
        hand.metrics_have(r#"linkerd_ca_workloads{state="valid"} 1"#)
            .await;
        // The watch tells what we have just written, and the workload's status changes: no call.
        hand.tell_of("web");
        hand.tell(Observed::Bundle(Change::Remove("elsewhere".into())));
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_workload_of_the_identity_service_has_the_bundle_and_no_secret() {
    run(first_workload(), async |hand| {
        hand.tell_that_all_is_known();
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell_of_one_with("web", Source::Service);
        hand.metrics_have("linkerd_ca_bundles_written_total 2")
            .await;
        // Asked for again and again: nothing but the bundle is written, nothing is missing.
        hand.metrics_have("linkerd_ca_workloads{state=\"missing\"} 0")
            .await;
        // The mark goes: now it is written.
        hand.tell_of_one_with("web", Source::Secret);
        hand.metrics_have("linkerd_ca_certificates_issued_total{reason=\"missing\"} 1")
            .await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_asks_for_proxies_has_bundle_and_secrets_before_their_pods() {
    run(first_workload(), async |hand| {
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell_that_all_is_known();
        hand.tell_of_one_that_is("web", Wanted::WhereInjected);
        hand.tell(Observed::Injected(Change::Set("other".into(), ())));
        hand.metrics_have("linkerd_ca_bundles_written_total 1")
            .await;
        // Asked for again and again: nobody wants it yet.
        hand.metrics_have("linkerd_ca_workloads{state=\"missing\"} 0")
            .await;
        hand.tell(Observed::Injected(Change::Set("ns".into(), ())));
        hand.metrics_have("linkerd_ca_certificates_issued_total{reason=\"missing\"} 1")
            .await;
        hand.metrics_have("linkerd_ca_bundles_written_total 2")
            .await;
    })
    .await;
}

/// A pod of the workload `web` with a proxy of a control plane.
fn pod(name: &str, control_plane_namespace: &str) -> Change<Owner, Mark> {
    let mark = Mark {
        workload: owner("web"),
        control_plane_namespace: control_plane_namespace.to_owned(),
        source: Source::Secret,
    };
    Change::Set(pod_name(name), mark)
}

fn pod_name(name: &str) -> Owner {
    Owner {
        kind: OwnerKind::Pod,
        ..owner(name)
    }
}

#[tokio::test(start_paused = true)]
async fn what_pods_mount_is_written_whatever_their_template_says_by_now() {
    let templates = [
        // The injector's next pods will have the identity service, or one of them is annotated so already.
        (Source::Service, Wanted::Annotated),
        (Source::Service, Wanted::WhereInjected),
        (Source::Service, Wanted::Marked),
        // There is no injector any more, or the template was uninjected and the pods were not replaced.
        (Source::Secret, Wanted::WhileMounted),
    ];
    for (source, wanted) in templates {
        let script =
            first_workload()
                .expect("POST", SECRETS, stored)
                .maybe("DELETE", BUNDLE, |call| found(&call.body));
        run(script, async |hand| {
            hand.leadership.send_replace(Leadership::Leader);
            hand.tell_that_all_is_known();
            hand.tell_of_workload("web", source, wanted);
            hand.tell(Observed::Mark(pod("web-1", "linkerd")));
            hand.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="missing"} 1"#)
                .await;
            hand.tell(Observed::Mark(pod("web-2", "linkerd")));
            hand.tell(Observed::Mark(Change::Remove(pod_name("web-1"))));
            hand.tell(Observed::Secret(Change::Remove(owner("web"))));
            hand.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="missing"} 2"#)
                .await;
            hand.metrics_have(r#"linkerd_ca_workloads{state="valid"} 1"#)
                .await;
            // The last of them has gone: what happens to the Secret now is nobody's concern.
            hand.tell(Observed::Mark(Change::Remove(pod_name("web-2"))));
            hand.tell(Observed::Secret(Change::Remove(owner("web"))));
            hand.metrics_have(r#"linkerd_ca_workloads{state="valid"} 0"#)
                .await;
            tokio::time::sleep(Duration::from_secs(600)).await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_asks_for_no_proxy_and_has_none_of_ours_gets_nothing() {
    run(with_new_root(Script::new()), async |hand| {
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell_that_all_is_known();
        hand.tell_of_one_that_is("web", Wanted::WhileMounted);
        hand.tell(Observed::Mark(pod("web-1", "linkerd-b")));
        tokio::time::sleep(Duration::from_secs(600)).await;
        hand.metrics_have(r#"linkerd_ca_workloads{state="missing"} 0"#)
            .await;
    })
    .await;
}

/// The Secret of `web` as another control plane has written it.
fn others_secret() -> script::Answer {
    found(&json!({"metadata": {
        "name": "web-deployment-tls-linkerd-io", "uid": "1", "resourceVersion": "5",
        "labels": {"linkerd.io/control-plane-ns": "linkerd-b"},
        "managedFields": [{"manager": "linkerd-ca"}],
    }}))
}

#[tokio::test(start_paused = true)]
async fn the_pods_say_which_of_two_control_planes_has_the_secret() {
    let mut script =
        with_new_root(Script::new()).expect("POST", "/api/v1/namespaces/ns/configmaps", stored);
    for _ in 0..10 {
        script = script
            .maybe("POST", SECRETS, |_| conflict("AlreadyExists"))
            .maybe("GET", SECRET, |_| others_secret());
    }
    let script = script
        .expect("PATCH", SECRET, stored)
        .expect("DELETE", BUNDLE, |call| found(&call.body));
    run(script, async |hand| {
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell_that_all_is_known();
        hand.tell_of_one_that_is("web", Wanted::Annotated);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let metrics = render_metrics(&hand.registry);
        assert!(metrics.contains(r#"failures_total{reason="other_control_plane"}"#));
        assert!(!metrics.contains("certificates_issued_total{"), "{metrics}");
        hand.tell(Observed::Mark(pod("web-1", "linkerd")));
        hand.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="unreadable"} 1"#)
            .await;
        // Now they are the other's alone: Secret and bundle are left to it, whatever it does with them.
        hand.tell(Observed::Mark(pod("web-1", "linkerd-b")));
        hand.tell(Observed::Secret(Change::Remove(owner("web"))));
        hand.metrics_have(r#"linkerd_ca_workloads{state="missing"} 0"#)
            .await;
        tokio::time::sleep(Duration::from_secs(600)).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_workload_without_pods_is_left_to_the_control_plane_of_all_its_neighbours() {
    let script = first_workload().expect("DELETE", BUNDLE, |call| found(&call.body));
    run(script, async |hand| {
        hand.leads_and_issues_for_a_job().await;
        hand.tell(Observed::Mark(pod("web-1", "linkerd-b")));
        hand.tell_of_one_that_is("web", Wanted::Annotated);
        hand.metrics_have(r#"linkerd_ca_workloads{state="valid"} 0"#)
            .await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_the_command_line_has_given_to_another_control_plane_take_nothing_along() {
    run(first_workload(), async |hand| {
        hand.leads_and_issues_for_a_job().await;
        // Of a workload whose template is marked for the other one, which nobody tells us of.
        hand.tell(Observed::Mark(pod("web-1", "linkerd-b")));
        tokio::time::sleep(Duration::from_secs(60)).await;
        // Or of one that asks for no proxy any more.
        hand.tell_of_one_that_is("web", Wanted::WhileMounted);
        tokio::time::sleep(Duration::from_secs(60)).await;
        hand.metrics_have(r#"linkerd_ca_workloads{state="valid"} 1"#)
            .await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_asks_for_proxies_keeps_its_bundle_between_two_pods() {
    run(first_workload(), async |hand| {
        hand.tell(Observed::Injected(Change::Set("ns".into(), ())));
        hand.leads_and_issues_for_a_job().await;
        hand.tell_that_it_is_gone("job");
        tokio::time::sleep(Duration::from_secs(600)).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_another_overwrites_each_time_is_written_ever_more_rarely() {
    let writes = Cell::new(0);
    let mut script =
        with_new_root(Script::new()).expect("POST", "/api/v1/namespaces/ns/configmaps", stored);
    for _ in 0..100 {
        script = script.maybe("POST", SECRETS, |call| {
            writes.set(writes.get() + 1);
            stored(call)
        });
    }
    run(script, async |hand| {
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell_that_all_is_known();
        hand.tell_of("web");
        for _ in 0..6000 {
            hand.tell(Observed::Secret(Change::Remove(owner("web"))));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!((15..40).contains(&writes.get()), "{}", writes.get());
}

#[tokio::test(start_paused = true)]
async fn trust_in_the_injector_that_another_takes_back_each_time_is_written_ever_more_rarely() {
    let writes = Cell::new(0);
    let certificate = std::cell::RefCell::new(None);
    let (writes, certificate) = (&writes, &certificate);
    let without_trust = || {
        found(&json!({
            "metadata": {"name": "linkerd-linkerd-injector", "resourceVersion": "7"},
            "webhooks": [{
                "name": "injector.linkerd.io", "admissionReviewVersions": ["v1"],
                "sideEffects": "None", "clientConfig": {},
            }],
        }))
    };
    let mut script = with_new_root(Script::new());
    for _ in 0..100 {
        script = script
            .maybe("GET", WEBHOOK, move |_| without_trust())
            .maybe("GET", WEBHOOK_SECRET, |_| {
                let held = certificate.borrow();
                held.as_ref().map_or_else(not_found, found)
            })
            .maybe("PATCH", WEBHOOK, move |_| {
                writes.set(writes.get() + 1);
                without_trust()
            })
            .maybe("POST", ROOTS, |call| {
                let mut secret = call.body.clone();
                secret["metadata"]["uid"] = json!("1");
                *certificate.borrow_mut() = Some(secret.clone());
                created(&secret)
            });
    }
    run(script, async |hand| {
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell_that_all_is_known();
        hand.metrics_have("linkerd_ca_bundles_written_total 1")
            .await;
        for _ in 0..6000 {
            hand.tell(Observed::Webhook);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!((15..40).contains(&writes.get()), "{}", writes.get());
}

#[tokio::test(start_paused = true)]
async fn a_bundle_goes_when_the_last_pod_has_gone_and_not_before() {
    let is_removed = Cell::new(false);
    let script = first_workload().expect("DELETE", BUNDLE, |call| {
        let seen = json!({"uid": "1", "resourceVersion": "1"});
        assert_eq!(call.body["preconditions"], seen);
        is_removed.set(true);
        found(&json!({"metadata": {}}))
    });
    run(script, async |hand| {
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell_that_all_is_known();
        hand.tell_of("web");
        hand.tell(Observed::Mark(pod("web-1", "linkerd")));
        hand.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="missing"} 1"#)
            .await;
        hand.tell_that_it_is_gone("web");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!is_removed.get(), "a pod is left");
        // It goes, and a moment later the workload is there again.
        hand.tell(Observed::Mark(Change::Remove(pod_name("web-1"))));
        tokio::time::sleep(Duration::from_secs(10)).await;
        hand.tell_of_one_with("web", Source::Service);
        tokio::time::sleep(Duration::from_secs(60)).await;
        hand.tell_that_it_is_gone("web");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!is_removed.get(), "too early");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(is_removed.get(), "nobody is left");
        hand.tell(Observed::Bundle(Change::Remove("ns".into())));
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_bundle_goes_before_all_is_known_and_never_anothers() {
    let held = |of: &str| {
        let config_map = json!({"metadata": {
            "uid": "1", "resourceVersion": "1", "labels": {"linkerd.io/control-plane-ns": of},
        }});
        bundle::read(serde_json::from_value(config_map).expect("a config map"))
    };
    run(with_new_root(Script::new()), async |hand| {
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell(Observed::Secret(Change::RelistDone));
        hand.tell(Observed::Mark(Change::RelistDone));
        hand.tell(Observed::Bundle(Change::Listed(
            "ns".into(),
            held("linkerd"),
        )));
        let others = Change::Listed("others".into(), held("linkerd-b"));
        hand.tell(Observed::Bundle(others));
        hand.tell(Observed::Bundle(Change::RelistDone));
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;

    let script = with_new_root(Script::new()).expect("DELETE", BUNDLE, |_| not_found());
    run(script, async |hand| {
        hand.tell(Observed::Bundle(Change::Listed(
            "ns".into(),
            held("linkerd"),
        )));
        let others = Change::Listed("others".into(), held("linkerd-b"));
        hand.tell(Observed::Bundle(others));
        hand.tell_that_all_is_known();
        hand.leadership.send_replace(Leadership::Leader);
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_is_ready_and_writes_nothing() {
    run(Script::new(), async |hand| {
        hand.tell_that_all_is_known();
        hand.tell_of("web");
        hand.metrics_have(r#"linkerd_ca_workloads{state="missing"} 1"#)
            .await;
        assert!(!hand.readiness.is_ready(), "the lease was not read yet");
        hand.leadership.send_replace(Leadership::Follower);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(hand.readiness.is_ready());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn how_long_a_first_write_took_is_counted_from_the_beginning_of_the_lead() {
    run(first_workload(), async |hand| {
        hand.leadership.send_replace(Leadership::Follower);
        hand.tell_that_all_is_known();
        hand.tell_of("web");
        tokio::time::sleep(Duration::from_secs(600)).await;
        hand.leadership.send_replace(Leadership::Leader);
        hand.metrics_have("linkerd_ca_first_write_seconds_count 1")
            .await;
        let metrics = render_metrics(&hand.registry);
        let sum = metrics
            .lines()
            .find_map(|line| line.strip_prefix("linkerd_ca_first_write_seconds_sum "))
            .and_then(|sum| sum.parse::<f64>().ok());
        assert!(sum.is_some_and(|sum| sum < 60.0), "{sum:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_another_leader_has_written_is_no_first_write() {
    let script = with_new_root(Script::new())
        .expect("POST", "/api/v1/namespaces/ns/configmaps", stored)
        .expect("PATCH", SECRET, stored);
    run(script, async |hand| {
        hand.leadership.send_replace(Leadership::Follower);
        hand.tell_that_all_is_known();
        hand.tell_of("web");
        // Whatever is in it: it is there.
        let written = secret::read(Secret::default(), "linkerd");
        hand.tell(Observed::Secret(Change::Set(owner("web"), written)));
        hand.metrics_have("linkerd_ca_workloads{state=\"missing\"} 1")
            .await;
        hand.leadership.send_replace(Leadership::Leader);
        hand.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="unreadable"} 1"#)
            .await;
        hand.metrics_have("linkerd_ca_first_write_seconds_count 0")
            .await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_our_own_secrets_are_known() {
    run(Script::new(), async |hand| {
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell(Observed::Bundle(Change::RelistDone));
        hand.tell_of("web");
        hand.metrics_have(r#"linkerd_ca_workloads{state="missing"} 1"#)
            .await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!hand.readiness.is_ready());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_secret_is_written_again_with_another_key() {
    let first = std::cell::RefCell::new(Value::Null);
    let script = with_new_root(Script::new())
        .expect("POST", "/api/v1/namespaces/ns/configmaps", stored)
        .expect("POST", SECRETS, |call| {
            *first.borrow_mut() = call.body["data"].clone();
            stored(call)
        })
        .expect("POST", SECRETS, |call| {
            assert_ne!(call.body["data"], *first.borrow());
            stored(call)
        });
    run(script, async |hand| {
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell_that_all_is_known();
        hand.tell_of("web");
        hand.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="missing"} 1"#)
            .await;
        hand.tell(Observed::Secret(Change::Remove(owner("web"))));
        hand.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="missing"} 2"#)
            .await;
    })
    .await;
}

/// What another does to an object between our write and the answer to it.
type Meanwhile = fn(&Secret) -> Vec<Observed>;

#[tokio::test(start_paused = true)]
async fn a_secret_that_goes_before_its_write_is_answered_is_written_again() {
    let meanwhile: [Meanwhile; 2] = [
        |secret| {
            let set = Change::Set(owner("web"), secret::read(secret.clone(), "linkerd"));
            let gone = Change::Remove(owner("web"));
            [set, gone].map(Observed::Secret).into()
        },
        // The watch broke, and its new list is without it.
        |_| {
            [Change::Relist, Change::RelistDone]
                .map(Observed::Secret)
                .into()
        },
    ];
    for meanwhile in meanwhile {
        let watch = std::cell::RefCell::new(None::<Sender<Observed>>);
        let script = with_new_root(Script::new())
            .expect("POST", "/api/v1/namespaces/ns/configmaps", stored)
            .expect("POST", SECRETS, |call| {
                let secret: Secret = serde_json::from_value(call.body.clone()).expect("a secret");
                for observed in meanwhile(&secret) {
                    let mut watch = watch.borrow_mut();
                    let watch = watch.as_mut().expect("the test has begun");
                    watch.try_send(observed).expect("the controller listens");
                }
                stored(call)
            })
            .expect("POST", SECRETS, stored);
        run(script, async |hand| {
            *watch.borrow_mut() = Some(hand.observed.clone());
            hand.leadership.send_replace(Leadership::Leader);
            hand.tell_that_all_is_known();
            hand.tell_of("web");
            hand.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="missing"} 2"#)
                .await;
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_bundle_that_goes_before_its_write_is_answered_is_written_again() {
    let watch = std::cell::RefCell::new(None::<Sender<Observed>>);
    let script = with_new_root(Script::new())
        .expect("POST", "/api/v1/namespaces/ns/configmaps", |call| {
            let config_map = serde_json::from_value(call.body.clone()).expect("a config map");
            let set = Change::Set("ns".to_owned(), bundle::read(config_map));
            for change in [set, Change::Remove("ns".to_owned())] {
                let mut watch = watch.borrow_mut();
                let watch = watch.as_mut().expect("the test has begun");
                watch
                    .try_send(Observed::Bundle(change))
                    .expect("the controller listens");
            }
            stored(call)
        })
        .maybe("POST", SECRETS, stored)
        .expect("POST", "/api/v1/namespaces/ns/configmaps", stored)
        .maybe("POST", SECRETS, stored);
    run(script, async |hand| {
        *watch.borrow_mut() = Some(hand.observed.clone());
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell_that_all_is_known();
        hand.tell_of("web");
        hand.metrics_have("linkerd_ca_bundles_written_total 3")
            .await;
        hand.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="missing"} 1"#)
            .await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_is_tried_again_until_it_succeeds() {
    let script = with_new_root(Script::new())
        .expect("POST", "/api/v1/namespaces/ns/configmaps", stored)
        .expect("POST", SECRETS, |_| refused())
        .expect("POST", SECRETS, |_| refused())
        .expect("POST", SECRETS, stored);
    run(script, async |hand| {
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell_that_all_is_known();
        hand.tell_of("web");
        hand.metrics_have(r#"linkerd_ca_failures_total{reason="api"} 2"#)
            .await;
        hand.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="missing"} 1"#)
            .await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_leads_no_more_stops_and_a_new_leader_reads_the_root_again() {
    let root = std::cell::RefCell::new(Value::Null);
    let script = Script::new()
        .expect("GET", ROOT, |_| not_found())
        .expect("POST", ROOTS, |call| {
            *root.borrow_mut() = call.body.clone();
            created(&call.body)
        })
        .expect("POST", "/api/v1/namespaces/linkerd/configmaps", stored)
        .expect("GET", ROOT, |_| found(&*root.borrow()))
        .expect("POST", "/api/v1/namespaces/ns/configmaps", stored)
        .expect("POST", SECRETS, |call| {
            let secret: Secret = serde_json::from_value(call.body.clone()).expect("a secret");
            assert!(secret::read(secret, "linkerd").key_fits);
            stored(call)
        });
    run(script, async |hand| {
        hand.leadership.send_replace(Leadership::Leader);
        hand.tell_that_all_is_known();
        hand.metrics_have("linkerd_ca_bundles_written_total 1")
            .await;
        hand.leadership.send_replace(Leadership::Follower);
        hand.metrics_have("linkerd_ca_leader 0").await;
        hand.tell_of("web");
        hand.metrics_have(r#"linkerd_ca_workloads{state="missing"} 1"#)
            .await;
        hand.leadership.send_replace(Leadership::Leader);
        hand.metrics_have(r#"linkerd_ca_certificates_issued_total{reason="missing"} 1"#)
            .await;
    })
    .await;
}
