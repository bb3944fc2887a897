//! What is said to the API server, call by call, when Secrets, the root and the lease are made right.

mod script;

use std::time::{Duration, SystemTime};

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry,
};
use linkerd_ca::{
    bundle::{self, BundleError},
    context::Context,
    issue::{self, ReconcileError},
    marks::Claim,
    plan::Reason,
    root::{self, Origin, RootError},
    secret,
    workloads::{Source, Wanted, Workload},
};
use linkerd_issuer::Root;
use linkerd_names::{
    Owner, OwnerKind,
    component::{PRIVATE_KEY_KEY, TRUST_BUNDLE_KEY},
};
use script::{Script, conflict, created, found, not_found, refused};
use serde_json::{Value, json};

const SECRETS: &str = "/api/v1/namespaces/ns/secrets";
const SECRET: &str = "/api/v1/namespaces/ns/secrets/web-deployment-tls-linkerd-io";
const ROOTS: &str = "/api/v1/namespaces/linkerd/secrets";
const ROOT: &str = "/api/v1/namespaces/linkerd/secrets/linkerd-ca-root";
const BUNDLES: &str = "/api/v1/namespaces/ns/configmaps";
const BUNDLE: &str = "/api/v1/namespaces/ns/configmaps/linkerd-ca-bundle";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

fn new_root() -> Root {
    Root::generate(now()).expect("a root")
}

fn workload() -> Workload {
    let owner = Owner {
        namespace: "ns".into(),
        kind: OwnerKind::Deployment,
        name: "web".into(),
    };
    Workload {
        owner,
        uid: "7".into(),
        source: Source::Secret,
        wanted: Wanted::Marked,
    }
}

/// Runs `work` against an API server that says what the script says, and nothing else.
async fn against<T>(script: Script<'_>, work: impl AsyncFnOnce(&Context) -> T) -> T {
    let on_client = async |client| {
        let context = Context {
            client,
            control_plane_namespace: "linkerd".to_owned(),
            leaf_lifetime: Duration::from_secs(60 * 60),
            injected: None,
        };
        work(&context).await
    };
    script.run(on_client).await
}

/// A Secret as the API server returns it.
fn stored(root: &Root, change: impl FnOnce(&mut Secret)) -> Secret {
    let identity = workload().owner.identity("linkerd").expect("a name");
    let issued = root
        .issue_leaf(&identity, Duration::from_secs(60 * 60), now())
        .expect("a leaf");
    let mut secret = secret::build(&workload(), &issued, "linkerd");
    secret.metadata.uid = Some("secret-uid".to_owned());
    secret.metadata.resource_version = Some("41".to_owned());
    change(&mut secret);
    secret
}

fn assert_is_a_good_secret(body: &Value, root: &Root) {
    assert_eq!(body["metadata"]["name"], "web-deployment-tls-linkerd-io");
    assert_eq!(
        body["metadata"]["labels"],
        json!({"linkerd.io/control-plane-ns": "linkerd"})
    );
    assert_eq!(
        body["metadata"]["ownerReferences"],
        json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "7"}])
    );
    assert_eq!(body["type"], "Opaque");
    let secret: Secret = serde_json::from_value(body.clone()).expect("a secret");
    assert_eq!(secret.data.as_ref().map(|data| data.len()), Some(2));
    let held = secret::read(secret, "linkerd");
    assert!(held.key_fits && held.leaf.is_some_and(|leaf| leaf.issued_by(root)));
}

#[tokio::test]
async fn a_new_workload_gets_its_secret_with_one_call() {
    let root = new_root();
    let script = Script::new().expect("POST", SECRETS, |request| {
        assert_eq!(request.query, "fieldManager=linkerd-ca");
        assert_is_a_good_secret(&request.body, &root);
        created(&request.body)
    });
    let done = against(script, async |context| {
        issue::reconcile(context, &root, &workload(), Claim::Sole, None, now()).await
    });
    assert_eq!(done.await.expect("issued").issued, Some(Reason::Missing));
}

