//! Every row of `linkerd check`, told by the real program: well on a cluster that is well, and each of
//! them alone when what it checks is broken.

use std::time::{Duration, SystemTime};

use linkerd_issuer::Root;
use linkerd_names::{Identity, OwnerKind};
use serde_json::{Value, json};

use crate::kubernetes::{Answer, Cluster, Run, list};

const HOUR: Duration = Duration::from_secs(3600);
const VERSION: &str = env!("CARGO_PKG_VERSION");

const NAMESPACE: &str = "/api/v1/namespaces/linkerd";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const COMPONENTS: &str = "/api/v1/namespaces/linkerd/pods";
const CONFIG: &str = "/api/v1/namespaces/linkerd/configmaps/linkerd-config";
const BUDGETS: &str = "/apis/policy/v1/namespaces/linkerd/poddisruptionbudgets";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const OWN_DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/linkerd/deployments";
const BUNDLE: &str = "/api/v1/namespaces/shop/configmaps/linkerd-ca-bundle";
const SECRET: &str = "/api/v1/namespaces/shop/secrets/web-deployment-tls-linkerd-io";
const PODS: &str = "/api/v1/pods";
const PORT_FORWARD: &str = "/api/v1/namespaces/shop/pods/web-1/portforward";
const INJECTOR: &str = "/apis/apps/v1/namespaces/linkerd/deployments/linkerd-injector";
const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const WEBHOOK: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/linkerd-linkerd-injector";

/// A cluster on which every row of `check --proxy` is well: one workload with a certificate that was issued
/// this long ago, and a meshed pod that is not marked for TLS.
fn well_since(age: Duration) -> Cluster {
    let now = SystemTime::now();
    let mut cluster = Cluster {
        time: Some(now),
        self_check: Some(vec![("kubernetes", Ok(())), ("prometheus", Ok(()))]),
        version: VERSION.to_owned(),
        ..Cluster::default()
    };
    cluster.has(
        "/version",
        json!({"major": "1", "minor": "34", "gitVersion": "v1.34.1", "buildDate": "", "compiler": "",
               "gitCommit": "", "gitTreeState": "", "goVersion": "", "platform": ""}),
    );
    cluster.has(NAMESPACE, json!({"metadata": {"name": "linkerd"}}));
    cluster.has(CONFIG, json!({"metadata": {"name": "linkerd-config"}}));
    let components = ["linkerd-api", "linkerd-ca", "linkerd-destination"];
    cluster.lists(COMPONENTS, components.map(component).to_vec());
    cluster.lists(DEPLOYMENTS, vec![workload("web")]);
    let root = Root::generate(now - age).expect("a root");
    cluster.has(BUNDLE, bundle(&root));
    cluster.has(SECRET, secret(&root, "web", now - age));
    cluster.lists(PODS, vec![meshed_pod(true, VERSION)]);
    cluster
}

pub(crate) fn well() -> Cluster {
    well_since(HOUR)
}

fn component(name: &str) -> Value {
    pod(
        name,
        json!({"linkerd.io/control-plane-component": name}),
        name,
        true,
    )
}

fn pod(name: &str, labels: Value, container: &str, ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "status": {
            "conditions": [{"type": "Ready", "status": status}],
            "containerStatuses": [{
                "name": container, "ready": ready, "image": "", "imageID": "", "restartCount": 0,
                "state": {"waiting": {"reason": "ErrImagePull"}},
            }],
        },
    })
}

fn meshed_pod(ready: bool, version: &str) -> Value {
    let labels = json!({"linkerd.io/control-plane-ns": "linkerd"});
    let mut pod = pod("web-1", labels, "linkerd-proxy", ready);
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true,
    }]);
    pod["metadata"]["annotations"] = json!({"linkerd.io/proxy-version": version});
    pod
}

fn workload(name: &str) -> Value {
    let marks =
        json!({"linkerd.io/control-plane-ns": "linkerd", "linkerd.io/tls-mode": "optional"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"template": {"metadata": {"labels": marks}}},
    })
}

fn bundle(root: &Root) -> Value {
    json!({"metadata": {"name": "linkerd-ca-bundle"},
           "data": {"trust-anchors.pem": root.trust_bundle().to_pem()}})
}

