//! One piece of the controller's work, from start to end, with what the operator is told about it.
//! Entry: [`perform`].

use std::{sync::Arc, time::SystemTime};

use linkerd_issuer::Root;
use tracing::{debug, error, info, warn};

use crate::{
    bundle::{self, BundleError, HeldBundle},
    causes,
    context::Context,
    issue::{self, ReconcileError},
    marks::Claim,
    report::Reports,
    root::{self, Origin, RootError},
    secret::Held,
    webhook::{self, WebhookError},
    workloads::Workload,
    write::Version,
};

/// So often a Secret or a trust bundle that another control plane has is looked at before that is told: some seconds.
const UNDECIDED_MAX: u32 = 6;

/// What is to be done, with all that is known about it.
#[derive(Debug)]
pub enum Task {
    /// Read the root, or make it.
    Root {
        /// The root in use.
        present: Option<Arc<Root>>,
    },
    /// Make a namespace's trust bundle right.
    Bundle {
        /// The root that is trusted.
        root: Arc<Root>,
        /// The namespace.
        namespace: String,
        /// The ConfigMap as it was last seen.
        held: Option<HeldBundle>,
    },
    /// Remove the trust bundle of a namespace that has no workload of ours any more.
    RemoveBundle {
        /// The namespace.
        namespace: String,
        /// The ConfigMap as it was last seen.
        version: Version,
    },
    /// Make right what the API server trusts `linkerd-injector` by.
    Webhook {
        /// The root that issues and is trusted.
        root: Arc<Root>,
    },
    /// Make a workload's Secret right.
    Leaf {
        /// The root that issues.
        root: Arc<Root>,
        /// The workload.
        workload: Workload,
        /// What may be done about another's Secret.
        claim: Claim,
        /// The Secret as it was last seen.
        held: Option<Held>,
    },
}