#[tokio::test]
async fn a_good_secret_costs_no_call() {
    let root = new_root();
    let held = secret::read(stored(&root, |_| ()), "linkerd");
    let done = against(Script::new(), async |context| {
        issue::reconcile(context, &root, &workload(), Claim::Sole, Some(held), now()).await
    });
    assert_eq!(done.await.expect("kept").issued, None);
}

#[tokio::test]
async fn a_tampered_secret_is_replaced_in_exactly_the_version_that_was_seen() {
    let root = new_root();
    let tampered = stored(&root, |secret| {
        let data = secret.data.as_mut().expect("data");
        data.insert(PRIVATE_KEY_KEY.to_owned(), ByteString(b"garbage".to_vec()));
    });
    let held = secret::read(tampered, "linkerd");
    let script = Script::new().expect("PATCH", SECRET, |request| {
        assert_eq!(request.query, "force=true&fieldManager=linkerd-ca");
        assert_eq!(request.content_type, "application/apply-patch+yaml");
        assert_eq!(request.body["metadata"]["resourceVersion"], "41");
        assert_eq!(request.body["metadata"]["uid"], "secret-uid");
        assert_is_a_good_secret(&request.body, &root);
        found(&request.body)
    });
    let done = against(script, async |context| {
        issue::reconcile(context, &root, &workload(), Claim::Sole, Some(held), now()).await
    });
    assert_eq!(
        done.await.expect("issued").issued,
        Some(Reason::KeyDoesNotFit)
    );
}

#[tokio::test]
async fn a_foreign_secret_of_the_same_name_is_never_written() {
    let root = new_root();
    let foreign = stored(&root, |secret| secret.metadata.labels = None);
    let script = Script::new()
        .expect("POST", SECRETS, |_| conflict("AlreadyExists"))
        .expect("GET", SECRET, |_| found(&foreign));
    let done = against(script, async |context| {
        issue::reconcile(context, &root, &workload(), Claim::Sole, None, now()).await
    });
    let error = done.await.expect_err("refused");
    assert!(matches!(error, ReconcileError::Foreign(_)), "{error}");
}

#[tokio::test]
async fn another_control_planes_secret_is_taken_over_by_who_alone_has_a_claim_to_it() {
    let (root, other_root) = (new_root(), new_root());
    let others = stored(&other_root, |secret| {
        let labels = secret.metadata.labels.as_mut().expect("labels");
        labels.insert("linkerd.io/control-plane-ns".into(), "linkerd-b".into());
        secret.metadata.managed_fields = Some(vec![ManagedFieldsEntry {
            manager: Some("linkerd-ca".to_owned()),
            ..ManagedFieldsEntry::default()
        }]);
    });
    let before = || {
        Script::new()
            .expect("POST", SECRETS, |_| conflict("AlreadyExists"))
            .expect("GET", SECRET, |_| found(&others))
    };
    let script = before().expect("PATCH", SECRET, |request| {
        assert_eq!(request.body["metadata"]["resourceVersion"], "41");
        assert_is_a_good_secret(&request.body, &root);
        found(&request.body)
    });
    let done = against(script, async |context| {
        issue::reconcile(context, &root, &workload(), Claim::Sole, None, now()).await
    });
    assert_eq!(
        done.await.expect("taken over").issued,
        Some(Reason::OtherRoot)
    );

    let done = against(before(), async |context| {
        issue::reconcile(context, &root, &workload(), Claim::FirstCome, None, now()).await
    });
    let error = done.await.expect_err("left alone");
    assert!(
        matches!(&error, ReconcileError::OtherControlPlane { holder, .. } if holder == "linkerd-b"),
        "{error}"
    );
}

