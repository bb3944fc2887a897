//! Brings one workload's Secret to what `plan.rs` says. Entry: [`reconcile`].
//! A Secret of somebody else is never written, and two writers never overwrite each other: see `write.rs`.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use linkerd_issuer::{IssueError, Root};
use linkerd_names::InvalidIdentity;

use crate::{
    context::Context,
    marks::Claim,
    plan::{Plan, Reason, plan},
    secret::{self, Held, Holder},
    workloads::Workload,
    write::{CallError, Written, create_or_apply, within},
};

/// So often is a Secret looked at again that others write at the same time.
const ATTEMPTS_MAX: usize = 3;

/// What stands now.
#[derive(Debug)]
pub struct Reconciled {
    /// The Secret.
    pub held: Held,
    /// When it is due.
    pub renew_at: SystemTime,
    /// Why a new certificate was written; none when the old one is good.
    pub issued: Option<Reason>,
}

/// Why a workload has no good Secret.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// No certificate can hold the workload's name.
    #[error("the workload cannot have an identity")]
    Identity(#[from] InvalidIdentity),
    /// The Secret's name is taken.
    #[error(
        "secret {0} exists and is not ours: it is left alone, so the workload has no certificate"
    )]
    Foreign(String),
    /// Two control planes are asked for the workload's proxies, and the other one has the Secret.
    #[error(
        "secret {secret} is of the control plane in namespace {holder}, which is asked for this workload's \
         proxies too: let one of the two mesh it, and delete the secret if that is this one"
    )]
    OtherControlPlane {
        /// The Secret's name.
        secret: String,
        /// Namespace of the other one.
        holder: String,
    },
    /// The root cannot issue.
    #[error("cannot issue a certificate")]
    Issue(#[from] IssueError),
    /// The API server refused or did not answer.
    #[error("cannot write secret {secret}")]
    Call {
        /// The Secret's name.
        secret: String,
        /// What went wrong.
        #[source]
        source: CallError,
    },
    /// Somebody else writes the Secret all the time.
    #[error("secret {0} changes whenever it is written")]
    Contended(String),
}

/// Writes a new certificate for `workload` unless `held`, the Secret as it was last seen, is good at
/// `now`. The Secret of another control plane is taken over where our `claim` is the only one.
///
/// # Errors
/// [`ReconcileError`]; nothing was overwritten then.
pub async fn reconcile(
    context: &Context,
    root: &Root,
    workload: &Workload,
    claim: Claim,
    mut held: Option<Held>,
    now: SystemTime,
) -> Result<Reconciled, ReconcileError> {
    let control_plane_namespace = &context.control_plane_namespace;
    let identity = workload.owner.identity(control_plane_namespace)?;
    let name = workload.owner.secret_name();
    let call_error = |source| ReconcileError::Call {
        secret: name.clone(),
        source,
    };
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &workload.owner.namespace);
    for _ in 0..ATTEMPTS_MAX {
        let lifetime = context.leaf_lifetime;
        let reason = match plan(&identity, workload, held.as_ref(), root, lifetime, now) {
            Plan::Keep { renew_at } => {
                let held = held.expect("only what is there is kept");
                return Ok(Reconciled {
                    held,
                    renew_at,
                    issued: None,
                });
            }
            Plan::Issue { reason } => reason,
        };
        let issued = root.issue_leaf(&identity, lifetime, now)?;
        let mut secret = secret::build(workload, &issued, control_plane_namespace);
        let version = held.as_ref().map(|held| &held.version);
        let written = create_or_apply(&secrets, &mut secret, version).await;
        secret::wipe(&mut secret);
        match written.map_err(call_error)? {
            Written::Done(secret) => {
                let renew_at = issued.leaf.renew_at();
                let held = secret::read(*secret, control_plane_namespace);
                return Ok(Reconciled {
                    held,
                    renew_at,
                    issued: Some(reason),
                });
            }
            Written::Conflict => {
                held = look(&secrets, &name, claim, control_plane_namespace).await?;
            }
        }
    }
    Err(ReconcileError::Contended(name))
}

/// Reads the Secret that stands in the way.
async fn look(
    secrets: &Api<Secret>,
    name: &str,
    claim: Claim,
    control_plane_namespace: &str,
) -> Result<Option<Held>, ReconcileError> {
    let found = within(secrets.get_opt(name))
        .await
        .map_err(|source| ReconcileError::Call {
            secret: name.to_owned(),
            source,
        })?;
    let Some(mut secret) = found else {
        return Ok(None);
    };
    let name = name.to_owned();
    let error = match secret::holder(&secret.metadata, control_plane_namespace) {
        Holder::ControlPlane(holder) if claim == Claim::FirstCome => {
            let secret = name;
            ReconcileError::OtherControlPlane { secret, holder }
        }
        Holder::Us | Holder::ControlPlane(_) => {
            return Ok(Some(secret::read(secret, control_plane_namespace)));
        }
        Holder::Stranger => ReconcileError::Foreign(name),
    };
    secret::wipe(&mut secret);
    Err(error)
}

impl ReconcileError {
    /// Value of the metric label `reason`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Identity(_) => "identity",
            Self::Foreign(_) => "foreign_secret",
            Self::OtherControlPlane { .. } => "other_control_plane",
            Self::Issue(_) => "issue",
            Self::Call { .. } => "api",
            Self::Contended(_) => "contended",
        }
    }
}
