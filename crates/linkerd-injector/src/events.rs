//! Kubernetes Events: why a pod that should be meshed is not, where people look for it. Entry: [`write()`].
//! They are written beside the webhook's answers: the API server does not wait for them.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use linkerd_names::component;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::cluster::FoundOwner;

/// The API server takes at most 1024 bytes of text in an Event.
const NOTE_LENGTH_MAX: usize = 1000;
/// No call takes longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// One Event that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The workload or the pod that it is about.
    pub regarding: ObjectReference,
    /// A word for machines.
    pub reason: &'static str,
    /// A sentence for people.
    pub note: String,
}

/// Writes what comes, in the name of the replica `instance`, until nobody can send any more.
pub async fn write(client: Client, instance: String, mut reports: mpsc::Receiver<Report>) {
    let reporter = Reporter {
        controller: component::INJECTOR.to_owned(),
        instance: Some(instance),
    };
    let recorder = Recorder::new(client, reporter);
    while let Some(report) = reports.recv().await {
        let Report {
            regarding,
            reason,
            mut note,
        } = report;
        note.truncate(note.floor_char_boundary(NOTE_LENGTH_MAX));
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Inject".to_owned(),
            secondary: None,
        };
        let written = recorder.publish(&event, &regarding);
        match tokio::time::timeout(CALL_TIMEOUT, written).await {
            Ok(Ok(())) => debug!(reason, "wrote an event"),
            Ok(Err(error)) => warn!(%error, reason, "cannot write an event"),
            Err(_) => warn!(reason, "cannot write an event: no answer within 10 seconds"),
        }
    }
}

/// What an Event about a pod is attached to: its workload when it has one, the pod when it has a name, its
/// namespace otherwise.
pub fn regarding(
    owner: Option<&FoundOwner>,
    pod_name: Option<&str>,
    namespace: &str,
) -> ObjectReference {
    let reference =
        |api_version: &str, kind: &str, name: &str, uid: Option<String>| ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid,
            ..ObjectReference::default()
        };
    match (owner, pod_name) {
        (Some(FoundOwner { owner, uid }), _) => reference(
            owner.kind.api_version(),
            owner.kind.api_kind(),
            &owner.name,
            Some(uid.clone()),
        ),
        (None, Some(name)) => reference("v1", "Pod", name, None),
        (None, None) => reference("v1", "Namespace", namespace, None),
    }
}
