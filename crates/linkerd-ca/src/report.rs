//! Kubernetes Events for the operator: why a workload has no certificate.
//! `kubectl describe` shows them on the workload itself.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use linkerd_names::component::{CA, INJECTOR_SECRET, ROOT_SECRET, TRUST_BUNDLE_CONFIG_MAP};
use tracing::debug;

use crate::{workloads::Workload, write::within};

/// The API server takes at most 1024 bytes of text in an Event.
const NOTE_LENGTH_MAX: usize = 1000;

/// Writes Events.
#[derive(Clone)]
pub struct Reports(Recorder);

impl Reports {
    /// Writes in the name of the replica `instance`.
    pub fn new(client: Client, instance: String) -> Self {
        let reporter = Reporter {
            controller: CA.to_owned(),
            instance: Some(instance),
        };
        Self(Recorder::new(client, reporter))
    }

    /// Tells why `workload` has no certificate.
    pub async fn no_certificate(&self, workload: &Workload, reason: &str, error: String) {
        let owner = &workload.owner;
        let regarding = ObjectReference {
            api_version: Some(owner.kind.api_version().to_owned()),
            kind: Some(owner.kind.api_kind().to_owned()),
            namespace: Some(owner.namespace.clone()),
            name: Some(owner.name.clone()),
            uid: Some(workload.uid.clone()),
            ..ObjectReference::default()
        };
        self.warn(reason, error, regarding).await;
    }

    /// Tells why a namespace has no trust bundle.
    pub async fn no_bundle(&self, namespace: &str, error: String) {
        let regarding = reference("ConfigMap", namespace, TRUST_BUNDLE_CONFIG_MAP);
        self.warn("TrustBundleRefused", error, regarding).await;
    }

    /// Tells why there is no root.
    pub async fn no_root(&self, control_plane_namespace: &str, error: String) {
        let regarding = reference("Secret", control_plane_namespace, ROOT_SECRET);
        self.warn("RootUnusable", error, regarding).await;
    }

    /// Tells why the API server does not trust `linkerd-injector`.
    pub async fn no_webhook(&self, control_plane_namespace: &str, error: String) {
        let regarding = reference("Secret", control_plane_namespace, INJECTOR_SECRET);
        self.warn("CertificateRefused", error, regarding).await;
    }

    async fn warn(&self, reason: &str, mut note: String, regarding: ObjectReference) {
        note.truncate(note.floor_char_boundary(NOTE_LENGTH_MAX));
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: "IssueCertificate".to_owned(),
            secondary: None,
        };
        // The log has it already: an Event that cannot be written is no reason to do anything.
        if let Err(error) = within(self.0.publish(&event, &regarding)).await {
            debug!(%error, reason, "cannot write the event");
        }
    }
}

fn reference(kind: &str, namespace: &str, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}
