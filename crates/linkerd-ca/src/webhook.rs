//! Keeps what the API server needs to trust `linkerd-injector`: its serving certificate, in a Secret that its
//! pods mount, and the roots in its MutatingWebhookConfiguration. Entry: [`reconcile`].
//! First the API server trusts the new root, then the new certificate is written, and the old root is trusted
//! until every pod has loaded that: there is no moment at which the two do not fit.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use k8s_openapi::{
    ByteString,
    api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use linkerd_issuer::{
    IssueError, IssuedWebhook, LEAF_LIFETIME_DEFAULT, Root, TrustBundle, WebhookCertificate,
};
use linkerd_names::{
    FIELD_MANAGER,
    component::{
        INJECTOR, INJECTOR_CERTIFICATE_KEY, INJECTOR_PRIVATE_KEY_KEY, INJECTOR_SECRET,
        injector_host, injector_webhook_configuration,
    },
};
use serde_json::{Value, json};

use crate::{
    context::Context,
    plan::Reason,
    secret::{Holder, holder, our_labels, wipe},
    write::{CallError, Version, Written, create_or_apply, within},
};

/// So often is everything looked at again that others write at the same time.
const ATTEMPTS_MAX: usize = 3;
/// Kubelet may take two minutes to show pods a new certificate, and a pod another second to load it.
const OVERLAP: Duration = Duration::from_secs(10 * 60);
/// Roots of the past that are trusted beside the present one. More were never in use at the same time.
const OLD_ROOTS_MAX: usize = 3;

/// What stands now.
#[derive(Debug)]
pub struct Reconciled {
    /// When to look again; none when no injector is installed.
    pub look_again_at: Option<SystemTime>,
    /// Why a new certificate was written; none when the old one is good.
    pub issued: Option<Reason>,
    /// Whether the roots in the webhook's configuration were another's.
    pub trust_changed: bool,
}

/// Why the API server and the injector may not understand each other.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The Secret's name is taken.
    #[error(
        "secret {INJECTOR_SECRET} exists and is not ours: it is left alone, so that linkerd-injector cannot \
         serve and no pod is injected; delete it"
    )]
    Foreign,
    /// The root cannot issue.
    #[error("cannot issue the certificate of linkerd-injector")]
    Issue(#[from] IssueError),
    /// The API server refused or did not answer.
    #[error("cannot write the certificate of linkerd-injector, or the roots that it is trusted by")]
    Call(#[from] CallError),
    /// Somebody else writes all the time.
    #[error(
        "secret {INJECTOR_SECRET} or the webhook's configuration changes whenever it is written"
    )]
    Contended,
}

/// The Secret as it was read.
#[derive(Clone, Debug)]
struct Held {
    version: Version,
    certificate: Option<WebhookCertificate>,
    key_fits: bool,
}

/// What to do about the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Until then.
    Keep {
        renew_at: SystemTime,
    },
    Issue(Reason),
}

