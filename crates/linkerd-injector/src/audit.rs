//! Looks for pods of the whole cluster that should have a proxy and have none, whenever they were created: before
//! the annotation, or while we were away. Entry: [`Audit::run`].
//!
//! It watches instead of listing. A watch costs the API server one list at its beginning and then what changes,
//! where a list every minute reads all pods of the cluster each time. Only metadata is sent, and the server leaves
//! out pods that have the label of a proxy, have ended, or are never meshed. So where all of 10,000 pods are meshed
//! nothing is sent, and where none is, 300 bytes of each are kept. Whole pods are read one by one, and of those that
//! are alike one, when they ask for a proxy.

use std::{collections::BTreeMap, time::Duration};

use futures::{Stream, StreamExt as _, future::ready};
use k8s_openapi::{
    api::core::v1::{Namespace, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use linkerd_kubernetes::watch_config;
use linkerd_names::{component, labels};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::{
    cluster::{FoundOwner, LookupError},
    decision::{Decision, NotMeshed},
    events::{self, NOT_MESHED, Report, WriteError, Writer},
    judge::Judge,
    metrics::Metrics,
    notice::{Example, Reason, note},
    unmeshed::{Alike, Group, Unmeshed},
};

/// Longest pause before something that failed is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How often things are done.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Pause between two looks, which take no call unless there is something new.
    pub look_every: Duration,
    /// From the first look that finds a pod which needs a restart to its Event: the two watches are not of one moment,
    /// and whoever annotates a namespace restarts its workloads next.
    pub grace: Duration,
    /// Kubernetes forgets an Event after an hour: after this time it is written again, if it is not there.
    pub tell_every: Duration,
}

/// Looks for pods without a proxy.
pub struct Audit {
    client: Client,
    judge: Judge,
    metrics: Metrics,
    events: Writer,
    pace: Pace,
    cases: BTreeMap<Alike, Case>,
}

/// What is known of pods that are alike.
struct Case {
    finding: Option<Finding>,
    /// Whether the API server has not said yet.
    is_unknown: bool,
    tries: u32,
    ask_at: Instant,
    /// None before it was told of.
    tell_at: Option<Instant>,
    found_at: Instant,
}

/// Why they have no proxy.
struct Finding {
    reason: Reason,
    /// The one that was looked at.
    pod: Example,
    owner: Option<FoundOwner>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            look_every: Duration::from_secs(2),
            grace: Duration::from_secs(10),
            tell_every: Duration::from_secs(15 * 60),
        }
    }
}

impl Audit {
    /// Looks by `client`, decides by `judge`, and tells by `metrics` and `events`.
    pub fn new(client: Client, judge: Judge, metrics: Metrics, events: Writer, pace: Pace) -> Self {
        Self {
            client,
            judge,
            metrics,
            events,
            pace,
            cases: BTreeMap::new(),
        }
    }

    /// Looks for ever.
    pub async fn run(mut self) {
        let mut unmeshed = Unmeshed::default();
        let mut namespaces = watch_namespaces(&self.client, &self.metrics).boxed();
        let control_plane = &self.judge.options.control_plane_namespace;
        let mut pods = watch_pods(&self.client, control_plane, &self.metrics).boxed();
        let mut looks = interval(self.pace.look_every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Nothing is lost when another branch wins: a stream keeps what it has not given.
            tokio::select! {
                Some(event) = namespaces.next() => unmeshed.see_namespace(event),
                Some(event) = pods.next() => unmeshed.see_pod(event),
                _ = looks.tick() => if unmeshed.is_complete() {
                    self.look(&unmeshed.groups()).await;
                }
            }
        }
    }

    /// Counts the pods of `groups` by their reason, and tells of those that were not told of lately.
    async fn look(&mut self, groups: &BTreeMap<Alike, Group>) {
        self.cases.retain(|alike, _| groups.contains_key(alike));
        // A server that does not answer about one is not asked about the others before the next look.
        let (mut is_silent, mut takes_no_events) = (false, false);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (alike, group) in groups {
            let now = Instant::now();
            let case = self.cases.entry(alike.clone()).or_insert_with(|| Case {
                finding: None,
                is_unknown: true,
                tries: 0,
                ask_at: now,
                tell_at: None,
                found_at: now,
            });
            // What is said of one that is gone helps nobody.
            case.finding.take_if(|it| it.pod.name != group.pod);
            if case.finding.is_none() && case.ask_at <= now && !is_silent {
                let found = find(&self.judge, alike, group).await;
                is_silent = matches!(found, Err(LookupError::Timeout(_)));
                case.note(found, now, self.pace.look_every);
            }
            let Some(finding) = &case.finding else {
                if case.is_unknown {
                    *counts.entry(NotMeshed::LOOKUP).or_default() += group.count;
                }
                continue;
            };
            let reason = finding.reason.as_str();
            *counts.entry(reason).or_default() += group.count;
            let tell_at = case.tell_at.unwrap_or(match finding.reason {
                Reason::NotMeshed(_) => now,
                Reason::NeedsRestart => case.found_at + self.pace.grace,
            });
            if tell_at > now || takes_no_events {
                continue;
            }
            let (namespace, pod) = (&alike.namespace, &group.pod);
            match self.events.write(finding.report(alike, group)).await {
                Ok(()) => {
                    debug!(namespace, pod, reason, "told that it has no proxy");
                    case.tell_at = Some(now + self.pace.tell_every);
                }
                Err(error) => {
                    warn!(namespace, pod, reason, %error, "cannot tell that it has no proxy");
                    takes_no_events = matches!(error, WriteError::Timeout);
                    case.tell_at = Some(now + PAUSE_MAX);
                }
            }
        }
        self.metrics.without_proxy(&counts);
    }
}

