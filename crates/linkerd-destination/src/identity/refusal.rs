//! Why a certificate is not issued, and how that is told: to the caller, to metrics, to the log.
//! Entry: [`Refusal`].

use linkerd_issuer::{InvalidRequest, IssueError};
use linkerd_names::{Identity, InvalidIdentity};
use tonic::{Code, Status};

use crate::pod::PodKey;

/// Why a certificate is not issued.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The root is not there yet.
    #[error("no root to sign with yet")]
    NoRoot,
    /// The peer asks too often.
    #[error("too many questions from this address")]
    TooManyQuestions,
    /// Too many questions are under way, from all peers together.
    #[error("too many questions at once")]
    Busy,
    /// A field of the question is empty.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The identity in the question is no name.
    #[error(transparent)]
    InvalidIdentity(#[from] InvalidIdentity),
    /// The signing request is not a good one.
    #[error(transparent)]
    InvalidRequest(#[from] InvalidRequest),
    /// The signing request names somebody else than the question does.
    #[error("the signing request is for {0}, not for the identity that was asked for")]
    RequestForAnother(Identity),
    /// The API server cannot be asked.
    #[error("cannot review the token: {0}")]
    Review(kube::Error),
    /// The API server does not answer.
    #[error("cannot review the token: no answer in time")]
    ReviewTimeout,
    /// The API server cannot judge the token: it is no token, it has expired, or it is for others.
    #[error("the token was rejected: {0}")]
    TokenRejected(String),
    /// The token proves nobody.
    #[error("the token is not authenticated")]
    NotAuthenticated,
    /// The token is good, but for another service: whoever got it there must not use it here.
    #[error("the token is not for this service's audience")]
    WrongAudience,
    /// A person, a node, or anything else but a ServiceAccount.
    #[error("the token belongs to {0}, not to a ServiceAccount")]
    NotAServiceAccount(String),
    /// The token is not bound to a pod, so it can be used from anywhere.
    #[error("the token is not bound to a pod")]
    NotBound,
    /// The pod, or its workload, has not been seen yet.
    #[error("the pod is not known yet")]
    PodUnknown,
    /// The pod has come to its end.
    #[error("the pod has ended")]
    PodEnded,
    /// The pod is not part of this mesh, or not marked for TLS, so it has no identity.
    #[error("the pod has no identity: it is not injected by this control plane with --tls")]
    NoIdentity,
    /// The pod is somebody else.
    #[error("the pod is {0}, not the identity that was asked for")]
    OtherIdentity(Identity),
    /// The root cannot sign.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] IssueError),
}

/// A refusal, and the pod that it concerns if the token has proved one.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub reason: Refusal,
    /// Which pod.
    pub pod: Option<PodKey>,
}

impl From<Refusal> for Refused {
    fn from(reason: Refusal) -> Self {
        Self { reason, pod: None }
    }
}

impl Refusal {
    /// Value of the metric label `reason`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoRoot => "no_root",
            Self::TooManyQuestions => "too_many_questions",
            Self::Busy => "busy",
            Self::Missing(_) => "missing_field",
            Self::InvalidIdentity(_) => "invalid_identity",
            Self::InvalidRequest(_) => "invalid_signing_request",
            Self::RequestForAnother(_) => "signing_request_for_another",
            Self::Review(_) => "review_failed",
            Self::ReviewTimeout => "review_timeout",
            Self::TokenRejected(_) => "token_rejected",
            Self::NotAuthenticated => "not_authenticated",
            Self::WrongAudience => "wrong_audience",
            Self::NotAServiceAccount(_) => "not_a_service_account",
            Self::NotBound => "token_not_bound",
            Self::PodUnknown => "pod_unknown",
            Self::PodEnded => "pod_ended",
            Self::NoIdentity => "no_identity",
            Self::OtherIdentity(_) => "other_identity",
            Self::Issue(_) => "cannot_issue",
        }
    }

    /// The code by which a proxy is told.
    pub fn code(&self) -> Code {
        match self {
            Self::NoRoot | Self::PodUnknown => Code::Unavailable,
            Self::TooManyQuestions | Self::Busy => Code::ResourceExhausted,
            Self::Missing(_)
            | Self::InvalidIdentity(_)
            | Self::InvalidRequest(
                InvalidRequest::NotASigningRequest
                | InvalidRequest::WrongSignature
                | InvalidRequest::WrongKeyKind,
            )
            | Self::TokenRejected(_) => Code::InvalidArgument,
            Self::Review(_) | Self::ReviewTimeout => Code::Internal,
            Self::InvalidRequest(InvalidRequest::WrongName)
            | Self::RequestForAnother(_)
            | Self::NotAuthenticated
            | Self::WrongAudience
            | Self::NotAServiceAccount(_)
            | Self::NotBound
            | Self::PodEnded
            | Self::NoIdentity
            | Self::OtherIdentity(_) => Code::FailedPrecondition,
            Self::Issue(_) => Code::Unknown,
        }
    }

    /// The answer to the proxy. What the API server says about other things than the token stays here.
    pub fn status(&self) -> Status {
        let text = match self {
            Self::Review(_) => "cannot review the token".to_owned(),
            other => other.to_string(),
        };
        Status::new(self.code(), text)
    }

    /// Whether the log is spared: these come in floods, and the metrics count them.
    pub fn is_flood(&self) -> bool {
        matches!(self, Self::TooManyQuestions | Self::Busy)
    }
}
