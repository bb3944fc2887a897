//! What is asked about edges of which one end is a target. Entry: [`Question`]. Pure.

use linkerd_names::{NoTls, ResourceType};

use crate::{
    query::{Aggregate, Condition, Function, Metric, NO_TLS_REASON, Part, Query, Selector, TLS},
    selected::Selected,
    stat_request::Target,
};

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) targets: &'a [Selected],
    /// The types of the targets, each once.
    pub(super) kinds: &'a [ResourceType],
}

impl Question<'_> {
    /// What clients' proxies counted, by both ends; either of them may be a target. What a target says to no pod is
    /// there by Service too.
    pub(super) fn meshed(&self, metric: Metric, function: Function) -> Query {
        let ends = ["", "dst_"].map(|prefix| (prefix, self.kinds));
        let targets = self.targets.iter();
        let parts = targets.flat_map(|it| {
            let [from, to] = ["", "dst_"].map(|prefix| Part {
                selector: selector(&it.target, "outbound", prefix, metric),
                by: labels_of(&ends),
            });
            let mut selector = from.selector.clone();
            let by = to_no_pod(&mut selector, ("", self.kinds));
            [from, to, Part { selector, by }]
        });
        sum(function, metric, parts.collect())
    }

    /// What servers' proxies counted of clients without TLS, for one reason.
    pub(super) fn unmeshed(&self, metric: Metric, function: Function, reason: NoTls) -> Query {
        let targets = self.targets.iter();
        let parts = targets.map(|it| {
            let mut selector = selector(&it.target, "inbound", "", metric);
            selector.insert(NO_TLS_REASON.to_owned(), Condition::is(reason.as_str()));
            let by = labels_of(&[("", self.kinds)]);
            Part { selector, by }
        });
        sum(function, metric, parts.collect())
    }
}

fn selector(target: &Target, direction: &str, prefix: &str, metric: Metric) -> Selector {
    let Target {
        kind,
        namespace,
        name,
    } = target;
    let mut selector = counted(direction, metric);
    if *kind != ResourceType::Namespace && !namespace.is_empty() {
        selector.insert(format!("{prefix}namespace"), Condition::is(namespace));
    }
    let name = if name.is_empty() {
        // Others, such as addresses outside of the cluster, are no objects of this type.
        Condition::is_set()
    } else {
        Condition::is(name)
    };
    selector.insert(format!("{prefix}{}", kind.metric_label()), name);
    selector
}

/// Selects what proxies counted in one direction, of connections those with the other end.
pub(super) fn counted(direction: &str, metric: Metric) -> Selector {
    let mut selector = Selector::new();
    selector.insert("direction".to_owned(), Condition::is(direction));
    if metric != Metric::Responses {
        let peer = if direction == "inbound" { "src" } else { "dst" };
        selector.insert("peer".to_owned(), Condition::is(peer));
    }
    selector
}

/// Restricts to what is said to no pod: an address, or a Service that leads to one. Returns the labels of the client
/// and of the Service; what has none, other parts tell in the same groups.
pub(super) fn to_no_pod(selector: &mut Selector, src: (&str, &[ResourceType])) -> Vec<String> {
    selector.insert("dst_pod".to_owned(), Condition::is(""));
    labels_of(&[src, ("dst_", &[ResourceType::Service])])
}

/// The labels of ends, each with the prefix of its labels and the types that it may have, and of the outcome of TLS.
pub(super) fn labels_of(ends: &[(&str, &[ResourceType])]) -> Vec<String> {
    let mut by = Vec::new();
    for (prefix, kinds) in ends {
        by.push(format!("{prefix}namespace"));
        for kind in *kinds {
            if *kind != ResourceType::Namespace {
                by.push(format!("{prefix}{}", kind.metric_label()));
            }
        }
    }
    by.extend([TLS, NO_TLS_REASON].map(str::to_owned));
    by
}

/// Adds up what was counted.
pub(super) fn sum(function: Function, metric: Metric, parts: Vec<Part>) -> Query {
    Query {
        aggregate: Aggregate::Sum,
        function,
        metric,
        parts,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use linkerd_proto::public::{Resource, ResourceSelection};

    use super::*;
    use crate::{promql::render, selected};

    const MOST: Function = Function::Max(Duration::from_secs(600));

    fn rendered(
        resources: &[(&str, &str, &str)],
        query: impl FnOnce(&Question<'_>) -> Query,
    ) -> String {
        let selections = resources
            .iter()
            .map(|(kind, namespace, name)| ResourceSelection {
                resource: Some(Resource {
                    namespace: (*namespace).into(),
                    r#type: (*kind).into(),
                    name: (*name).into(),
                }),
                label_selector: String::new(),
            });
        let mut selections: Vec<_> = selections.collect();
        let targets = selected::parse(selections.pop(), selections).expect("fine");
        let kinds: Vec<_> = targets.iter().map(|it| it.target.kind).collect();
        let question = Question {
            targets: &targets,
            kinds: &kinds,
        };
        render(&query(&question))
    }

    #[test]
    fn either_end_may_be_the_one_that_is_asked_for() {
        assert_eq!(
            rendered(&[("deployment", "shop", "")], |it| it
                .meshed(Metric::Responses, MOST)),
            "sum(max_over_time(response_total{deployment!=\"\", direction=\"outbound\", \
             namespace=\"shop\"}[10m])) by (namespace, deployment, dst_namespace, dst_deployment, \
             tls, no_tls_reason) or sum(max_over_time(response_total{direction=\"outbound\", \
             dst_deployment!=\"\", dst_namespace=\"shop\"}[10m])) by (namespace, deployment, \
             dst_namespace, dst_deployment, tls, no_tls_reason) or sum(max_over_time(response_total{\
             deployment!=\"\", direction=\"outbound\", dst_pod=\"\", namespace=\"shop\"}[10m])) by \
             (namespace, deployment, dst_namespace, dst_service, tls, no_tls_reason)"
        );
    }

    #[test]
    fn open_connections_are_those_of_now() {
        let (metric, latest) = (Metric::OpenConnections, Function::Latest);
        let query = |it: &Question<'_>| it.unmeshed(metric, latest, NoTls::PeerSentPlaintext);
        assert_eq!(
            rendered(&[("namespace", "", "shop")], query),
            "sum(tcp_open_connections{direction=\"inbound\", namespace=\"shop\", \
             no_tls_reason=\"peer_sent_plaintext\", peer=\"src\"}) by (namespace, tls, \
             no_tls_reason)"
        );
    }

    #[test]
    fn several_targets_are_alternatives_and_their_types_all_count() {
        let query = |it: &Question<'_>| it.unmeshed(Metric::Responses, MOST, NoTls::Probe);
        let targets = [("statefulset", "shop", "db"), ("deployment", "shop", "web")];
        assert_eq!(
            rendered(&targets, query),
            "sum(max_over_time(response_total{deployment=\"web\", direction=\"inbound\", \
             namespace=\"shop\", no_tls_reason=\"probe\"}[10m])) by (namespace, deployment, \
             statefulset, tls, no_tls_reason) or sum(max_over_time(response_total{\
             direction=\"inbound\", namespace=\"shop\", no_tls_reason=\"probe\", \
             statefulset=\"db\"}[10m])) by (namespace, deployment, statefulset, tls, no_tls_reason)"
        );
    }
}