/// A Secret with a certificate of a day for the workload `name`.
fn secret(root: &Root, name: &str, issued: SystemTime) -> Value {
    secret_for(root, name, issued, 24 * HOUR)
}

fn secret_for(root: &Root, name: &str, issued: SystemTime, lifetime: Duration) -> Value {
    let identity = Identity::new(name, OwnerKind::Deployment, "shop", "linkerd").expect("valid");
    let issued = root
        .issue_leaf(&identity, lifetime, issued)
        .expect("a leaf");
    let bytes = |bytes: &[u8]| json!(k8s_openapi::ByteString(bytes.to_vec()));
    json!({"metadata": {"name": "web-deployment-tls-linkerd-io"},
           "data": {"certificate.crt": bytes(issued.leaf.as_der()),
                    "private-key.p8": bytes(issued.key.as_pkcs8_der())}})
}

/// A row of the answer for programs: anchor, result, what was found.
type Row = (String, String, String);

/// The rows that are not well, and how many are.
fn rows(run: &Run) -> (Vec<Row>, usize) {
    let document: Value = serde_json::from_str(&run.stdout).expect(&run.stdout);
    let categories = document["categories"].as_array().expect("a list");
    let checks: Vec<&Value> = categories
        .iter()
        .flat_map(|category| category["checks"].as_array().expect("a list"))
        .collect();
    let bad: Vec<Row> = checks
        .iter()
        .filter(|check| check["result"] != "success")
        .map(|check| {
            let text = |key: &str| check[key].as_str().expect(key).to_owned();
            assert!(!text("hint").is_empty());
            let see = text("see");
            let anchor = see.strip_prefix("docs/checks.md#").expect("the page");
            (anchor.to_owned(), text("result"), text("error"))
        })
        .collect();
    for check in checks.iter().filter(|check| check["result"] == "success") {
        for key in ["error", "hint", "see"] {
            assert!(check[key].is_null(), "{key} of a row that is well: {check}");
        }
    }
    let well = checks.len() - bad.len();
    (bad, well)
}

/// Runs `check` with these flags; one row has to be bad, and the exit code has to fit.
fn only_bad(cluster: Cluster, flags: &[&str], anchor: &str, result: &str, part: &str) {
    let run = cluster.run(&[&["check", "-o", "json"], flags].concat());
    let (bad, _) = rows(&run);
    let [(found, found_result, error)] = bad.as_slice() else {
        panic!("{anchor}: {bad:?}");
    };
    assert_eq!(
        (found.as_str(), found_result.as_str()),
        (anchor, result),
        "{error}"
    );
    assert!(error.contains(part), "{anchor}: {error}");
    assert_eq!(run.code, Some(i32::from(result == "error")), "{anchor}");
}

#[test]
fn all_rows_are_well_on_a_cluster_that_is_well() {
    let run = well().run(&["check", "--proxy", "-o", "json"]);
    let (bad, good) = rows(&run);
    assert_eq!(
        (bad, good, run.code),
        (Vec::new(), 26, Some(0)),
        "{}",
        run.stdout
    );
    assert_eq!(run.stderr, "");
    let remark = r#""remark": "1 certificates; deployment/web.shop has the first to end, in "#;
    assert!(run.stdout.contains(remark), "{}", run.stdout);
}