#[tokio::test]
async fn a_good_secret_that_the_watch_has_not_told_yet_is_kept() {
    let root = new_root();
    let ours = stored(&root, |_| ());
    let script = Script::new()
        .expect("POST", SECRETS, |_| conflict("AlreadyExists"))
        .expect("GET", SECRET, |_| found(&ours));
    let done = against(script, async |context| {
        issue::reconcile(context, &root, &workload(), Claim::Sole, None, now()).await
    });
    assert_eq!(done.await.expect("kept").issued, None);
}

#[tokio::test]
async fn a_secret_that_changed_in_between_is_looked_at_again() {
    let (root, old_root) = (new_root(), new_root());
    let old = secret::read(stored(&old_root, |_| ()), "linkerd");
    let newer = stored(&root, |secret| {
        secret.metadata.resource_version = Some("42".to_owned())
    });
    let script = Script::new()
        .expect("PATCH", SECRET, |_| conflict("Conflict"))
        .expect("GET", SECRET, |_| found(&newer));
    let done = against(script, async |context| {
        issue::reconcile(context, &root, &workload(), Claim::Sole, Some(old), now()).await
    });
    let done = done.await.expect("kept");
    assert_eq!(done.issued, None, "another replica was faster");
    assert_eq!(done.held.version.resource_version, "42");
}

#[tokio::test]
async fn a_secret_that_was_deleted_in_between_is_created() {
    let (root, old_root) = (new_root(), new_root());
    let old = secret::read(stored(&old_root, |_| ()), "linkerd");
    let script = Script::new()
        .expect("PATCH", SECRET, |_| not_found())
        .expect("GET", SECRET, |_| not_found())
        .expect("POST", SECRETS, |request| created(&request.body));
    let done = against(script, async |context| {
        issue::reconcile(context, &root, &workload(), Claim::Sole, Some(old), now()).await
    });
    assert_eq!(done.await.expect("issued").issued, Some(Reason::Missing));
}

#[tokio::test]
async fn a_name_that_is_too_long_is_refused_without_a_call() {
    let mut workload = workload();
    workload.owner.name = "x".repeat(64);
    let root = new_root();
    let done = against(Script::new(), async |context| {
        issue::reconcile(context, &root, &workload, Claim::Sole, None, now()).await
    });
    let error = done.await.expect_err("refused");
    assert!(matches!(error, ReconcileError::Identity(_)), "{error}");
}

#[tokio::test]
async fn a_refusal_of_the_api_server_is_an_error_that_names_the_secret() {
    let root = new_root();
    let script = Script::new().expect("POST", SECRETS, |_| refused());
    let done = against(script, async |context| {
        issue::reconcile(context, &root, &workload(), Claim::Sole, None, now()).await
    });
    let error = done.await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "cannot write secret web-deployment-tls-linkerd-io"
    );
}

#[tokio::test]
async fn the_root_is_made_once_and_stored_before_it_is_used() {
    let script =
        Script::new()
            .expect("GET", ROOT, |_| not_found())
            .expect("POST", ROOTS, |request| created(&request.body));
    let done = against(script, async |context| {
        root::load_or_create(context, None, now()).await
    });
    let (_, origin) = done.await.expect("a root");
    assert_eq!(origin, Origin::Created);
}

/// A root's Secret as some replica stored it.
async fn stored_root() -> Value {
    let mut body = Value::Null;
    let script =
        Script::new()
            .expect("GET", ROOT, |_| not_found())
            .expect("POST", ROOTS, |request| {
                body = request.body.clone();
                created(&request.body)
            });
    against(script, async |context| {
        root::load_or_create(context, None, now()).await
    })
    .await
    .expect("a root");
    body
}

#[tokio::test]
async fn of_two_replicas_that_make_a_root_both_use_the_one_that_was_stored() {
    let first = stored_root().await;
    let script = Script::new()
        .expect("GET", ROOT, |_| not_found())
        .expect("POST", ROOTS, |request| {
            assert_ne!(request.body["data"], first["data"]);
            conflict("AlreadyExists")
        })
        .expect("GET", ROOT, |_| found(&first));
    let done = against(script, async |context| {
        root::load_or_create(context, None, now()).await
    });
    let (root, origin) = done.await.expect("a root");
    assert_eq!(origin, Origin::Loaded);
    let secret: Secret = serde_json::from_value(first).expect("a secret");
    let stored = &secret.data.expect("data")["ca.crt"].0;
    assert_eq!(root.certificate_pem().as_bytes(), stored);
}

