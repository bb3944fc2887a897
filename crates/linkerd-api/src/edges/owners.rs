//! Edges between the workloads of all kinds, and the pods that stand for themselves. Entry: [`Owners`].
//! Whoever answers adds up the pods of a workload: there may be thousands, and those that are gone count. So do bare
//! pods that are gone, and any may come: what there is now does not say which questions can be left out. One question
//! is about both.

use linkerd_names::{NoTls, OwnerKind, ResourceType};

use super::question::{counted, labels_of, sum, to_no_pod};
use crate::query::{Condition, Function, Metric, NO_TLS_REASON, Part, Query, Selector};

/// Kinds of workload. A pod's series have the label of at most one of them.
const WORKLOADS: [ResourceType; 7] = [
    ResourceType::Workload(OwnerKind::Deployment),
    ResourceType::Workload(OwnerKind::DaemonSet),
    ResourceType::Workload(OwnerKind::StatefulSet),
    ResourceType::Workload(OwnerKind::ReplicaSet),
    ResourceType::Workload(OwnerKind::ReplicationController),
    ResourceType::Workload(OwnerKind::CronJob),
    ResourceType::Workload(OwnerKind::Job),
];

const POD: ResourceType = ResourceType::Workload(OwnerKind::Pod);

/// Asks about them.
pub(super) struct Owners;

/// What an end of an edge is.
#[derive(Clone, Copy)]
enum Side {
    /// Series of no workload come together in groups without a name, which no end is.
    Workload,
    Pod,
}

impl Owners {
    /// What ends may be.
    pub(super) const KINDS: [ResourceType; 8] = {
        let [a, b, c, d, e, f, g] = WORKLOADS;
        [a, b, c, d, e, f, g, POD]
    };

    /// What clients' proxies counted, by both ends; what is said to no pod by Service too.
    pub(super) fn meshed(metric: Metric, function: Function) -> Query {
        let pairs = Side::ALL.map(|src| Side::ALL.map(|dst| (src, dst)));
        let parts = pairs.into_iter().flatten().map(|(src, dst)| {
            let mut selector = counted("outbound", metric);
            src.insert(&mut selector, "");
            dst.insert(&mut selector, "dst_");
            let by = labels_of(&[("", src.kinds()), ("dst_", dst.kinds())]);
            Part { selector, by }
        });
        let to_no_pod = Side::ALL.map(|src| {
            let mut selector = counted("outbound", metric);
            src.insert(&mut selector, "");
            let by = to_no_pod(&mut selector, ("", src.kinds()));
            Part { selector, by }
        });
        sum(function, metric, parts.chain(to_no_pod).collect())
    }

    /// What servers' proxies counted of clients without TLS, for one reason.
    pub(super) fn unmeshed(metric: Metric, function: Function, reason: NoTls) -> Query {
        let parts = Side::ALL.into_iter().map(|dst| {
            let mut selector = counted("inbound", metric);
            dst.insert(&mut selector, "");
            selector.insert(NO_TLS_REASON.to_owned(), Condition::is(reason.as_str()));
            let by = labels_of(&[("", dst.kinds())]);
            Part { selector, by }
        });
        sum(function, metric, parts.collect())
    }
}

impl Side {
    const ALL: [Self; 2] = [Self::Workload, Self::Pod];

    fn kinds(self) -> &'static [ResourceType] {
        match self {
            Self::Workload => &WORKLOADS,
            Self::Pod => &[POD],
        }
    }

    fn insert(self, selector: &mut Selector, prefix: &str) {
        if matches!(self, Self::Workload) {
            return;
        }
        for kind in WORKLOADS {
            let label = format!("{prefix}{}", kind.metric_label());
            selector.insert(label, Condition::is(""));
        }
        selector.insert(
            format!("{prefix}{}", POD.metric_label()),
            Condition::is_set(),
        );
    }
}