#[test]
fn people_read_a_line_for_each_row_and_where_there_is_more() {
    let mut cluster = well();
    cluster.lists(COMPONENTS, vec![component("linkerd-api")]);
    let run = cluster.run(&["check"]);
    assert_eq!(run.code, Some(1));
    expect_test::expect![[r#"
        kubernetes-api
        --------------
        √ can initialize the client
        √ can query the Kubernetes API
        √ is running the minimum Kubernetes API version
        √ its clock and the one of this machine agree

        linkerd-existence
        -----------------
        √ control plane namespace exists
        × control plane pods are ready
            No running pods for "linkerd-destination"
            hint: look at `kubectl -n linkerd describe pods`; --wait waits for what only needs time
            see docs/checks.md#l5d-existence-pods for more

        Status check results are ×
    "#]]
    .assert_eq(&run.stdout);
}

#[test]
fn the_short_form_has_only_what_is_not_well() {
    let run = well().run(&["check", "-o", "short"]);
    assert_eq!(
        (run.stdout.as_str(), run.code),
        ("Status check results are √\n", Some(0))
    );
    let run = well().run(&["check", "-o", "short", "--expected-version=v9"]);
    assert_eq!(run.code, Some(0));
    assert_eq!(run.stdout.matches('‼').count(), 2, "{}", run.stdout);
    let marks = run.stdout.matches('√').count();
    assert_eq!(marks, 1, "{}", run.stdout);
}

#[test]
fn rows_about_the_cluster() {
    let mut cluster = well();
    cluster
        .answers
        .insert("/version".to_owned(), (401, json!({})));
    only_bad(cluster, &[], "k8s-api-query", "error", "");

    let mut cluster = well();
    cluster.answers.get_mut("/version").expect("there").1["minor"] = json!("28");
    only_bad(cluster, &[], "k8s-version", "error", "1.29.0");

    let mut cluster = well();
    cluster.time = Some(SystemTime::now() - 2 * HOUR);
    only_bad(cluster, &[], "k8s-clock", "warning", "behind");

    let mut cluster = well();
    cluster.time = None;
    only_bad(cluster, &[], "k8s-clock", "warning", "no time");

    let flags = ["--context", "other"];
    only_bad(well(), &flags, "k8s-api-client", "error", "other");
}

/// A cluster in which the control plane may be installed.
fn free() -> Cluster {
    let mut cluster = well();
    cluster.lacks(NAMESPACE);
    cluster.has(REVIEWS, json!({"spec": {}, "status": {"allowed": true}}));
    cluster
}

#[test]
fn rows_before_an_installation() {
    let run = free().run(&["check", "--pre", "-o", "json"]);
    assert_eq!((rows(&run), run.code), ((Vec::new(), 6), Some(0)));

    let mut cluster = free();
    cluster.has(NAMESPACE, json!({"metadata": {"name": "linkerd"}}));
    only_bad(cluster, &["--pre"], "pre-ns", "error", "already exists");

    // What the chart has is what is asked for.
    for resource in [
        "clusterroles",
        "deployments",
        "mutatingwebhookconfigurations",
        "poddisruptionbudgets",
    ] {
        let mut cluster = free();
        cluster.refused.insert(resource);
        let expected = format!("create {resource}");
        let flags = &["--pre", "--ha"];
        only_bad(cluster, flags, "pre-rights", "error", &expected);
    }
    let mut cluster = free();
    cluster.refused.insert("poddisruptionbudgets");
    let run = cluster.run(&["check", "--pre", "-o", "json"]);
    assert_eq!((rows(&run).0, run.code), (Vec::new(), Some(0)));
}

#[test]
fn rows_about_the_control_plane() {
    let mut cluster = well();
    cluster.lacks(NAMESPACE);
    only_bad(cluster, &[], "l5d-existence-ns", "error", "does not exist");

    let mut cluster = well();
    cluster.forbids(NAMESPACE);
    only_bad(cluster, &[], "l5d-existence-ns", "warning", "no permission");

    let mut cluster = well();
    let broken = pod(
        "linkerd-api-1",
        json!({"linkerd.io/control-plane-component": "linkerd-api"}),
        "linkerd-api",
        false,
    );
    cluster.lists(COMPONENTS, vec![component("linkerd-destination"), broken]);
    only_bad(cluster, &[], "l5d-existence-pods", "error", "ErrImagePull");

    let mut cluster = well();
    cluster.lacks(CONFIG);
    only_bad(
        cluster,
        &[],
        "l5d-existence-config",
        "warning",
        "linkerd-config",
    );

    let mut cluster = well();
    cluster.forbids(CONFIG);
    only_bad(
        cluster,
        &[],
        "l5d-existence-config",
        "warning",
        "get configmaps",
    );

    let mut cluster = well();
    cluster.forbids(COMPONENTS);
    only_bad(cluster, &[], "l5d-existence-pods", "error", "no permission");

    // The rows after it are there, and well.
    let mut cluster = well();
    let prometheus = deployment("linkerd-prometheus", json!({}));
    cluster.lists(OWN_DEPLOYMENTS, vec![prometheus]);
    let rows_at_all = |(bad, well): (Vec<Row>, usize)| bad.len() + well;
    let all = rows_at_all(rows(&well().run(&["check", "-o", "json"])));
    let run = cluster.clone().run(&["check", "-o", "json"]);
    assert_eq!(rows_at_all(rows(&run)), all);
    let away = "No running pods for \"linkerd-prometheus\"";
    only_bad(cluster, &[], "l5d-existence-pods", "error", away);

    let mut cluster = well();
    let status = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1});
    cluster.lists(OWN_DEPLOYMENTS, vec![deployment("linkerd-ca", status)]);
    let waiting = pod(
        "linkerd-ca-2",
        json!({"linkerd.io/control-plane-component": "linkerd-ca"}),
        "ca",
        false,
    );
    let pods = ["linkerd-api", "linkerd-ca", "linkerd-destination"].map(component);
    cluster.lists(COMPONENTS, [&pods[..], &[waiting]].concat());
    let behind = "The last rollout of \"linkerd-ca\" is not over: The \"linkerd-ca\" pod's \"ca\" container is \
                  not ready: ErrImagePull";
    only_bad(cluster, &[], "l5d-existence-pods", "warning", behind);

    let mut cluster = well();
    cluster.self_check = None;
    only_bad(cluster, &[], "l5d-api-client", "error", "linkerd-api");

    let mut cluster = well();
    cluster.api_problem = Some("it is going away");
    only_bad(cluster, &[], "l5d-api-query", "error", "it is going away");

    let mut cluster = well();
    cluster.self_check = Some(vec![
        ("kubernetes", Ok(())),
        ("prometheus", Err("no answer")),
    ]);
    only_bad(cluster, &[], "l5d-api-self-check", "error", "no answer");

    let mut cluster = well();
    cluster.version = "v0".to_owned();
    only_bad(cluster, &[], "l5d-version-control", "warning", "v0");

    let mut cluster = well();
    cluster.version = "v9".to_owned();
    let flags = ["--expected-version=v9"];
    only_bad(
        cluster,
        &flags,
        "l5d-version-cli",
        "warning",
        "v9 is expected",
    );
}