/// How it ended.
#[derive(Debug)]
pub enum Done {
    /// This is the root.
    Root(Root),
    /// The trust bundle is right.
    Bundle(bundle::Reconciled),
    /// The trust bundle is not there any more, or is another one. The watch tells.
    BundleRemoved,
    /// Certificate and trust of the webhook are right.
    Webhook(webhook::Reconciled),
    /// The Secret is right.
    Leaf(issue::Reconciled),
    /// Nothing is right yet; the word is a value of the metric label `reason`.
    Failed(&'static str),
    /// Nothing will be right until the workload changes; the word as above.
    Refused(&'static str),
}

/// Does `task`, which has failed `failures` times in a row before, and tells what the operator should
/// know: each cause once in the log, and as an Event on the object.
pub async fn perform(context: Context, reports: Reports, task: Task, failures: u32) -> Done {
    match task {
        Task::Root { present } => {
            match root::load_or_create(&context, present.as_deref(), SystemTime::now()).await {
                Ok((root, origin)) => {
                    match origin {
                        Origin::Created if present.is_some() => {
                            warn!("wrote the root's secret back")
                        }
                        Origin::Created => info!("made a new root"),
                        Origin::Loaded => debug!("loaded the root"),
                    }
                    Done::Root(root)
                }
                Err(error) => root_failed(&context, &reports, &error, failures).await,
            }
        }
        Task::Bundle {
            root,
            namespace,
            held,
        } => match bundle::reconcile(&context, &root, &namespace, held).await {
            Ok(reconciled) => {
                if reconciled.written {
                    info!(namespace, "wrote the trust bundle");
                }
                Done::Bundle(reconciled)
            }
            Err(error) => bundle_failed(&reports, &namespace, &error, failures).await,
        },
        Task::RemoveBundle { namespace, version } => {
            match bundle::remove(&context, &namespace, version).await {
                Ok(is_removed) => {
                    if is_removed {
                        info!(
                            namespace,
                            "removed the trust bundle: no workload of ours is left"
                        );
                    }
                    Done::BundleRemoved
                }
                Err(error) => bundle_failed(&reports, &namespace, &error, failures).await,
            }
        }
        Task::Webhook { root } => {
            match webhook::reconcile(&context, &root, SystemTime::now()).await {
                Ok(reconciled) => {
                    if let Some(reason) = reconciled.issued {
                        let reason = reason.as_str();
                        info!(reason, "issued the certificate of linkerd-injector");
                    }
                    if reconciled.trust_changed {
                        info!("wrote the roots that linkerd-injector is trusted by");
                    }
                    Done::Webhook(reconciled)
                }
                Err(error) => webhook_failed(&context, &reports, &error, failures).await,
            }
        }
        Task::Leaf {
            root,
            workload,
            claim,
            held,
        } => {
            let now = SystemTime::now();
            match issue::reconcile(&context, &root, &workload, claim, held, now).await {
                Ok(reconciled) => {
                    if let Some(reason) = reconciled.issued {
                        info!(owner = %workload.owner, reason = reason.as_str(), "issued certificate");
                    }
                    Done::Leaf(reconciled)
                }
                Err(error) => leaf_failed(&reports, &workload, &error, failures).await,
            }
        }
    }
}

async fn root_failed(
    context: &Context,
    reports: &Reports,
    error: &RootError,
    failures: u32,
) -> Done {
    let text = causes::text(error);
    if error.needs_operator() {
        if failures == 0 {
            error!(error = text, "no root: no certificate can be issued");
        }
        reports
            .no_root(&context.control_plane_namespace, text)
            .await;
    } else {
        warn!(error = text, "no root yet, trying again");
    }
    Done::Failed("root")
}

async fn bundle_failed(
    reports: &Reports,
    namespace: &str,
    error: &BundleError,
    failures: u32,
) -> Done {
    let text = causes::text(error);
    match error {
        BundleError::Call(call) if call.is_namespace_terminating() => {
            debug!(namespace, "namespace is being deleted");
            return Done::Failed("namespace_terminating");
        }
        BundleError::Call(_) | BundleError::Contended => {
            warn!(
                namespace,
                error = text,
                "the trust bundle is not right, trying again"
            );
        }
        // The first pods may be on their way, and say that it is not our business.
        BundleError::OtherControlPlane(_) if failures < UNDECIDED_MAX => {
            debug!(namespace, error = text, "cannot write the trust bundle yet");
        }
        BundleError::OtherControlPlane(_) => {
            if failures == UNDECIDED_MAX {
                warn!(namespace, error = text, "refused to write the trust bundle");
            }
            reports.no_bundle(namespace, text).await;
        }
    }
    Done::Failed("bundle")
}

async fn webhook_failed(
    context: &Context,
    reports: &Reports,
    error: &WebhookError,
    failures: u32,
) -> Done {
    let text = causes::text(error);
    match error {
        WebhookError::Call(_) | WebhookError::Contended | WebhookError::Issue(_) => {
            warn!(
                error = text,
                "linkerd-injector is not trusted yet, trying again"
            );
        }
        WebhookError::Foreign => {
            if failures == 0 {
                warn!(
                    error = text,
                    "refused to write the certificate of linkerd-injector"
                );
            }
            reports
                .no_webhook(&context.control_plane_namespace, text)
                .await;
        }
    }
    Done::Failed("webhook")
}

async fn leaf_failed(
    reports: &Reports,
    workload: &Workload,
    error: &ReconcileError,
    failures: u32,
) -> Done {
    let owner = &workload.owner;
    let text = causes::text(error);
    match error {
        ReconcileError::Call { source, .. } if source.is_namespace_terminating() => {
            debug!(%owner, "namespace is being deleted");
            return Done::Failed("namespace_terminating");
        }
        ReconcileError::Identity(_) => {
            warn!(%owner, error = text, "refused to issue a certificate");
            reports
                .no_certificate(workload, "CertificateRefused", text)
                .await;
            return Done::Refused(error.as_str());
        }
        ReconcileError::Foreign(_) => {
            if failures == 0 {
                warn!(%owner, error = text, "refused to issue a certificate");
            }
            reports
                .no_certificate(workload, "CertificateRefused", text)
                .await;
        }
        // The first pods may be on their way, and say whose they are.
        ReconcileError::OtherControlPlane { .. } if failures < UNDECIDED_MAX => {
            debug!(%owner, error = text, "cannot issue a certificate yet");
        }
        ReconcileError::OtherControlPlane { .. } => {
            if failures == UNDECIDED_MAX {
                warn!(%owner, error = text, "refused to issue a certificate");
            }
            reports
                .no_certificate(workload, "CertificateRefused", text)
                .await;
        }
        ReconcileError::Issue(_) | ReconcileError::Call { .. } | ReconcileError::Contended(_) => {
            warn!(%owner, error = text, "cannot issue a certificate, trying again");
            // The first failures are mostly conflicts and restarts that nobody has to know of.
            if failures >= 3 {
                reports
                    .no_certificate(workload, "CertificateFailed", text)
                    .await;
            }
        }
    }
    Done::Failed(error.as_str())
}
