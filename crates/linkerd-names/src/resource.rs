//! What `linkerd stat` can be asked about: workloads, and a few things that are none.

use std::{fmt, str::FromStr};

use crate::{OwnerKind, UnknownKind};

/// A type of object with traffic, as the CLI and `linkerd-api` write it to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// Every type that lives in a namespace.
    All,
    /// The host a client asked for: `:authority` or `Host`.
    Authority,
    /// All workloads of a namespace.
    Namespace,
    /// `v1` Service.
    Service,
    /// A workload, or a single pod.
    Workload(OwnerKind),
}

impl ResourceType {
    /// The types that [`ResourceType::All`] stands for, in the order of display.
    pub const IN_ALL: [Self; 10] = [
        Self::Workload(OwnerKind::Deployment),
        Self::Workload(OwnerKind::DaemonSet),
        Self::Workload(OwnerKind::StatefulSet),
        Self::Workload(OwnerKind::ReplicaSet),
        Self::Workload(OwnerKind::ReplicationController),
        Self::Workload(OwnerKind::CronJob),
        Self::Workload(OwnerKind::Job),
        Self::Workload(OwnerKind::Pod),
        Self::Service,
        Self::Authority,
    ];

    /// The type in lower case: `deployment`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Authority => "authority",
            Self::Namespace => "namespace",
            Self::Service => "service",
            Self::Workload(kind) => kind.as_str(),
        }
    }

    /// The metric label that names an object of this type.
    pub const fn metric_label(self) -> &'static str {
        match self {
            Self::Workload(kind) => kind.metric_label(),
            other => other.as_str(),
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ResourceType {
    type Err = UnknownKind;

    /// Reads exactly what [`ResourceType::as_str`] writes.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        [Self::All, Self::Namespace]
            .into_iter()
            .chain(Self::IN_ALL)
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_as_it_is_written() {
        for kind in [ResourceType::All, ResourceType::Namespace]
            .into_iter()
            .chain(ResourceType::IN_ALL)
        {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        for wrong in ["", "Deployment", "deploy", "svc"] {
            assert!(wrong.parse::<ResourceType>().is_err(), "{wrong}");
        }
    }
}
