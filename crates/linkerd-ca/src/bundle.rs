//! Keeps the trust bundle's ConfigMap of one namespace. Entry: [`reconcile`]
//! and [`remove`]. The name is reserved for the mesh, so whatever stands there is made right, unless another control
//! plane's label is on it: then two would overwrite each other for ever.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use linkerd_issuer::Root;
use linkerd_names::{
    component::{TRUST_BUNDLE_CONFIG_MAP, TRUST_BUNDLE_KEY},
    labels,
};

use crate::{
    context::Context,
    secret::our_labels,
    write::{CallError, Version, Written, create_or_apply, within},
};

/// So often is a ConfigMap looked at again that others write at the same time.
const ATTEMPTS_MAX: usize = 3;

/// What is remembered of a namespace's trust bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBundle {
    /// Which state of the ConfigMap this is.
    pub version: Version,
    /// The PEM text.
    pub text: Option<String>,
    /// The control plane whose label is on it.
    pub control_plane_namespace: Option<String>,
}

/// What stands now.
#[derive(Debug)]
pub struct Reconciled {
    /// The ConfigMap.
    pub held: HeldBundle,
    /// Whether it had to be written.
    pub written: bool,
}

/// Why a namespace has no good trust bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Workloads of two control planes are, or were, in the namespace.
    #[error(
        "the trust bundle belongs to the control plane in namespace {0}, which removes it when its last \
         workload and pod here have gone; if that control plane is gone, delete it"
    )]
    OtherControlPlane(String),
    /// The API server refused or did not answer.
    #[error("cannot write or remove the trust bundle")]
    Call(#[from] CallError),
    /// Somebody else writes it all the time.
    #[error("the trust bundle changes whenever it is written")]
    Contended,
}

/// Reads a ConfigMap.
pub fn read(config_map: ConfigMap) -> HeldBundle {
    let version = Version::of(&config_map.metadata);
    let mut labels = config_map.metadata.labels.unwrap_or_default();
    HeldBundle {
        version,
        text: config_map.data.unwrap_or_default().remove(TRUST_BUNDLE_KEY),
        control_plane_namespace: labels.remove(labels::CONTROL_PLANE_NAMESPACE),
    }
}

/// Writes the trust bundle of `root` into `namespace` unless `held`, the ConfigMap as it was last seen,
/// is that.
///
/// # Errors
/// [`BundleError`]; nothing was overwritten then.
pub async fn reconcile(
    context: &Context,
    root: &Root,
    namespace: &str,
    mut held: Option<HeldBundle>,
) -> Result<Reconciled, BundleError> {
    let control_plane_namespace = &context.control_plane_namespace;
    let text = root.trust_bundle().to_pem();
    let config_maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    for _ in 0..ATTEMPTS_MAX {
        if let Some(held) = &held {
            let label = held.control_plane_namespace.as_deref();
            if let Some(other) = label.filter(|label| label != control_plane_namespace) {
                return Err(BundleError::OtherControlPlane(other.to_owned()));
            }
            if label.is_some() && held.text.as_ref() == Some(&text) {
                return Ok(Reconciled {
                    held: held.clone(),
                    written: false,
                });
            }
        }
        let mut config_map = build(namespace, &text, control_plane_namespace);
        let version = held.as_ref().map(|held| &held.version);
        match create_or_apply(&config_maps, &mut config_map, version).await? {
            Written::Done(config_map) => {
                return Ok(Reconciled {
                    held: read(*config_map),
                    written: true,
                });
            }
            Written::Conflict => {
                let found = within(config_maps.get_opt(TRUST_BUNDLE_CONFIG_MAP)).await?;
                held = found.map(read);
            }
        }
    }
    Err(BundleError::Contended)
}

/// Removes the trust bundle of `namespace`, of which nobody has need, in exactly the version that was seen.
/// Returns whether that was there; what has come in between is left alone.
///
/// # Errors
/// [`BundleError::Call`].
pub async fn remove(
    context: &Context,
    namespace: &str,
    version: Version,
) -> Result<bool, BundleError> {
    let config_maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: Some(version.uid),
        resource_version: Some(version.resource_version),
    });
    match within(config_maps.delete(TRUST_BUNDLE_CONFIG_MAP, &params)).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.status_code(), Some(404 | 409)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn build(namespace: &str, text: &str, control_plane_namespace: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(TRUST_BUNDLE_CONFIG_MAP.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(our_labels(control_plane_namespace)),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(
            TRUST_BUNDLE_KEY.to_owned(),
            text.to_owned(),
        )])),
        ..ConfigMap::default()
    }
}