#[tokio::test]
async fn a_broken_root_is_an_error_and_is_left_as_it_is() {
    let first = stored_root().await;
    let other = stored_root().await;
    let with = |key: &str, value: Value| {
        let mut secret = first.clone();
        secret["data"][key] = value;
        secret
    };
    let without_key = json!({"metadata": {"name": "linkerd-ca-root"}});
    let garbage = with("ca.crt", json!("Z2FyYmFnZQ=="));
    let swapped = with("ca.key", other["data"]["ca.key"].clone());
    for (secret, is_missing) in [(without_key, true), (garbage, false), (swapped, false)] {
        let script = Script::new().expect("GET", ROOT, |_| found(&secret));
        let done = against(script, async |context| {
            root::load_or_create(context, None, now()).await
        });
        let error = done.await.map(|(_, origin)| origin).expect_err("refused");
        assert!(error.needs_operator());
        assert_eq!(
            matches!(error, RootError::MissingKey(_)),
            is_missing,
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_deleted_root_is_written_back_by_the_replica_that_has_it() {
    let root = new_root();
    let script =
        Script::new()
            .expect("GET", ROOT, |_| not_found())
            .expect("POST", ROOTS, |request| created(&request.body));
    let done = against(script, async |context| {
        root::load_or_create(context, Some(&root), now()).await
    });
    let (again, _) = done.await.expect("a root");
    assert_eq!(again.certificate_der(), root.certificate_der());
}

#[tokio::test]
async fn a_namespace_gets_its_trust_bundle_with_one_call() {
    let root = new_root();
    let script = Script::new().expect("POST", BUNDLES, |request| {
        assert_eq!(request.body["metadata"]["name"], "linkerd-ca-bundle");
        assert_eq!(
            request.body["data"][TRUST_BUNDLE_KEY],
            root.certificate_pem()
        );
        created(&request.body)
    });
    let done = against(script, async |context| {
        bundle::reconcile(context, &root, "ns", None).await
    });
    let written = done.await.expect("written");
    assert!(written.written);

    let done = against(Script::new(), async |context| {
        bundle::reconcile(context, &root, "ns", Some(written.held)).await
    });
    assert!(!done.await.expect("kept").written);
}

#[tokio::test]
async fn a_bundle_without_a_label_is_made_ours_and_another_control_planes_is_left_alone() {
    let root = new_root();
    let bundle = |labels: Value| {
        let metadata = json!({
            "name": "linkerd-ca-bundle", "uid": "1", "resourceVersion": "5", "labels": labels,
        });
        json!({"metadata": metadata, "data": {TRUST_BUNDLE_KEY: "other"}})
    };
    let script = Script::new()
        .expect("POST", BUNDLES, |_| conflict("AlreadyExists"))
        .expect("GET", BUNDLE, |_| found(&bundle(json!({}))))
        .expect("PATCH", BUNDLE, |request| {
            assert_eq!(request.body["metadata"]["resourceVersion"], "5");
            found(&request.body)
        });
    let done = against(script, async |context| {
        bundle::reconcile(context, &root, "ns", None).await
    });
    assert!(done.await.expect("written").written);

    let script = Script::new()
        .expect("POST", BUNDLES, |_| conflict("AlreadyExists"))
        .expect("GET", BUNDLE, |_| {
            found(&bundle(json!({"linkerd.io/control-plane-ns": "another"})))
        });
    let done = against(script, async |context| {
        bundle::reconcile(context, &root, "ns", None).await
    });
    let error = done.await.expect_err("refused");
    assert!(
        matches!(error, BundleError::OtherControlPlane(_)),
        "{error}"
    );
}
