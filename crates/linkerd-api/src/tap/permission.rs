//! Who asks, and whether Kubernetes lets them. Entries: [`user`], then [`check`].
//! Fails closed: whatever is not a clear yes of the API server is a refusal.
//!
//! The user's credentials never come here. The user makes a CertificateSigningRequest, into which the
//! API server writes who has made it, whatever kind of credentials that was; its name is made of the
//! hash of a secret, and the secret is what we are shown. Nothing is ever signed: the request is denied
//! when it has served, so that it serves once and Kubernetes removes it soon.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use linkerd_names::{ResourceType, tap};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use crate::stat_request::Target;

/// The API server answers in milliseconds; the CLI waits for ten seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// A proof is made for one call; this allows for clocks that differ.
const PROOF_AGE_MAX: Duration = Duration::from_secs(10 * 60);

/// Somebody whom the API server knows.
#[derive(Debug)]
pub(crate) struct User(pub(super) CertificateSigningRequestSpec);

impl User {
    /// As the API server writes it.
    pub(crate) fn name(&self) -> &str {
        self.0.username.as_deref().unwrap_or_default()
    }
}

/// Why nothing may be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "the request does not prove who asks: use the linkerd command of this control plane's version"
    )]
    NoProof,
    #[error("the proof of who asks is not known to the API server")]
    Unknown,
    #[error("the proof of who asks has served before, is too old, or is for something else")]
    Stale,
    #[error(
        "user {user:?} cannot watch resource {resource:?} in API group {:?} {place}: ask for that right{reason}",
        tap::GROUP
    )]
    Forbidden {
        user: String,
        resource: String,
        place: String,
        reason: String,
    },
    #[error("cannot ask Kubernetes whether you may tap: {0}")]
    Kubernetes(String),
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::NoProof | Refusal::Unknown | Refusal::Stale => Self::unauthenticated(text),
            Refusal::Forbidden { .. } => Self::permission_denied(text),
            Refusal::Kubernetes(_) => Self::unavailable(text),
        }
    }
}

/// Returns who has made the proof, and uses it up.
///
/// # Errors
/// [`Refusal`].
pub(crate) async fn user(kubernetes: &Client, secret: &[u8]) -> Result<User, Refusal> {
    if secret.len() != tap::SECRET_BYTES {
        return Err(Refusal::NoProof);
    }
    let name = tap::proof_name(&Sha256::digest(secret));
    let proofs: Api<CertificateSigningRequest> = Api::all(kubernetes.clone());
    let proof = within(proofs.get_opt(&name)).await?;
    let proof = proof.ok_or(Refusal::Unknown)?;
    if !is_fresh(&proof, SystemTime::now()) {
        return Err(Refusal::Stale);
    }
    let condition = json!({
        "type": "Denied",
        "status": "True",
        "reason": "ProofUsed",
        "message": "it has proved to linkerd-api who asks; nothing is ever signed for it",
    });
    // With the version that was read: of two who come at once the second is refused.
    let used = json!({
        "metadata": {"resourceVersion": proof.metadata.resource_version},
        "status": {"conditions": [condition]},
    });
    let params = PatchParams::default();
    match within(proofs.patch_approval(&name, &params, &Patch::Merge(&used))).await {
        Ok(_) => Ok(User(proof.spec)),
        Err(Call::Api(409)) => Err(Refusal::Stale),
        Err(error) => Err(error.into()),
    }
}

/// Asks whether `user` has the right to watch `target`.
///
/// # Errors
/// [`Refusal::Forbidden`] unless the API server says yes.
pub(crate) async fn check(
    kubernetes: &Client,
    user: &User,
    target: &Target,
) -> Result<(), Refusal> {
    let User(spec) = user;
    let attributes = attributes(target);
    let question = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            groups: spec.groups.clone(),
            uid: spec.uid.clone(),
            extra: spec.extra.clone(),
            resource_attributes: Some(attributes.clone()),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(kubernetes.clone());
    let params = PostParams::default();
    let answer = within(reviews.create(&params, &question)).await?;
    let status = answer.status.unwrap_or_default();
    if status.allowed && status.denied != Some(true) {
        return Ok(());
    }
    let place = match attributes.namespace.as_deref() {
        Some(namespace) if !namespace.is_empty() => format!("in the namespace {namespace:?}"),
        _ => "in the whole cluster".to_owned(),
    };
    Err(Refusal::Forbidden {
        user: user.name().to_owned(),
        resource: format!(
            "{}/{}",
            attributes.resource.unwrap_or_default(),
            tap::SUBRESOURCE
        ),
        place,
        reason: status
            .reason
            .filter(|reason| !reason.is_empty())
            .map(|reason| format!(" ({reason})"))
            .unwrap_or_default(),
    })
}

