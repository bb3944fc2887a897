//! How much is written for the webhook's sake. Whoever reaches its port can make up a pod, so there are few Events
//! about what it was asked, and they quote nothing but words. Entries: [`Claims::admit`] and [`is_in_words`].

use std::{collections::HashMap, time::Duration};

use linkerd_names::annotations;
use serde_json::Value;
use tokio::time::Instant;

use crate::events::Report;

/// Kubernetes forgets an Event after an hour, and so do we.
const PERIOD: Duration = Duration::from_secs(60 * 60);
/// A namespace with more workloads than these that all have slips of their own sees the rest in the next hour.
const NAMESPACE_MAX: usize = 20;
/// In all namespaces together: as many objects more in etcd are not noticed.
const ALL_MAX: usize = 200;
/// Kubernetes' longest names of labels, ports and annotations are shorter.
const WORD_LENGTH_MAX: usize = 100;

/// What was written lately.
#[derive(Debug, Default)]
pub struct Claims {
    /// By the names of the Events: their namespaces, and when.
    written: HashMap<String, (String, Instant)>,
}

/// Whether an Event is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is.
    Write,
    /// It was.
    Written,
    /// There are too many.
    TooMany,
}

impl Claims {
    /// Whether the Event `name` of `report` is to be written `now`; it counts as written then.
    pub fn admit(&mut self, name: &str, report: &Report, now: Instant) -> Admission {
        self.written.retain(|_, (_, at)| now < *at + PERIOD);
        if self.written.contains_key(name) {
            return Admission::Written;
        }
        let namespace = report.regarding.namespace.clone().unwrap_or_default();
        let beside = self.written.values().filter(|(it, _)| *it == namespace);
        if self.written.len() >= ALL_MAX || beside.count() >= NAMESPACE_MAX {
            return Admission::TooMany;
        }
        self.written.insert(name.to_owned(), (namespace, now));
        Admission::Write
    }
}

/// Whether all that an Event would quote of `pod` are words, as the API server wants names to be: it does not take a
/// pod with others.
pub fn is_in_words(pod: &Value) -> bool {
    let notes = pod["metadata"]["annotations"].as_object();
    let are_notes_words = notes.into_iter().flatten().all(|(key, value)| {
        let is_quoted = key == annotations::PROXY_LOG_LEVEL;
        !key.starts_with(annotations::CONFIG_PREFIX)
            || is_word(key) && (!is_quoted || value.as_str().is_some_and(is_word))
    });
    let mut containers = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    are_notes_words
        && containers.all(|container| {
            let probes = ["startupProbe", "readinessProbe", "livenessProbe"]
                .map(|probe| &container[probe]["tcpSocket"]["port"]);
            let mut quoted = probes.into_iter().chain([&container["name"]]);
            quoted.all(|text| text.as_str().is_none_or(is_word))
        })
}

fn is_word(text: &str) -> bool {
    text.len() <= WORD_LENGTH_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._/:=,".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::events::{UNKNOWN_ANNOTATION, regarding};

    fn report(namespace: &str) -> Report {
        Report {
            regarding: regarding(None, Some("web"), namespace),
            reason: UNKNOWN_ANNOTATION,
            note: "a".to_owned(),
            cause: "a".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_written_once_an_hour() {
        let mut claims = Claims::default();
        let start = Instant::now();
        let mut admit = |seconds| {
            let now = start + Duration::from_secs(seconds);
            claims.admit("web.1", &report("shop"), now)
        };
        assert_eq!(admit(0), Admission::Write);
        assert_eq!(admit(3599), Admission::Written);
        assert_eq!(admit(3600), Admission::Write);
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_and_all_together_have_so_many_events() {
        let mut claims = Claims::default();
        let mut admitted = |namespace: &str, count: usize| {
            let names = (0..count).map(|number| format!("{namespace}.{number}"));
            let admissions =
                names.map(|name| claims.admit(&name, &report(namespace), Instant::now()));
            admissions.filter(|it| *it == Admission::Write).count()
        };
        assert_eq!(admitted("shop", 50), NAMESPACE_MAX);
        let all = NAMESPACE_MAX
            + (0..50)
                .map(|it| admitted(&format!("n{it}"), 5))
                .sum::<usize>();
        assert_eq!(all, ALL_MAX);
    }

    #[test]
    fn what_is_no_name_is_not_quoted() {
        let quoted = |change: fn(&mut Value)| {
            let mut pod = json!({
                "metadata": {"annotations": {
                    "config.linkerd.io/access-log": "apache", "config.linkerd.io/proxy-log-level": "wran,a=b",
                    "example.com/note": "call this number",
                }},
                "spec": {"containers": [{
                    "name": "app", "livenessProbe": {"tcpSocket": {"port": "sql"}},
                    "readinessProbe": {"tcpSocket": {"port": 80}},
                }]},
            });
            change(&mut pod);
            is_in_words(&pod)
        };
        assert!(quoted(|_| ()));
        for change in [
            (|pod| {
                pod["metadata"]["annotations"]["config.linkerd.io/call this number"] = json!("");
            }) as fn(&mut Value),
            |pod| {
                pod["metadata"]["annotations"]["config.linkerd.io/proxy-log-level"] =
                    json!("call this number");
            },
            |pod| pod["spec"]["containers"][0]["name"] = json!("call this number"),
            |pod| {
                pod["spec"]["containers"][0]["livenessProbe"]["tcpSocket"]["port"] =
                    json!("call this number");
            },
            |pod| pod["spec"]["containers"][0]["name"] = json!("a".repeat(200)),
        ] {
            assert!(!quoted(change));
        }
    }
}