impl Case {
    /// Remembers what was found, and when to ask again when that is nothing.
    fn note(&mut self, found: Result<Option<Finding>, LookupError>, now: Instant, pause: Duration) {
        if matches!(found, Ok(Some(_))) {
            (self.tries, self.ask_at) = (0, now);
        } else {
            let pause = pause.saturating_mul(2_u32.saturating_pow(self.tries));
            (self.tries, self.ask_at) = (self.tries + 1, now + pause.min(PAUSE_MAX));
        }
        if let Err(error) = &found {
            warn!(%error, "cannot find out why a pod has no proxy");
        }
        self.is_unknown = found.is_err();
        self.finding = found.ok().flatten();
    }
}

impl Finding {
    fn report(&self, alike: &Alike, group: &Group) -> Report {
        let Self { reason, pod, owner } = self;
        let namespace = &alike.namespace;
        let mut regarding = events::regarding(owner.as_ref(), Some(&pod.name), namespace);
        if owner.is_none() {
            regarding.uid.clone_from(&pod.uid);
        }
        let owner = owner.as_ref().map(|found| &found.owner);
        Report {
            regarding,
            reason: NOT_MESHED,
            note: note(reason, pod, group.count, owner, namespace),
            cause: match reason {
                Reason::NotMeshed(reason) => reason.to_string(),
                // A restart that did not help is told of anew.
                Reason::NeedsRestart => format!("{} {}", reason.as_str(), alike.maker),
            },
        }
    }
}

/// Why one of `group` has no proxy; none when it is gone, or as it should be: then the watches say so soon.
async fn find(judge: &Judge, alike: &Alike, group: &Group) -> Result<Option<Finding>, LookupError> {
    let namespace = &alike.namespace;
    let Some(pod) = judge.cluster.pod(namespace, &group.pod).await? else {
        return Ok(None);
    };
    let mut value = serde_json::to_value(&pod).expect("a pod came as JSON");
    if was_named_later(&pod.metadata) {
        // As the webhook has seen it, or would.
        value["metadata"]["name"] = Value::Null;
    }
    let owners = pod.metadata.owner_references.unwrap_or_default();
    let example = Example {
        name: group.pod.clone(),
        uid: pod.metadata.uid,
        controller: owners
            .iter()
            .find(|it| it.controller == Some(true))
            .cloned(),
    };
    let (decision, owner) = judge.judge(&value, &owners, namespace).await;
    let reason = match decision {
        Decision::LeftAlone(_) => return Ok(None),
        Decision::NotMeshed(NotMeshed::Lookup(error)) => return Err(error),
        Decision::NotMeshed(reason) => Reason::NotMeshed(reason),
        Decision::Inject { .. } => Reason::NeedsRestart,
    };
    Ok(Some(Finding {
        reason,
        pod: example,
        owner,
    }))
}

/// Whether the API server has made up the end of the pod's name. Controllers may set both names, and know both.
fn was_named_later(metadata: &ObjectMeta) -> bool {
    /// What the API server takes for it.
    const ALPHABET: &str = "bcdfghjklmnpqrstvwxz2456789";
    let names = metadata
        .name
        .as_deref()
        .zip(metadata.generate_name.as_deref());
    names
        .and_then(|(name, prefix)| name.strip_prefix(prefix))
        .is_some_and(|end| end.len() == 5 && end.chars().all(|c| ALPHABET.contains(c)))
}

fn watch_namespaces(
    client: &Client,
    metrics: &Metrics,
) -> impl Stream<Item = Event<PartialObjectMeta<Namespace>>> + Send + use<> {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let events = watcher(api, watch_config());
    unbroken("namespaces", events, metrics.clone())
}

fn watch_pods(
    client: &Client,
    control_plane: &str,
    metrics: &Metrics,
) -> impl Stream<Item = Event<PartialObjectMeta<Pod>>> + Send + use<> {
    let api: Api<PartialObjectMeta<Pod>> = Api::all(client.clone());
    let mut fields = "status.phase!=Succeeded,status.phase!=Failed".to_owned();
    for namespace in [control_plane]
        .into_iter()
        .chain(component::NAMESPACES_NEVER_INJECTED)
    {
        fields += &format!(",metadata.namespace!={namespace}");
    }
    // Whoever has the label has the proxy, unless somebody has copied it while nobody could ask us.
    let without = format!("!{}", labels::CONTROL_PLANE_NAMESPACE);
    let events = watcher(api, watch_config().labels(&without).fields(&fields));
    unbroken("pods", events, metrics.clone())
}

/// What a watch tells; one that breaks is taken up again after a while.
fn unbroken<K>(
    kind: &'static str,
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    metrics: Metrics,
) -> impl Stream<Item = Event<K>> + Send
where
    K: Send,
{
    events.default_backoff().filter_map(move |event| {
        ready(match event {
            Ok(event) => Some(event),
            Err(error) => {
                warn!(watch = kind, %error, "watch broke, trying again");
                metrics.watch_failed(kind);
                None
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_whose_end_the_api_server_has_made_up_was_not_there_when_the_webhook_was_asked() {
        let later = |name: &str, generate_name: Option<&str>| {
            was_named_later(&ObjectMeta {
                name: Some(name.to_owned()),
                generate_name: generate_name.map(str::to_owned),
                ..ObjectMeta::default()
            })
        };
        assert!(later("web-5d4f-x7k2p", Some("web-5d4f-")));
        // Of a StatefulSet, of a controller with names of its own, and of whoever writes one.
        assert!(!later("web-0", Some("web-")));
        assert!(!later("web-first", Some("web-")));
        assert!(!later("web-x7k2p", None));
    }
}
