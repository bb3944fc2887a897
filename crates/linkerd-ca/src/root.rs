//! The root's Secret: made once, and never a second time by anybody. Entry: [`load_or_create`].
//! A Secret that is there and broken is an error for the operator; replacing it would split the mesh.

use std::{collections::BTreeMap, time::SystemTime};

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::PostParams};
use linkerd_issuer::{InvalidRoot, Root};
use linkerd_names::{
    FIELD_MANAGER,
    component::{ROOT_CERTIFICATE_KEY, ROOT_PRIVATE_KEY_KEY, ROOT_SECRET},
};
use zeroize::Zeroizing;

use crate::{
    context::Context,
    secret::{our_labels, wipe},
    write::{CallError, within},
};

/// Where a root came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The Secret was there.
    Loaded,
    /// There was no Secret, and we made it.
    Created,
}

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The Secret has not the two values that it needs.
    #[error(
        "secret {ROOT_SECRET} has no text under {0}; restore it, or delete it: the root in use is written back \
         then, and when there is none, as after a restart, a new one is made"
    )]
    MissingKey(&'static str),
    /// The Secret's values do not make a root.
    #[error(
        "secret {ROOT_SECRET} holds no usable root; restore it, or delete it: the root in use is written back \
         then, and when there is none, as after a restart, a new one is made"
    )]
    Invalid(#[source] InvalidRoot),
    /// No new root could be made.
    #[error("cannot make a root")]
    Generate(#[source] InvalidRoot),
    /// The API server refused or did not answer.
    #[error("cannot read or create secret {ROOT_SECRET}")]
    Call(#[from] CallError),
    /// The Secret was there, then not, then there again.
    #[error("secret {ROOT_SECRET} appears and vanishes")]
    Contended,
}

/// Returns the root in the control plane's namespace. When there is none, `present` (the root that this
/// process has worked with so far) is written back, or a new one is made.
///
/// The Secret is created and never overwritten: of two replicas that find none, one creates it, and
/// the other loads that one.
///
/// # Errors
/// [`RootError`]; the Secret was left as it is.
pub async fn load_or_create(
    context: &Context,
    present: Option<&Root>,
    now: SystemTime,
) -> Result<(Root, Origin), RootError> {
    let control_plane_namespace = &context.control_plane_namespace;
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), control_plane_namespace);
    if let Some(secret) = within(secrets.get_opt(ROOT_SECRET)).await? {
        return Ok((read(secret, now)?, Origin::Loaded));
    }
    let mut secret = match present {
        Some(root) => build(root, control_plane_namespace),
        None => build(
            &Root::generate(now).map_err(RootError::Generate)?,
            control_plane_namespace,
        ),
    };
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let created = within(secrets.create(&params, &secret)).await;
    wipe(&mut secret);
    match created {
        Ok(secret) => Ok((read(secret, now)?, Origin::Created)),
        Err(error) if error.status_code() == Some(409) => {
            let found = within(secrets.get_opt(ROOT_SECRET)).await?;
            Ok((
                read(found.ok_or(RootError::Contended)?, now)?,
                Origin::Loaded,
            ))
        }
        Err(error) => Err(error.into()),
    }
}

fn build(root: &Root, control_plane_namespace: &str) -> Secret {
    let data = BTreeMap::from([
        (
            ROOT_CERTIFICATE_KEY.to_owned(),
            ByteString(root.certificate_pem().into_bytes()),
        ),
        (
            ROOT_PRIVATE_KEY_KEY.to_owned(),
            ByteString(root.private_key_pem().as_bytes().to_vec()),
        ),
    ]);
    Secret {
        metadata: ObjectMeta {
            name: Some(ROOT_SECRET.to_owned()),
            namespace: Some(control_plane_namespace.to_owned()),
            labels: Some(our_labels(control_plane_namespace)),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

fn read(mut secret: Secret, now: SystemTime) -> Result<Root, RootError> {
    let text = |key: &'static str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes
            .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
            .map(Zeroizing::new)
            .ok_or(RootError::MissingKey(key))
    };
    let certificate = text(ROOT_CERTIFICATE_KEY);
    let key = text(ROOT_PRIVATE_KEY_KEY);
    wipe(&mut secret);
    Root::from_pem(&certificate?, &key?, now).map_err(RootError::Invalid)
}

impl RootError {
    /// Whether only an operator can help: worth an Event and an error in the log.
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::MissingKey(_) | Self::Invalid(_) | Self::Generate(_) => true,
            Self::Call(error) => error.status_code() == Some(403),
            Self::Contended => false,
        }
    }
}