/// `watch deployments/tap`, named where one is named.
fn attributes(target: &Target) -> ResourceAttributes {
    let Target {
        kind,
        namespace,
        name,
    } = target;
    // So that a right that was given within a namespace holds for the namespace as a whole.
    let namespace = if *kind == ResourceType::Namespace {
        name
    } else {
        namespace
    };
    ResourceAttributes {
        group: Some(tap::GROUP.to_owned()),
        version: Some("v1alpha1".to_owned()),
        verb: Some("watch".to_owned()),
        resource: Some(format!("{kind}s")),
        subresource: Some(tap::SUBRESOURCE.to_owned()),
        namespace: Some(namespace.clone()),
        name: Some(name.clone()),
        ..ResourceAttributes::default()
    }
}

/// Whether the proof is for this use, was made just now, and has not served.
fn is_fresh(proof: &CertificateSigningRequest, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let created = proof.metadata.creation_timestamp.as_ref();
    let made = created.and_then(|time| u64::try_from(time.0.as_second()).ok());
    let conditions = proof
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    proof.spec.signer_name == tap::SIGNER
        && proof
            .spec
            .username
            .as_ref()
            .is_some_and(|user| !user.is_empty())
        && made.is_some_and(|made| made.abs_diff(now.as_secs()) <= PROOF_AGE_MAX.as_secs())
        && conditions.count() == 0
}

/// A call to Kubernetes without result.
enum Call {
    /// The status that the API server answered with.
    Api(u16),
    Other(String),
}

impl From<Call> for Refusal {
    fn from(call: Call) -> Self {
        Self::Kubernetes(match call {
            Call::Api(code) => format!("the API server answers {code}"),
            Call::Other(text) => text,
        })
    }
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Call> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(Call::Api(status.code)),
        Ok(Err(error)) => Err(Call::Other(error.to_string())),
        Err(_) => Err(Call::Other(format!("no answer within {CALL_TIMEOUT:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(change: impl FnOnce(&mut serde_json::Value)) -> CertificateSigningRequest {
        let mut value = json!({
            "metadata": {"name": "p", "creationTimestamp": "2027-01-15T08:00:00Z"},
            "spec": {"request": "", "signerName": "linkerd.io/tap", "username": "jane"},
        });
        change(&mut value);
        serde_json::from_value(value).expect("a request")
    }

    /// 2027-01-15T08:00:00Z, and so many seconds.
    fn after(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    #[test]
    fn a_proof_is_fresh_once_for_one_use_and_for_minutes() {
        let good = proof(|_| {});
        assert!(is_fresh(&good, after(0)) && is_fresh(&good, after(600)));
        assert!(!is_fresh(&good, after(601)), "too old");
        let of_others = proof(|it| it["spec"]["signerName"] = json!("example.com/x"));
        assert!(!is_fresh(&of_others, after(0)));
        let of_nobody = proof(|it| it["spec"]["username"] = json!(""));
        assert!(!is_fresh(&of_nobody, after(0)));
        let used = proof(|it| {
            it["status"] = json!({"conditions": [{"type": "Denied", "status": "True"}]});
        });
        assert!(!is_fresh(&used, after(0)));
    }

    #[test]
    fn the_right_is_that_on_the_target() {
        let right = |kind: &str, namespace: &str, name: &str| {
            let target = Target {
                kind: kind.parse().expect("a type"),
                namespace: namespace.into(),
                name: name.into(),
            };
            let it = attributes(&target);
            let text = |part: Option<String>| part.expect("set");
            [text(it.resource), text(it.namespace), text(it.name)]
        };
        assert_eq!(
            right("deployment", "ns", "web"),
            ["deployments", "ns", "web"]
        );
        assert_eq!(right("pod", "", ""), ["pods", "", ""]);
        assert_eq!(right("namespace", "", "ns"), ["namespaces", "ns", "ns"]);
    }
}