/// A Deployment of the control plane in its second generation.
fn deployment(component: &str, status: Value) -> Value {
    json!({
        "metadata": {
            "name": component, "generation": 2,
            "labels": {"linkerd.io/control-plane-component": component},
        },
        "spec": {"replicas": 1, "selector": {}, "template": {}},
        "status": status,
    })
}

/// The control plane with three pods of `linkerd-ca`, on these nodes, and a budget for them.
fn highly_available(nodes: [&str; 3]) -> Cluster {
    let mut cluster = well();
    let label = json!({"linkerd.io/control-plane-component": "linkerd-ca"});
    cluster.lists(
        OWN_DEPLOYMENTS,
        vec![json!({"metadata": {"name": "linkerd-ca", "labels": label},
                    "spec": {"replicas": 3, "selector": {}, "template": {}}})],
    );
    let mut pods = ["linkerd-api", "linkerd-destination"]
        .map(component)
        .to_vec();
    for node in nodes {
        let mut pod = component("linkerd-ca");
        pod["spec"] = json!({"nodeName": node, "containers": []});
        pods.push(pod);
    }
    cluster.lists(COMPONENTS, pods);
    cluster.lists(
        BUDGETS,
        vec![json!({"metadata": {"name": "linkerd-ca", "labels": label}})],
    );
    cluster
}

#[test]
fn rows_about_high_availability() {
    let run = highly_available(["a", "b", "c"]).run(&["check", "--proxy", "-o", "json"]);
    assert_eq!((rows(&run), run.code), ((Vec::new(), 29), Some(0)));

    let cluster = highly_available(["a", "b", "a"]);
    only_bad(
        cluster,
        &[],
        "l5d-ha-nodes",
        "warning",
        "2 pods of linkerd-ca are on a",
    );

    let mut cluster = highly_available(["a", "b", "c"]);
    cluster.lists(BUDGETS, Vec::new());
    only_bad(
        cluster,
        &[],
        "l5d-ha-budgets",
        "warning",
        "linkerd-ca has no",
    );

    let mut cluster = highly_available(["a", "b", "c"]);
    cluster.forbids(BUDGETS);
    only_bad(cluster, &[], "l5d-ha-budgets", "warning", "no permission");

    let mut cluster = highly_available(["a", "b", "c"]);
    let pods = cluster.answers.get_mut(COMPONENTS).expect("there");
    pods.1["items"][2]["status"]["conditions"][0]["status"] = json!("False");
    only_bad(
        cluster,
        &[],
        "l5d-ha-ready",
        "warning",
        "2 of 3 pods of linkerd-ca",
    );
}

