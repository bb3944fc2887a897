//! What is said to the API server, call by call, so that it trusts the injector.

mod script;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use linkerd_ca::{
    context::Context,
    plan::Reason,
    webhook::{self, Reconciled, WebhookError},
    workloads::Source,
};
use linkerd_issuer::{LEAF_LIFETIME_DEFAULT, Root, TrustBundle, WebhookCertificate};
use script::{Script, created, found, not_found};
use serde_json::{Value, json};

const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/\
                             linkerd-linkerd-injector";
const SECRETS: &str = "/api/v1/namespaces/linkerd/secrets";
const SECRET: &str = "/api/v1/namespaces/linkerd/secrets/linkerd-injector-tls";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

fn new_root() -> Root {
    Root::generate(now()).expect("a root")
}

/// Reconciles at `at` against an API server that says what the script says, and nothing else.
async fn reconcile(
    script: Script<'_>,
    root: &Root,
    at: SystemTime,
) -> Result<Reconciled, WebhookError> {
    let on_client = async |client| {
        let context = Context {
            client,
            control_plane_namespace: "linkerd".to_owned(),
            leaf_lifetime: Duration::from_secs(60 * 60),
            injected: Some(Source::Secret),
        };
        webhook::reconcile(&context, root, at).await
    };
    script.run(on_client).await
}

fn configuration(bundle: Option<&str>) -> Value {
    let bundle = bundle.map(|text| ByteString(text.as_bytes().to_vec()));
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "linkerd-linkerd-injector", "resourceVersion": "7"},
        "webhooks": [{
            "name": "injector.linkerd.io", "admissionReviewVersions": ["v1"],
            "sideEffects": "NoneOnDryRun",
            "clientConfig": {"caBundle": bundle, "service": {"name": "x", "namespace": "linkerd"}},
        }],
    })
}

/// The Secret as the API server has it: issued by `root` now.
fn secret(root: &Root) -> Value {
    let issued = root
        .issue_webhook("linkerd-injector", "linkerd", LEAF_LIFETIME_DEFAULT, now())
        .expect("a certificate");
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let data = BTreeMap::from([
        ("tls.crt", bytes(&issued.certificate.to_pem())),
        ("tls.key", bytes(&issued.key_pem())),
    ]);
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {
            "name": "linkerd-injector-tls", "namespace": "linkerd", "uid": "1",
            "resourceVersion": "41", "labels": {"linkerd.io/control-plane-ns": "linkerd"},
        },
        "data": data,
    })
}

/// The roots that a patch of the configuration writes.
fn roots_in(patch: &Value) -> Vec<Vec<u8>> {
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    let webhook = &patch["webhooks"][0];
    assert_eq!(webhook["name"], "injector.linkerd.io");
    let bundle: ByteString =
        serde_json::from_value(webhook["clientConfig"]["caBundle"].clone()).expect("base64");
    let text = String::from_utf8(bundle.0).expect("text");
    let bundle = TrustBundle::from_pem(&text).expect("a bundle");
    bundle
        .certificates()
        .iter()
        .map(|der| der.to_vec())
        .collect()
}

fn assert_is_good(body: &Value, root: &Root) {
    assert_eq!(body["metadata"]["name"], "linkerd-injector-tls");
    assert_eq!(body["type"], "kubernetes.io/tls");
    let secret: Secret = serde_json::from_value(body.clone()).expect("a Secret");
    let data = secret.data.expect("values");
    let certificate = WebhookCertificate::from_pem(&data["tls.crt"].0).expect("a certificate");
    assert_eq!(certificate.host(), "linkerd-injector.linkerd.svc");
    assert!(certificate.issued_by(root) && certificate.key_fits(&data["tls.key"].0));
    assert!(certificate.is_trusted_by(&root.trust_bundle(), now()));
}

#[tokio::test]
async fn without_an_injector_nothing_is_written() {
    let script = Script::new().expect("GET", CONFIGURATION, |_| not_found());
    let reconciled = reconcile(script, &new_root(), now()).await.expect("well");
    assert_eq!(reconciled.look_again_at, None);
    assert_eq!(reconciled.issued, None);
}

#[tokio::test]
async fn the_root_is_trusted_first_and_then_there_is_a_certificate() {
    let root = new_root();
    let script = Script::new()
        .expect("GET", CONFIGURATION, |_| found(&configuration(None)))
        .expect("GET", SECRET, |_| not_found())
        .expect("PATCH", CONFIGURATION, |call| {
            assert_eq!(call.content_type, "application/strategic-merge-patch+json");
            assert_eq!(roots_in(&call.body), [root.certificate_der().to_vec()]);
            found(&configuration(None))
        })
        .expect("POST", SECRETS, |call| {
            assert_is_good(&call.body, &root);
            created(&call.body)
        });
    let reconciled = reconcile(script, &root, now()).await.expect("well");
    assert_eq!(reconciled.issued, Some(Reason::Missing));
    assert!(reconciled.trust_changed);
    let again = reconciled.look_again_at.expect("it is due one day");
    assert!(again > now() && again < now() + LEAF_LIFETIME_DEFAULT);
}

#[tokio::test]
async fn an_old_root_is_trusted_until_its_certificate_is_out_of_use() {
    let (old, new) = (new_root(), new_root());
    let old_pem = old.trust_bundle().to_pem();
    let script = Script::new()
        .expect("GET", CONFIGURATION, |_| {
            found(&configuration(Some(&old_pem)))
        })
        .expect("GET", SECRET, |_| found(&secret(&old)))
        .expect("PATCH", CONFIGURATION, |call| {
            let both = [
                new.certificate_der().to_vec(),
                old.certificate_der().to_vec(),
            ];
            assert_eq!(roots_in(&call.body), both);
            found(&configuration(None))
        })
        .expect("PATCH", SECRET, |call| {
            assert_is_good(&call.body, &new);
            found(&call.body)
        });
    let reconciled = reconcile(script, &new, now()).await.expect("well");
    assert_eq!(reconciled.issued, Some(Reason::OtherRoot));

    let both = new.trust_bundle().to_pem() + &old_pem;
    let after = now() + Duration::from_secs(60);
    let script = Script::new()
        .expect("GET", CONFIGURATION, |_| found(&configuration(Some(&both))))
        .expect("GET", SECRET, |_| found(&secret(&new)));
    let reconciled = reconcile(script, &new, after).await.expect("well");
    let end = now() + Duration::from_secs(600);
    assert_eq!(
        reconciled.look_again_at,
        Some(end),
        "when the old root goes"
    );

    let script = Script::new()
        .expect("GET", CONFIGURATION, |_| found(&configuration(Some(&both))))
        .expect("GET", SECRET, |_| found(&secret(&new)))
        .expect("PATCH", CONFIGURATION, |call| {
            assert_eq!(roots_in(&call.body), [new.certificate_der().to_vec()]);
            found(&configuration(None))
        });
    let reconciled = reconcile(script, &new, end).await.expect("well");
    assert_eq!(reconciled.issued, None);
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone() {
    let root = new_root();
    let mut foreign = secret(&root);
    foreign["metadata"]["labels"] = json!({});
    let script = Script::new()
        .expect("GET", CONFIGURATION, |_| found(&configuration(None)))
        .expect("GET", SECRET, |_| found(&foreign));
    let error = reconcile(script, &root, now()).await.expect_err("not ours");
    assert!(matches!(error, WebhookError::Foreign), "{error}");
}
