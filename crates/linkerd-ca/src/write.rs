//! Writes an object of ours, and never one that somebody else changed in between.
//! New objects are created, so that an existing one of the same name is noticed; later they are applied
//! to exactly the version that was seen.

use std::{fmt::Debug, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource,
    api::{Patch, PatchParams, PostParams},
};
use linkerd_names::FIELD_MANAGER;
use serde::{Serialize, de::DeserializeOwned};

/// No call to the API server takes longer; kube's own retries are within it.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Which object, and which state of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The object's uid.
    pub uid: String,
    /// The object's resource version.
    pub resource_version: String,
}

/// What became of a write.
#[derive(Debug)]
pub enum Written<K> {
    /// This is the object now.
    Done(Box<K>),
    /// The object is not, or no longer, what the caller believed. Nothing was written.
    Conflict,
}

/// The API server refused or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// An answer that says no, or no connection.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// No answer in time.
    #[error("the API server did not answer within 10 seconds")]
    Timeout,
}

impl Version {
    /// The version in an object's metadata.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

impl CallError {
    /// The status code of an answer that says no.
    pub fn status_code(&self) -> Option<u16> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// Whether the object's namespace is being deleted: the workload goes with it, nothing is wrong.
    pub fn is_namespace_terminating(&self) -> bool {
        let Self::Kube(kube::Error::Api(status)) = self else {
            return false;
        };
        status.details.as_ref().is_some_and(|details| {
            details
                .causes
                .iter()
                .any(|cause| cause.reason == "NamespaceTerminating")
        })
    }
}

/// Creates `object` when `held` is none, otherwise makes the version `held` into `object`.
///
/// # Errors
/// [`CallError`] for everything but a conflict.
pub async fn create_or_apply<K>(
    api: &Api<K>,
    object: &mut K,
    held: Option<&Version>,
) -> Result<Written<K>, CallError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
{
    let written = match held {
        None => {
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            within(api.create(&params, object)).await
        }
        Some(version) => {
            let metadata = object.meta_mut();
            metadata.uid = Some(version.uid.clone());
            metadata.resource_version = Some(version.resource_version.clone());
            let name = metadata.name.clone().unwrap_or_default();
            let params = PatchParams::apply(FIELD_MANAGER).force();
            within(api.patch(&name, &params, &Patch::Apply(&*object))).await
        }
    };
    match written {
        Ok(object) => Ok(Written::Done(Box::new(object))),
        Err(error)
            if matches!(error.status_code(), Some(404 | 409)) && !is_missing_namespace(&error) =>
        {
            Ok(Written::Conflict)
        }
        Err(error) => Err(error),
    }
}

/// A 404 for a namespace is not a conflict: looking again would not help.
fn is_missing_namespace(error: &CallError) -> bool {
    let CallError::Kube(kube::Error::Api(status)) = error else {
        return false;
    };
    status
        .details
        .as_ref()
        .is_some_and(|details| details.kind == "namespaces")
}

/// Waits for one call to the API server, at most [`CALL_TIMEOUT`].
///
/// # Errors
/// [`CallError`].
pub async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Timeout),
    }
}