#[test]
fn rows_about_certificates() {
    let mut cluster = well();
    cluster.forbids(DEPLOYMENTS);
    only_bad(
        cluster,
        &[],
        "l5d-ca-workloads",
        "warning",
        "list deployments",
    );

    let mut cluster = well();
    cluster.lists(DEPLOYMENTS, Vec::new());
    only_bad(cluster, &[], "l5d-ca-marked", "warning", "no workload is");

    let mut cluster = well();
    cluster.forbids(SECRET);
    only_bad(cluster, &[], "l5d-ca-readable", "warning", "get secrets");

    let mut cluster = marked();
    cluster.forbids(SECRET);
    cluster.forbids(WEBHOOK);
    let loaded = "tls_config_last_reload_seconds 1800000000\n";
    cluster.proxies.insert(PORT_FORWARD.to_owned(), loaded);
    let (bad, _) = rows(&cluster.run(&["check", "--proxy", "-o", "json"]));
    let anchors: Vec<&str> = bad.iter().map(|(anchor, ..)| anchor.as_str()).collect();
    assert_eq!(anchors, ["l5d-ca-readable", "l5d-injector-readable"]);

    let mut cluster = well();
    cluster.lacks(BUNDLE);
    only_bad(cluster, &[], "l5d-ca-bundles", "error", "namespace shop");

    let mut cluster = well();
    let root = Root::generate(SystemTime::now()).expect("a root");
    let mut others = bundle(&root);
    others["metadata"]["labels"] = json!({"linkerd.io/control-plane-ns": "linkerd-b"});
    cluster.has(BUNDLE, others);
    only_bad(
        cluster,
        &[],
        "l5d-ca-bundles",
        "error",
        "in namespace linkerd-b, which removes it when its last workload and pod here have gone; if that control plane is \
         gone: kubectl delete configmap -n shop linkerd-ca-bundle",
    );

    let mut cluster = well();
    cluster.lists(
        DEPLOYMENTS,
        vec![workload("web"), workload(&"long".repeat(16))],
    );
    only_bad(cluster, &[], "l5d-ca-names", "warning", "longlong");

    let mut cluster = well();
    cluster.lacks(SECRET);
    only_bad(
        cluster,
        &[],
        "l5d-ca-certificates",
        "error",
        "deployment/web.shop",
    );

    let mut cluster = well();
    let stranger = Root::generate(SystemTime::now()).expect("a root");
    cluster.has(SECRET, secret(&stranger, "web", SystemTime::now()));
    only_bad(cluster, &[], "l5d-ca-valid", "error", "does not chain");

    let mut cluster = well();
    let root = Root::generate(SystemTime::now()).expect("a root");
    cluster.has(BUNDLE, bundle(&root));
    cluster.has(SECRET, secret(&root, "other", SystemTime::now()));
    only_bad(cluster, &[], "l5d-ca-valid", "error", "is for other");

    // Of 24 hours 16 are the time of the renewal, and 18 are too late.
    only_bad(
        well_since(19 * HOUR),
        &[],
        "l5d-ca-renewal",
        "warning",
        "ends in 4h",
    );
}

#[test]
fn certificates_that_end_before_kubelet_has_brought_the_next_ones_are_told_of() {
    let of_minutes = |minutes: u64| {
        let now = SystemTime::now();
        let root = Root::generate(now).expect("a root");
        let mut cluster = well();
        cluster.has(BUNDLE, bundle(&root));
        let lifetime = Duration::from_secs(minutes * 60);
        cluster.has(SECRET, secret_for(&root, "web", now, lifetime));
        cluster
    };
    only_bad(
        of_minutes(5),
        &[],
        "l5d-ca-renewal",
        "warning",
        "deployment/web.shop: valid for 5m 0s in all",
    );
    let run = of_minutes(6).run(&["check", "-o", "json"]);
    assert_eq!(rows(&run).0, []);
}

