//! Why a row is not well: something is wrong, or nobody may look. Entry: [`Problem`].

use super::report::Finding;
use crate::control_plane::{CallError, Kubernetes, no_permission};

/// What keeps a row from being well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Something does not work.
    Found(String),
    /// The right to look is missing: nothing is known to be wrong, and no waiting brings the right.
    Unseen(String),
}

impl Problem {
    /// Of a call to Kubernetes that asked for `resource`.
    pub(super) fn of(
        kubernetes: &Kubernetes,
        error: &CallError,
        verb: &str,
        resource: &str,
        namespace: Option<&str>,
    ) -> Self {
        if error.is_forbidden() {
            return Self::Unseen(no_permission(verb, resource, namespace));
        }
        Self::Found(kubernetes.explain(error))
    }
}

impl From<Problem> for String {
    fn from(problem: Problem) -> Self {
        let (Problem::Found(text) | Problem::Unseen(text)) = problem;
        text
    }
}

impl From<String> for Problem {
    fn from(found: String) -> Self {
        Self::Found(found)
    }
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Found(what) => Self::Error(what),
            Problem::Unseen(right) => Self::Warning(right),
        }
    }
}
