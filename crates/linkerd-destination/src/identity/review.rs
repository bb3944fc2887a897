//! Asks the API server whose token it is. Entry: [`review`].
//! The audience is always ours alone: a token for anybody else proves nothing here.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};
use linkerd_names::component::IDENTITY_TOKEN_AUDIENCE;

use super::refusal::Refusal;
use crate::pod::PodKey;

/// The API server answers in milliseconds; a proxy asks again anyway.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
/// Where the API server tells the pod that a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Whom a token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Name of the ServiceAccount; its namespace is the pod's.
    pub service_account: String,
    /// The pod that the token is bound to.
    pub pod: PodKey,
    /// Tells the pod from an earlier one of the same name.
    pub pod_uid: String,
}

/// Returns whom `token` proves.
///
/// # Errors
/// [`Refusal`] when the API server cannot be asked, or says anything but a clear yes.
pub async fn review(client: &Client, token: &str) -> Result<Subject, Refusal> {
    let question = TokenReview {
        spec: TokenReviewSpec {
            audiences: Some(vec![IDENTITY_TOKEN_AUDIENCE.to_owned()]),
            token: Some(token.to_owned()),
        },
        ..TokenReview::default()
    };
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let params = PostParams::default();
    let call = reviews.create(&params, &question);
    let answer = tokio::time::timeout(REVIEW_TIMEOUT, call)
        .await
        .map_err(|_| Refusal::ReviewTimeout)?
        .map_err(Refusal::Review)?;
    subject(answer.status.unwrap_or_default())
}

fn subject(status: TokenReviewStatus) -> Result<Subject, Refusal> {
    let TokenReviewStatus {
        audiences,
        authenticated,
        error,
        user,
    } = status;
    if let Some(error) = error.filter(|error| !error.is_empty()) {
        return Err(Refusal::TokenRejected(error));
    }
    if authenticated != Some(true) {
        return Err(Refusal::NotAuthenticated);
    }
    // An API server that knows nothing of audiences names none.
    let mut audiences = audiences.unwrap_or_default().into_iter();
    if !audiences.any(|audience| audience == IDENTITY_TOKEN_AUDIENCE) {
        return Err(Refusal::WrongAudience);
    }
    let user = user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let parts: Vec<&str> = name.split(':').collect();
    let ["system", "serviceaccount", namespace, service_account] = parts[..] else {
        return Err(Refusal::NotAServiceAccount(name));
    };
    let extra = user.extra.unwrap_or_default();
    let (pod_name, pod_uid) = one(&extra, POD_NAME)
        .zip(one(&extra, POD_UID))
        .ok_or(Refusal::NotBound)?;
    Ok(Subject {
        service_account: service_account.to_owned(),
        pod: PodKey {
            namespace: namespace.to_owned(),
            name: pod_name,
        },
        pod_uid,
    })
}

/// The one value of `key` that is not empty.
fn one(extra: &BTreeMap<String, Vec<String>>, key: &str) -> Option<String> {
    match extra.get(key)?.as_slice() {
        [value] if !value.is_empty() => Some(value.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    /// What is read of a good answer after `change`: the subject, or the refusal's word.
    fn after(change: impl FnOnce(&mut TokenReviewStatus, &mut UserInfo)) -> String {
        let mut user = UserInfo {
            username: Some("system:serviceaccount:ns:web".to_owned()),
            extra: Some(BTreeMap::from([
                (POD_NAME.to_owned(), vec!["web-a".to_owned()]),
                (POD_UID.to_owned(), vec!["1".to_owned()]),
            ])),
            ..UserInfo::default()
        };
        let mut status = TokenReviewStatus {
            audiences: Some(vec!["identity.l5d.io".to_owned()]),
            authenticated: Some(true),
            ..TokenReviewStatus::default()
        };
        change(&mut status, &mut user);
        status.user = Some(user);
        match subject(status) {
            Ok(Subject {
                service_account,
                pod,
                pod_uid,
            }) => format!("{service_account} {}/{} {pod_uid}", pod.namespace, pod.name),
            Err(refusal) => refusal.label().to_owned(),
        }
    }

    #[test]
    fn a_bound_token_of_our_audience_proves_a_pod() {
        assert_eq!(after(|_, _| ()), "web ns/web-a 1");
    }

    #[test]
    fn anything_but_a_clear_yes_is_a_refusal() {
        let name = |name: &str| {
            let name = name.to_owned();
            after(move |_, user| user.username = Some(name))
        };
        let extra = |key: &'static str, values: &[&str]| {
            let values = values.iter().map(ToString::to_string).collect();
            after(move |_, user| drop(user.extra.as_mut().map(|e| e.insert(key.into(), values))))
        };
        for (expected, got) in [
            ("token_rejected", after(|s, _| s.error = Some("x".into()))),
            ("not_authenticated", after(|s, _| s.authenticated = None)),
            (
                "not_authenticated",
                after(|s, _| s.authenticated = Some(false)),
            ),
            ("wrong_audience", after(|s, _| s.audiences = None)),
            (
                "wrong_audience",
                after(|s, _| s.audiences = Some(vec!["https://kubernetes.default".into()])),
            ),
            ("not_a_service_account", name("admin")),
            ("not_a_service_account", name("system:node:a")),
            ("not_a_service_account", name("system:serviceaccount:ns")),
            (
                "not_a_service_account",
                name("system:serviceaccount:ns:a:b"),
            ),
            ("token_not_bound", after(|_, user| user.extra = None)),
            ("token_not_bound", extra(POD_NAME, &[])),
            ("token_not_bound", extra(POD_NAME, &[""])),
            ("token_not_bound", extra(POD_UID, &["1", "2"])),
        ] {
            assert_eq!(got, expected);
        }
    }
}