#[test]
fn a_root_that_ends_soon_is_told_before_it_does() {
    let now = SystemTime::now();
    let lifetime = linkerd_issuer::ROOT_LIFETIME;
    let root = Root::generate(now - lifetime + 30 * 24 * HOUR).expect("a root");
    let mut cluster = well();
    cluster.has(BUNDLE, bundle(&root));
    cluster.has(SECRET, secret(&root, "web", now));
    only_bad(
        cluster,
        &[],
        "l5d-ca-anchors",
        "warning",
        "the root ends in 29d",
    );
}

#[test]
fn rows_about_the_injector() {
    let mut cluster = well();
    cluster.forbids(WEBHOOK);
    let what = "get mutatingwebhookconfigurations";
    only_bad(cluster, &[], "l5d-injector-readable", "warning", what);

    let mut cluster = well();
    cluster.has(
        WEBHOOK,
        json!({"metadata": {"name": "linkerd-linkerd-injector"}}),
    );
    cluster.lists(WEBHOOKS, Vec::new());
    only_bad(cluster, &[], "l5d-injector-trusted", "error", "no Secret");

    // Two of them, and a namespace that means neither: its pods get what comes first.
    let injector = |name: &str, webhook: &str| {
        let client_config = json!({"caBundle": ""});
        json!({
            "metadata": {"name": name},
            "webhooks": [{
                "name": webhook, "clientConfig": client_config, "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }],
        })
    };
    let ours = injector("linkerd-linkerd-injector", "injector.linkerd.io");
    let another = injector("linkerd-b-injector", "injector.linkerd.io");
    let linkerds = injector(
        "linkerd-proxy-injector",
        "linkerd-proxy-injector.linkerd.io",
    );
    let unrelated = injector("sidecar", "injector.example.org");
    for (others, namespace_word, expected) in [
        (
            vec![&another, &linkerds],
            "enabled",
            Some("linkerd-b-injector, linkerd-proxy-injector"),
        ),
        (vec![&another], "disabled", None),
        (vec![&unrelated], "enabled", None),
    ] {
        let mut cluster = well();
        cluster.has(WEBHOOK, ours.clone());
        let all = [vec![&ours], others].concat();
        cluster.lists(WEBHOOKS, all.into_iter().cloned().collect());
        let annotations = json!({"linkerd.io/inject": namespace_word});
        let namespace = json!({"metadata": {"name": "books", "annotations": annotations}});
        cluster.lists("/api/v1/namespaces", vec![namespace]);
        let (bad, _) = rows(&cluster.run(&["check", "-o", "json"]));
        let found = bad
            .iter()
            .find(|(anchor, _, _)| anchor == "l5d-injector-alone");
        assert_eq!(
            found.map(|(_, result, _)| result.as_str()),
            expected.map(|_| "warning")
        );
        if let (Some((_, _, error)), Some(expected)) = (found, expected) {
            assert!(error.contains("namespace books"), "{error}");
            assert!(error.ends_with(expected), "{error}");
        }
    }

    let mut cluster = well();
    cluster.forbids("/api/v1/namespaces");
    let what = "the right to list namespaces";
    only_bad(cluster, &[], "l5d-injector-pods", "warning", what);

    let mut cluster = well();
    cluster.has(INJECTOR, deployment("linkerd-injector", json!({})));
    let what = "there is no MutatingWebhookConfiguration \"linkerd-linkerd-injector\"";
    only_bad(cluster, &[], "l5d-injector-configured", "error", what);

    let mut cluster = well();
    cluster.has(WEBHOOK, ours.clone());
    cluster.forbids(WEBHOOKS);
    let (bad, _) = rows(&cluster.run(&["check", "-o", "json"]));
    let alone = bad.iter().find(|row| row.0 == "l5d-injector-alone");
    let (_, _, error) = alone.expect("not known");
    let what = "the right to list mutatingwebhookconfigurations";
    assert!(error.contains(what), "{error}");

    let mut cluster = well();
    let annotations = json!({"linkerd.io/inject": "enabled"});
    let namespace = json!({"metadata": {"name": "shop", "annotations": annotations}});
    cluster.lists("/api/v1/namespaces", vec![namespace]);
    only_bad(
        cluster,
        &[],
        "l5d-injector-pods",
        "error",
        "linkerd-injector is not installed\npod shop/web-1 has no proxy: it would get one if it were created now",
    );
}

#[test]
fn a_pod_that_runs_without_its_proxy_is_not_waited_for() {
    let mut cluster = well();
    let mut pod = pod("job-1", json!({}), "app", true);
    pod["metadata"]["annotations"] = json!({"linkerd.io/inject": "Enabled"});
    cluster.lists(PODS, vec![pod]);
    let run = cluster.run(&["check", "--wait", "1h", "-o", "json"]);
    assert_eq!(run.stderr, "");
    let (bad, _) = rows(&run);
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert!(
        bad[0]
            .2
            .ends_with("is \"Enabled\", which is neither \"enabled\" nor \"disabled\""),
        "{bad:?}"
    );
}

#[test]
fn proxies_of_a_control_plane_that_is_gone_are_told_of() {
    let of_old = || {
        let mut pod = meshed_pod(true, VERSION);
        pod["metadata"]["labels"] = json!({"linkerd.io/control-plane-ns": "old"});
        let mut cluster = well();
        cluster.lists(PODS, vec![pod]);
        cluster
    };
    let line = "control plane old is not there, and pods have its proxy: shop/web-1";
    only_bad(of_old(), &[], "l5d-injector-orphans", "warning", line);

    let mut cluster = of_old();
    let deployments = "/apis/apps/v1/namespaces/old/deployments";
    cluster.lists(
        deployments,
        vec![deployment("linkerd-destination", json!({}))],
    );
    let run = cluster.run(&["check", "-o", "json"]);
    assert_eq!(rows(&run).0, []);
}

#[test]
fn rows_about_proxies() {
    let proxy = &["--proxy"];
    let mut cluster = well();
    cluster.lists(PODS, vec![meshed_pod(false, VERSION)]);
    only_bad(
        cluster,
        proxy,
        "l5d-data-plane-ready",
        "error",
        "pod shop/web-1",
    );

    let mut cluster = well();
    cluster.lists(PODS, Vec::new());
    only_bad(
        cluster,
        proxy,
        "l5d-data-plane-meshed",
        "warning",
        "no pod is",
    );

    let mut cluster = well();
    cluster.lists(PODS, vec![meshed_pod(true, "v0")]);
    only_bad(
        cluster,
        proxy,
        "l5d-data-plane-version",
        "warning",
        "version v0",
    );

    let mut cluster = well();
    cluster.lists(PODS, vec![meshed_pod(true, "v0")]);
    let run = cluster.run(&["check", "--proxy", "--expected-version=v0", "-o", "json"]);
    let about_proxies = |(anchor, ..): &Row| anchor.starts_with("l5d-data-plane");
    assert!(!rows(&run).0.iter().any(about_proxies), "{}", run.stdout);

    let mut cluster = marked();
    cluster.forbids(PORT_FORWARD);
    // Told once, however many pods there are.
    let items = &mut cluster.answers.get_mut(PODS).expect("there").1["items"];
    let pod = items[0].clone();
    items.as_array_mut().expect("a list").push(pod);
    let run = cluster.run(&["check", "--proxy", "-o", "json"]);
    let right =
        "no permission: ask for the right to get and create pods/portforward in namespace \"shop\"";
    let row = |text: &str| text.to_owned();
    let expected = (row("l5d-data-plane-loaded"), row("warning"), row(right));
    assert_eq!((rows(&run).0, run.code), (vec![expected], Some(0)));
}

/// A cluster with a pod whose proxy is to have a certificate.
fn marked() -> Cluster {
    let mut pod = meshed_pod(true, VERSION);
    let labels = &mut pod["metadata"]["labels"];
    labels["linkerd.io/tls-mode"] = json!("optional");
    labels["linkerd.io/proxy-deployment"] = json!("web");
    let mut cluster = well();
    cluster.lists(PODS, vec![pod]);
    cluster
}

#[test]
fn proxies_say_themselves_whether_they_have_loaded_a_certificate() {
    let metrics = |text| {
        let mut cluster = marked();
        cluster.proxies.insert(PORT_FORWARD.to_owned(), text);
        cluster
    };
    let loaded = "tls_config_last_reload_seconds 1800000000\n";
    let run = metrics(loaded).run(&["check", "--proxy", "-o", "json"]);
    assert_eq!((rows(&run).0, run.code), (Vec::new(), Some(0)));
    for none in [
        "",
        "tls_config_reload_total{status=\"io_error\"} 3\n",
        "tls_config_last_reload_seconds 0\n",
    ] {
        only_bad(
            metrics(none),
            &["--proxy"],
            "l5d-data-plane-loaded",
            "error",
            "pod shop/web-1: no certificate is loaded",
        );
    }
}

#[test]
fn a_workload_that_only_its_pods_mark_has_to_have_a_certificate() {
    let mut unmarked = workload("web");
    unmarked["spec"]["template"]["metadata"] = json!({});
    let by_annotation = |secret: bool| {
        let mut cluster = marked();
        cluster.lists(DEPLOYMENTS, vec![unmarked.clone()]);
        if !secret {
            cluster.lacks(SECRET);
        }
        cluster
    };
    let run = by_annotation(true).run(&["check", "-o", "json"]);
    assert_eq!((rows(&run).0, run.code), (Vec::new(), Some(0)));
    assert!(run.stdout.contains("1 certificates"), "{}", run.stdout);
    only_bad(
        by_annotation(false),
        &[],
        "l5d-ca-certificates",
        "error",
        "deployment/web.shop",
    );
}

#[test]
fn the_namespace_of_proxies_can_be_chosen() {
    let mut cluster = well();
    cluster.lists(PODS, vec![meshed_pod(false, VERSION)]);
    cluster.lists(
        "/api/v1/namespaces/other/pods",
        vec![meshed_pod(true, VERSION)],
    );
    cluster.has(
        "/api/v1/namespaces/other",
        json!({"metadata": {"name": "other"}}),
    );
    let run = cluster.run(&["check", "--proxy", "-n", "other", "-o", "json"]);
    assert_eq!((rows(&run).0, run.code), (Vec::new(), Some(0)));
}

#[test]
fn a_namespace_of_proxies_that_does_not_exist_is_told_of() {
    let flags = ["--proxy", "-n", "nope"];
    let what = "The \"nope\" namespace does not exist";
    only_bad(well(), &flags, "l5d-data-plane-ns", "error", what);
    let mut cluster = well();
    cluster.forbids("/api/v1/namespaces/shop");
    cluster.lists(
        "/api/v1/namespaces/shop/pods",
        vec![meshed_pod(true, VERSION)],
    );
    let flags = ["--proxy", "-n", "shop"];
    only_bad(
        cluster,
        &flags,
        "l5d-data-plane-ns",
        "warning",
        "no permission",
    );
}

#[test]
fn before_an_installation_there_are_no_proxies_to_check() {
    let run = free().run(&["check", "--pre", "--proxy"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("cannot be used with"), "{}", run.stderr);
}

#[test]
fn what_is_not_ready_yet_is_waited_for_and_told_once() {
    let mut cluster = well();
    let empty: Answer = (200, list(Vec::new()));
    cluster.at_first.insert(COMPONENTS.to_owned(), empty);
    let run = cluster.run(&["check", "--wait=30s", "-o", "json"]);
    assert_eq!((rows(&run).0, run.code), (Vec::new(), Some(0)));
    assert_eq!(
        run.stderr,
        "Waiting: No running pods for \"linkerd-api\"\nNo running pods for \"linkerd-destination\"\n"
    );
}

#[test]
fn a_workload_that_goes_is_not_waited_for() {
    let mut cluster = well();
    let with_another = list(vec![workload("web"), workload("migrate")]);
    let deployments = DEPLOYMENTS.to_owned();
    cluster.at_first.insert(deployments, (200, with_another));
    let run = cluster.run(&["check", "--wait=30s", "-o", "json"]);
    assert_eq!((rows(&run).0, run.code), (Vec::new(), Some(0)));
    assert_eq!(
        run.stderr,
        "Waiting: deployment/migrate.shop: no Secret \"migrate-deployment-tls-linkerd-io\"\n"
    );
}
