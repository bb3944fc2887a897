//! Kubernetes Events: why a pod that should be meshed is not, where people look for it. Entries: [`Writer::write`],
//! and [`write_all`] for the webhook, whose answers do not wait for them, and whose pods may not be there.
//!
//! An Event's name says what it is about. So there is one for many pods of a workload, whichever replica tells of
//! them and how often, without a leader: who comes second finds it written.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use linkerd_names::component;
use tokio::{sync::mpsc, time::Instant};
use tracing::{debug, warn};

use crate::{
    claims::{Admission, Claims},
    cluster::FoundOwner,
    metrics::Metrics,
};

/// Reason of Events about pods that should have a proxy and have none.
pub const NOT_MESHED: &str = "NotMeshed";
/// Reason of Events about annotations that have no effect.
pub const UNKNOWN_ANNOTATION: &str = "UnknownAnnotation";

/// The API server takes at most 1024 bytes of text in an Event.
const NOTE_LENGTH_MAX: usize = 1000;
/// What is left of an object's name in that of its Event, which may have 253 characters.
const NAME_LENGTH_MAX: usize = 200;
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
    /// While there is an Event about the same object with the same reason and cause, there is no second one,
    /// whatever its note.
    pub cause: String,
}

/// Why an Event was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The API server refused.
    #[error(transparent)]
    Call(#[from] Box<kube::Error>),
    /// It did not answer.
    #[error("no answer within 10 seconds")]
    Timeout,
}

/// Writes Events in the name of one replica.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    instance: String,
}

impl Writer {
    /// A writer for the replica `instance`.
    pub fn new(client: Client, instance: String) -> Self {
        Self { client, instance }
    }

    /// Writes an Event, unless it is there.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write(&self, report: Report) -> Result<(), WriteError> {
        let name = name(&report);
        let Report {
            regarding,
            reason,
            mut note,
            cause: _,
        } = report;
        note.truncate(note.floor_char_boundary(NOTE_LENGTH_MAX));
        let namespace = regarding.namespace.clone().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            type_: Some("Warning".to_owned()),
            reason: Some(reason.to_owned()),
            note: Some(note),
            action: Some("Inject".to_owned()),
            regarding: Some(regarding),
            event_time: Some(MicroTime(Timestamp::now())),
            reporting_controller: Some(component::INJECTOR.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        let params = PostParams::default();
        match tokio::time::timeout(CALL_TIMEOUT, events.create(&params, &event)).await {
            Ok(Ok(_)) => debug!(reason, "wrote an event"),
            Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => {
                debug!(reason, "the event is there");
            }
            Ok(Err(error)) => return Err(Box::new(error).into()),
            Err(_) => return Err(WriteError::Timeout),
        }
        Ok(())
    }
}

/// Writes what comes until nobody can send any more: of each Event one an hour, and not too many.
pub async fn write_all(writer: Writer, mut reports: mpsc::Receiver<Report>, metrics: Metrics) {
    let mut claims = Claims::default();
    while let Some(report) = reports.recv().await {
        match claims.admit(&name(&report), &report, Instant::now()) {
            Admission::Write => {}
            Admission::Written => continue,
            Admission::TooMany => {
                metrics.event_lost();
                continue;
            }
        }
        let reason = report.reason;
        if let Err(error) = writer.write(report).await {
            warn!(%error, reason, "cannot write an event");
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

/// The same from every replica for all reports of one object, reason and cause.
fn name(report: &Report) -> String {
    let ObjectReference {
        kind, name, uid, ..
    } = &report.regarding;
    // Its keys are fixed. Another version of it makes another name: then there are two Events for an hour.
    let mut hasher = DefaultHasher::new();
    (kind, name, uid, report.reason, &report.cause).hash(&mut hasher);
    let name = name.as_deref().unwrap_or_default();
    let name = &name[..name.floor_char_boundary(NAME_LENGTH_MAX)];
    let name = name.trim_end_matches(['.', '-']);
    format!("{name}.{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cause: &str, note: &str, name: &str) -> Report {
        Report {
            regarding: regarding(None, Some(name), "shop"),
            reason: NOT_MESHED,
            note: note.to_owned(),
            cause: cause.to_owned(),
        }
    }

    #[test]
    fn the_name_of_an_event_tells_its_object_and_its_cause_apart_and_nothing_else() {
        let first = name(&report("a", "one", "web"));
        assert!(first.starts_with("web."), "{first}");
        assert_eq!(first, name(&report("a", "two", "web")));
        assert_ne!(first, name(&report("b", "one", "web")));
        assert_ne!(first, name(&report("a", "one", "api")));
        let other = Report {
            reason: UNKNOWN_ANNOTATION,
            ..report("a", "one", "web")
        };
        assert_ne!(first, name(&other));
    }

    #[test]
    fn a_long_name_of_an_object_makes_a_valid_name_of_an_event() {
        let long = format!("{}-.{}", "a".repeat(198), "b".repeat(53));
        let name = name(&report("a", "one", &long));
        let (object, hash) = name.split_once('.').expect("two parts");
        assert_eq!((object.len(), hash.len()), (198, 16));
    }
}
