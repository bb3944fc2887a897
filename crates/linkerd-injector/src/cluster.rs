//! What is asked of the API server about a pod: what its namespace says, and whose it is.
//! Entry: [`Cluster`]. Nothing is remembered: a namespace that was annotated a moment ago counts at once.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::ReplicaSet,
        batch::v1::Job,
        core::v1::{Namespace, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Api, Client};
use linkerd_names::{Owner, OwnerKind};

/// The API server waits ten seconds for us, and there are at most two questions.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

/// The workload of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundOwner {
    /// Kind, namespace and name.
    pub owner: Owner,
    /// Tells it from an earlier one of the same name.
    pub uid: String,
}

/// Why the API server has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// It refused.
    #[error("cannot read {object}: {source}")]
    Call {
        /// `replicaset/web-5d4f`.
        object: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// It did not answer.
    #[error("cannot read {0}: the API server did not answer within 3 seconds")]
    Timeout(String),
}

impl Cluster {
    /// Asks by `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The pod of this name; none when it is gone.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, LookupError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        within(format!("pod/{name}"), api.get_opt(name)).await
    }

    /// The annotations of a namespace.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn namespace_annotations(
        &self,
        name: &str,
    ) -> Result<BTreeMap<String, String>, LookupError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let namespace = within(format!("namespace/{name}"), api.get_metadata(name)).await?;
        Ok(namespace.metadata.annotations.unwrap_or_default())
    }

    /// The workload that a pod with these owners is a part of: the top of the chain of controllers as far as
    /// their kinds are ours. None when it stands for itself.
    ///
    /// # Errors
    /// [`LookupError`]: guessing a Deployment from the name of its ReplicaSet could be wrong.
    pub async fn owner_of(
        &self,
        owners: &[OwnerReference],
        namespace: &str,
    ) -> Result<Option<FoundOwner>, LookupError> {
        let Some((kind, reference)) = part_of(OwnerKind::Pod, owners) else {
            return Ok(None);
        };
        let above = match kind {
            OwnerKind::ReplicaSet => {
                let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), namespace);
                self.metadata(kind, &api, reference).await?
            }
            OwnerKind::Job => {
                let api: Api<Job> = Api::namespaced(self.client.clone(), namespace);
                self.metadata(kind, &api, reference).await?
            }
            _ => ObjectMeta::default(),
        };
        let above = above.owner_references.unwrap_or_default();
        let (kind, reference) = part_of(kind, &above).unwrap_or((kind, reference));
        Ok(Some(FoundOwner {
            owner: Owner {
                namespace: namespace.to_owned(),
                kind,
                name: reference.name.clone(),
            },
            uid: reference.uid.clone(),
        }))
    }

    async fn metadata<K>(
        &self,
        kind: OwnerKind,
        api: &Api<K>,
        reference: &OwnerReference,
    ) -> Result<ObjectMeta, LookupError>
    where
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let name = &reference.name;
        let found = within(format!("{kind}/{name}"), api.get_metadata(name)).await?;
        Ok(found.metadata)
    }
}

/// The controller among `owners` that an object of `kind` is a part of.
fn part_of(kind: OwnerKind, owners: &[OwnerReference]) -> Option<(OwnerKind, &OwnerReference)> {
    let controller = owners.iter().find(|owner| owner.controller == Some(true))?;
    let above = kind.part_of(&controller.api_version, &controller.kind)?;
    Some((above, controller))
}

async fn within<T>(
    object: String,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, LookupError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(LookupError::Call {
            object,
            source: Box::new(source),
        }),
        Err(_) => Err(LookupError::Timeout(object)),
    }
}