/// Makes Secret and configuration right at `now`. Without a configuration there is no injector, and nothing is
/// written.
///
/// # Errors
/// [`WebhookError`].
pub async fn reconcile(
    context: &Context,
    root: &Root,
    now: SystemTime,
) -> Result<Reconciled, WebhookError> {
    let control_plane_namespace = &context.control_plane_namespace;
    let host = injector_host(control_plane_namespace);
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), control_plane_namespace);
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(context.client.clone());
    let name = injector_webhook_configuration(control_plane_namespace);
    let mut trust_changed = false;
    for _ in 0..ATTEMPTS_MAX {
        let Some(configuration) = within(configurations.get_opt(&name)).await? else {
            return Ok(Reconciled {
                look_again_at: None,
                issued: None,
                trust_changed,
            });
        };
        let held = match within(secrets.get_opt(INJECTOR_SECRET)).await? {
            None => None,
            Some(secret) if holder(&secret.metadata, control_plane_namespace) == Holder::Us => {
                Some(read(secret))
            }
            Some(mut secret) => {
                wipe(&mut secret);
                return Err(WebhookError::Foreign);
            }
        };
        let plan = plan(&host, held.as_ref(), root, now);
        let certificate = held.as_ref().and_then(|held| held.certificate.as_ref());
        let overlap_ends_at = match (plan, certificate) {
            (Plan::Issue(_), _) | (Plan::Keep { .. }, None) => now + OVERLAP,
            (Plan::Keep { .. }, Some(certificate)) => certificate.issued_at() + OVERLAP,
        };
        let roots = |present: &str| trusted(present, root, now < overlap_ends_at);
        if let Some(patch) = trust_patch(&configuration, roots) {
            let params = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            let patch = Patch::Strategic(patch);
            match within(configurations.patch(&name, &params, &patch)).await {
                Ok(_) => trust_changed = true,
                Err(error) if matches!(error.status_code(), Some(404 | 409)) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        let (renew_at, issued) = match plan {
            Plan::Keep { renew_at } => (renew_at, None),
            Plan::Issue(reason) => {
                let issued = root.issue_webhook(
                    INJECTOR,
                    control_plane_namespace,
                    LEAF_LIFETIME_DEFAULT,
                    now,
                )?;
                let mut secret = build(&issued, control_plane_namespace);
                let version = held.as_ref().map(|held| &held.version);
                let written = create_or_apply(&secrets, &mut secret, version).await;
                wipe(&mut secret);
                match written? {
                    Written::Done(mut secret) => wipe(&mut secret),
                    Written::Conflict => continue,
                }
                (renew_at(&issued.certificate, root), Some(reason))
            }
        };
        let look_again_at = if now < overlap_ends_at {
            renew_at.min(overlap_ends_at)
        } else {
            renew_at
        };
        return Ok(Reconciled {
            look_again_at: Some(look_again_at),
            issued,
            trust_changed,
        });
    }
    Err(WebhookError::Contended)
}

/// Decides whether the certificate in the Secret is kept.
fn plan(host: &str, held: Option<&Held>, root: &Root, now: SystemTime) -> Plan {
    let Some(held) = held else {
        return Plan::Issue(Reason::Missing);
    };
    let Some(certificate) = &held.certificate else {
        return Plan::Issue(Reason::Unreadable);
    };
    let renew_at = renew_at(certificate, root);
    let reason = if !certificate.issued_by(root) {
        Reason::OtherRoot
    } else if certificate.host() != host {
        Reason::WrongName
    } else if !held.key_fits {
        Reason::KeyDoesNotFit
    } else if certificate.not_before() > now {
        Reason::NotYetValid
    } else if renew_at <= now {
        Reason::Expiring
    } else {
        return Plan::Keep { renew_at };
    };
    Plan::Issue(reason)
}

/// When a certificate is due. Nothing would live longer than the root: one that ends with it is kept until then.
fn renew_at(certificate: &WebhookCertificate, root: &Root) -> SystemTime {
    if certificate.not_after() < root.not_after() {
        certificate.renew_at()
    } else {
        certificate.not_after()
    }
}

/// The roots by which the API server is to trust the injector: the present one, and while its pods may serve
/// an older certificate those that are trusted already.
fn trusted(present: &str, root: &Root, with_old: bool) -> String {
    let old = TrustBundle::from_pem(present)
        .map(|bundle| bundle.certificates().to_vec())
        .unwrap_or_default();
    let old = old
        .into_iter()
        .filter(|old| old != root.certificate_der())
        .take(if with_old { OLD_ROOTS_MAX } else { 0 });
    TrustBundle::of_all(std::iter::once(root.certificate_der().clone()).chain(old)).to_pem()
}

/// What has to change in the configuration so that each webhook is trusted by `roots` of what it is trusted by
/// now; none when nothing has. The patch is for exactly this version.
fn trust_patch(
    configuration: &MutatingWebhookConfiguration,
    roots: impl Fn(&str) -> String,
) -> Option<Value> {
    let webhooks = configuration.webhooks.as_deref().unwrap_or_default();
    let mut changed = Vec::new();
    for webhook in webhooks {
        let present = webhook.client_config.ca_bundle.as_ref();
        let present = present.map(|bundle| String::from_utf8_lossy(&bundle.0));
        let wanted = roots(present.as_deref().unwrap_or_default());
        if present.as_deref() != Some(wanted.as_str()) {
            let bundle = ByteString(wanted.into_bytes());
            changed.push(json!({"name": webhook.name, "clientConfig": {"caBundle": bundle}}));
        }
    }
    let version = &configuration.metadata.resource_version;
    (!changed.is_empty())
        .then(|| json!({"metadata": {"resourceVersion": version}, "webhooks": changed}))
}

fn build(issued: &IssuedWebhook, control_plane_namespace: &str) -> Secret {
    let data = BTreeMap::from([
        (
            INJECTOR_CERTIFICATE_KEY.to_owned(),
            ByteString(issued.certificate.to_pem().into_bytes()),
        ),
        (
            INJECTOR_PRIVATE_KEY_KEY.to_owned(),
            ByteString(issued.key_pem().as_bytes().to_vec()),
        ),
    ]);
    Secret {
        metadata: ObjectMeta {
            name: Some(INJECTOR_SECRET.to_owned()),
            namespace: Some(control_plane_namespace.to_owned()),
            labels: Some(our_labels(control_plane_namespace)),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

/// Reads the Secret and wipes it.
fn read(mut secret: Secret) -> Held {
    let data = secret.data.as_ref();
    let bytes = |key| {
        data.and_then(|data| data.get(key))
            .map(|bytes| bytes.0.as_slice())
    };
    let certificate =
        bytes(INJECTOR_CERTIFICATE_KEY).and_then(|pem| WebhookCertificate::from_pem(pem).ok());
    let key_fits = certificate
        .as_ref()
        .zip(bytes(INJECTOR_PRIVATE_KEY_KEY))
        .is_some_and(|(certificate, key)| certificate.key_fits(key));
    let held = Held {
        version: Version::of(&secret.metadata),
        certificate,
        key_fits,
    };
    wipe(&mut secret);
    held
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }

    fn root() -> Root {
        Root::generate(now()).expect("a root")
    }

    fn held(root: &Root, namespace: &str) -> Held {
        let issued = root
            .issue_webhook(INJECTOR, namespace, LEAF_LIFETIME_DEFAULT, now())
            .expect("a certificate");
        read(build(&issued, "linkerd"))
    }

    #[test]
    fn a_certificate_is_kept_until_two_thirds_of_its_life_and_no_longer() {
        let root = root();
        let good = held(&root, "linkerd");
        let at = |now| plan("linkerd-injector.linkerd.svc", Some(&good), &root, now);
        for early in [now(), now() + DAY / 2] {
            assert!(matches!(at(early), Plan::Keep { renew_at } if renew_at > early));
        }
        assert_eq!(at(now() + DAY * 2 / 3), Plan::Issue(Reason::Expiring));
    }

    #[test]
    fn a_certificate_that_ends_with_its_root_is_not_looked_at_in_a_loop() {
        let root = root();
        let last_hour = root.not_after() - Duration::from_secs(60 * 60);
        let issued = root
            .issue_webhook(INJECTOR, "linkerd", LEAF_LIFETIME_DEFAULT, last_hour)
            .expect("a certificate");
        let held = read(build(&issued, "linkerd"));
        let last_second = root.not_after() - Duration::from_secs(1);
        assert_eq!(
            plan(
                "linkerd-injector.linkerd.svc",
                Some(&held),
                &root,
                last_second
            ),
            Plan::Keep {
                renew_at: root.not_after()
            }
        );
    }

    #[test]
    fn each_fault_is_a_reason_for_another_certificate() {
        let ours = root();
        let good = held(&ours, "linkerd");
        let planned = |held: Option<&Held>, root: &Root| {
            plan("linkerd-injector.linkerd.svc", held, root, now())
        };
        assert_eq!(planned(None, &ours), Plan::Issue(Reason::Missing));
        let unreadable = Held {
            certificate: None,
            ..good.clone()
        };
        assert_eq!(
            planned(Some(&unreadable), &ours),
            Plan::Issue(Reason::Unreadable)
        );
        assert_eq!(
            planned(Some(&good), &root()),
            Plan::Issue(Reason::OtherRoot)
        );
        let elsewhere = held(&ours, "other");
        assert_eq!(
            planned(Some(&elsewhere), &ours),
            Plan::Issue(Reason::WrongName)
        );
        let keyless = Held {
            key_fits: false,
            ..good
        };
        assert_eq!(
            planned(Some(&keyless), &ours),
            Plan::Issue(Reason::KeyDoesNotFit)
        );
    }

    #[test]
    fn an_old_root_is_trusted_beside_the_new_one_while_it_may_be_needed() {
        let (old, new) = (root(), root());
        let before = old.trust_bundle().to_pem();
        let both = trusted(&before, &new, true);
        assert_eq!(
            TrustBundle::from_pem(&both)
                .expect("a bundle")
                .certificates(),
            [new.certificate_der().clone(), old.certificate_der().clone()]
        );
        assert_eq!(trusted(&both, &new, true), both, "it is stable");
        assert_eq!(trusted(&both, &new, false), new.trust_bundle().to_pem());
        assert_eq!(trusted("garbage", &new, true), new.trust_bundle().to_pem());
    }

    #[test]
    fn only_what_differs_is_patched() {
        let root = root();
        let pem = root.trust_bundle().to_pem();
        let mut configuration: MutatingWebhookConfiguration = serde_json::from_value(json!({
            "metadata": {"name": "linkerd-linkerd-injector", "resourceVersion": "7"},
            "webhooks": [{
                "name": "injector.linkerd.io", "admissionReviewVersions": ["v1"],
                "sideEffects": "NoneOnDryRun", "clientConfig": {},
            }],
        }))
        .expect("a configuration");
        let patch = trust_patch(&configuration, |_| pem.clone()).expect("nothing was trusted");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["webhooks"][0]["name"], "injector.linkerd.io");
        let webhooks = configuration.webhooks.as_mut().expect("one");
        webhooks[0].client_config.ca_bundle = Some(ByteString(pem.clone().into_bytes()));
        assert_eq!(trust_patch(&configuration, |_| pem.clone()), None);
    }
}
