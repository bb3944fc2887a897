//! A user's right to a tap: whether there is one, and when it is gone. Entries: [`Right::check`],
//! [`Right::lost`].

use std::time::Duration;

use kube::Client;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tracing::{debug, info};

use super::permission::{self, Refusal, User};
use crate::selected::Selected;

/// So often the API server is asked again: one call each of the targets.
const ASK_INTERVAL: Duration = Duration::from_secs(2 * 60);
/// So long a yes holds. An API server that is away for less, as when it is upgraded, ends no tap.
const YES_AGE_MAX: Duration = Duration::from_secs(5 * 60);
/// An API server without answer is left alone for this long.
const PAUSE: Duration = Duration::from_secs(10);

/// What a tap needs the right to.
pub(super) struct Right {
    pub(super) kubernetes: Client,
    pub(super) user: User,
    pub(super) targets: Vec<Selected>,
}

impl Right {
    /// Asks whether the user has the right to watch each of the targets.
    ///
    /// # Errors
    /// [`Refusal`] unless the API server says yes to all.
    pub(super) async fn check(&self) -> Result<(), Refusal> {
        for Selected { target, .. } in &self.targets {
            permission::check(&self.kubernetes, &self.user, target).await?;
        }
        Ok(())
    }

    /// Waits until the API server says no, or nothing for as long as its yes holds. To be called after a yes.
    pub(super) async fn lost(&self) -> Status {
        loop {
            sleep(ASK_INTERVAL).await;
            let answer = timeout(YES_AGE_MAX.saturating_sub(ASK_INTERVAL), self.answer());
            let status = match answer.await {
                Ok(Ok(())) => continue,
                Ok(Err(refusal)) => {
                    Status::permission_denied(format!("the right to it is gone: {refusal}"))
                }
                Err(_) => Status::unavailable(format!(
                    "Kubernetes has not said for {} minutes whether you still may tap",
                    YES_AGE_MAX.as_secs() / 60
                )),
            };
            let user = self.user.name();
            info!(user, reason = status.message(), "a tap was ended");
            return status;
        }
    }

    /// As [`Self::check`], until there is an answer.
    async fn answer(&self) -> Result<(), Refusal> {
        loop {
            match self.check().await {
                Err(Refusal::Kubernetes(error)) => debug!(error, "asked for a right in vain"),
                answer => return answer,
            }
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
    use linkerd_proto::public::{Resource, ResourceSelection};
    use serde_json::json;
    use tokio::time::Instant;
    use tonic::Code;

    use super::*;
    use crate::selected;

    #[derive(Clone, Copy)]
    enum Says {
        Yes,
        No,
        Nothing,
    }

    /// How a tap of deployment web ends, and in which second, with an API server that says what the test wants
    /// in that second.
    async fn end(says: impl Fn(u64) -> Says + Clone + Send + Sync + 'static) -> (Status, u64) {
        let began = Instant::now();
        let answer = move |_: http::Request<kube::client::Body>| {
            let answer = match says(began.elapsed().as_secs()) {
                Says::Yes => Ok(true),
                Says::No => Ok(false),
                Says::Nothing => Err("it is away"),
            };
            let review = answer.map(|allowed| {
                let review = json!({
                    "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                    "metadata": {}, "spec": {}, "status": {"allowed": allowed},
                });
                http::Response::new(kube::client::Body::from(review.to_string().into_bytes()))
            });
            async { Ok::<_, tower::BoxError>(review?) }
        };
        let web = ResourceSelection {
            resource: Some(Resource {
                namespace: "shop".into(),
                r#type: "deployment".into(),
                name: "web".into(),
            }),
            label_selector: String::new(),
        };
        let right = Right {
            kubernetes: Client::new(tower::service_fn(answer), "default"),
            user: User(CertificateSigningRequestSpec {
                username: Some("jane".into()),
                ..CertificateSigningRequestSpec::default()
            }),
            targets: selected::parse(Some(web), Vec::new()).expect("a target"),
        };
        (right.lost().await, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_was_taken_away_ends_the_tap_within_two_minutes() {
        let taken_away = |second| if second < 1000 { Says::Yes } else { Says::No };
        let (status, second) = end(taken_away).await;
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(
            status.message(),
            "the right to it is gone: user \"jane\" cannot watch resource \"deployments/tap\" in API \
             group \"tap.linkerd.io\" in the namespace \"shop\": ask for that right"
        );
        assert!((1000..=1120).contains(&second), "{second}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_is_away_for_minutes_ends_nothing() {
        let (status, second) = end(|second| match second {
            100..280 => Says::Nothing,
            0..1000 => Says::Yes,
            1000.. => Says::No,
        })
        .await;
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!((1000..=1120).contains(&second), "{second}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_yes_holds_for_five_minutes_when_nothing_follows() {
        let (status, second) = end(|second| match second {
            0..=120 => Says::Yes,
            _ => Says::Nothing,
        })
        .await;
        assert_eq!(
            (status.code(), status.message()),
            (
                Code::Unavailable,
                "Kubernetes has not said for 5 minutes whether you still may tap"
            )
        );
        assert_eq!(second, 120 + 300);
    }
}
