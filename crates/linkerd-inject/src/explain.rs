//! Says what injection will do to each workload of some manifests, and what will break first.
//! Entry: [`explain`]. Pure, as injection is; it looks at the pods that injection really makes, and at
//! nothing but the manifests, and the Namespaces that it is given.

mod annotated;
mod findings;
mod inherited;
mod limits;
mod network_policies;
mod pod;
mod ports;
mod probes;
mod protocol;
mod surroundings;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::{
    DocumentError, Options, Outcome, Source,
    config::{Configured, configure},
    documents,
    object::{self, Workload},
    options::{Sidecar, TlsMode},
    report::Entry,
};
use inherited::{Inherited, inherit};
use pod::Pod;
use surroundings::Surroundings;

pub use ports::{Handling, PortPlan, Secured};
pub use probes::ProbePlan;
pub use protocol::{Evidence, Expected, Protocol};

/// What will happen to the workloads of all manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// In the order in which they were read.
    pub workloads: Vec<WorkloadPlan>,
    /// What is true of all of them.
    pub notes: Vec<String>,
}

/// What will happen to one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadPlan {
    /// `deployment/web`.
    pub object: String,
    /// None when the manifest leaves it to kubectl.
    pub namespace: Option<String>,
    /// Whether its pods will have a proxy.
    pub fate: Fate,
    /// What the proxy adds, when there will be one.
    pub proxy: Option<ProxyPlan>,
    /// The TCP and other ports that containers or Services of the manifests name.
    pub ports: Vec<PortPlan>,
    /// How kubelet's probes arrive.
    pub probes: Vec<ProbePlan>,
    /// What else is worth knowing; nothing that breaks.
    pub notes: Vec<String>,
    /// What will break, worst first: the first one is what will be met first.
    pub findings: Vec<Finding>,
}

/// Whether pods will have a proxy, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// They will.
    Meshed,
    /// They use the host's network, whose rules would be rewritten.
    HostNetwork,
    /// They have a proxy already.
    KnownSidecar,
    /// The annotation `linkerd.io/inject: disabled` says so.
    Disabled,
    /// They are for nodes with Windows, and the proxy for Linux.
    Windows,
    /// Injection ends with an error, which is the first finding.
    Refused,
}

/// What injection adds to a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyPlan {
    /// Where the proxy stands in the pod.
    pub sidecar: Placed,
    /// Whom the pods will prove to be; none without TLS. `<namespace>` stands for one that the
    /// manifest leaves to kubectl.
    pub identity: Option<String>,
    /// Name of the Secret with the certificate and its key; none without TLS, and when the proxy asks the
    /// identity service.
    pub secret: Option<String>,
    /// CPU that the proxy adds to what the scheduler reserves, as a Kubernetes quantity.
    pub cpu_request: Option<String>,
    /// Memory, likewise.
    pub memory_request: Option<String>,
    /// Ranges of ports of other pods to which connections do not go through the proxy.
    pub skip_outbound_ports: Option<String>,
}

/// Where the proxy stands in the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placed {
    /// An init container that keeps running.
    Native,
    /// One more container.
    Plain,
}

/// Something that will not work as it did, or not as the mesh promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What will happen, and because of which field.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// How bad a finding is; the worst is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Pods are not made, do not start or do not end.
    Breaks,
    /// Pods run, but something is lost: a probe's meaning, encryption, figures.
    Degrades,
}

/// Says what [`crate::inject`] with these options will do to each workload in `sources`, and what
/// `linkerd-injector` takes from its Namespace when that asks for the proxy. `namespaces` are those of the
/// cluster, as far as they are known; those in `sources` win.
///
/// A workload that cannot be injected is no error here: that is its first finding.
///
/// # Errors
/// [`DocumentError`] names the source, the document and the line of the first one that cannot be read.
pub fn explain(
    sources: &[Source],
    options: &Options,
    namespaces: &[Value],
) -> Result<Explanation, DocumentError> {
    let mut surroundings = Surroundings::of(sources)?;
    for namespace in namespaces {
        surroundings.add(namespace);
    }
    let mut workloads = Vec::new();
    let mut images = Vec::new();
    let output = documents::map(sources, |object| {
        object::visit(object, &mut |workload, template| {
            let before = Value::Object(template.clone());
            let of_namespace = surroundings.namespace_annotations(workload);
            let inherited = inherit(workload, template, &of_namespace);
            let configured = configure(workload, template, options);
            let (inherited, outcome) = match inherited {
                Ok(inherited) => {
                    let outcome = crate::pod::inject(workload, template, options);
                    (inherited, outcome)
                }
                Err(error) => (Inherited::default(), Err(error)),
            };
            let after = Value::Object(template.clone());
            let (fate, error) = match outcome {
                Ok(entry) => (Fate::from(entry.outcome), None),
                Err(error) => (Fate::Refused, Some(error.to_string())),
            };
            // What cannot be configured is what injection has refused.
            let (options, ignored) = match configured {
                Ok(Configured {
                    options, ignored, ..
                }) => (options, ignored),
                Err(_) => (options.clone(), Vec::new()),
            };
            let pod = Pod {
                workload,
                before: &before,
                after: &after,
                options: &options,
                ignored: &ignored,
                inherited: &inherited,
                fate,
            };
            images.extend(pod.images().map(str::to_owned));
            workloads.push(plan(&pod, &surroundings, error));
            Ok(unprinted(workload))
        })
    })?;
    let mut notes = Vec::new();
    let entries = output.report.entries.iter();
    let owned = entries.filter(|entry| entry.outcome == Outcome::Owned);
    match owned.count() {
        0 => {}
        count => notes.push(format!(
            "Left out because other workloads make them, and anew when they are injected: {count} objects."
        )),
    }
    if workloads.iter().any(|plan| plan.fate == Fate::Meshed) {
        notes.extend(general_notes(options, &images));
    }
    Ok(Explanation { workloads, notes })
}

/// The namespaces of the workloads in `sources` whose Namespaces are not there: what these configure and
/// forbid, only the cluster knows.
///
/// # Errors
/// [`DocumentError`] as for [`explain`].
pub fn namespaces_elsewhere(sources: &[Source]) -> Result<BTreeSet<String>, DocumentError> {
    let surroundings = Surroundings::of(sources)?;
    let mut namespaces = BTreeSet::new();
    documents::map(sources, |object| {
        object::visit(object, &mut |workload, _| {
            if surroundings.namespace_of(workload).is_none() {
                namespaces.extend(workload.namespace.clone());
            }
            Ok(unprinted(workload))
        })
    })?;
    Ok(namespaces)
}

/// Nothing is to be printed of the document.
fn unprinted(workload: &Workload) -> Entry {
    Entry::new(workload.to_string(), Outcome::Unsupported)
}

impl Explanation {
    /// Whether some workload's pods are not made, do not start or do not end.
    pub fn breaks(&self) -> bool {
        let mut findings = self.workloads.iter().flat_map(|plan| &plan.findings);
        findings.any(|finding| finding.severity == Severity::Breaks)
    }
}

impl From<Outcome> for Fate {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Injected => Self::Meshed,
            Outcome::HostNetwork => Self::HostNetwork,
            Outcome::KnownSidecar => Self::KnownSidecar,
            Outcome::Disabled => Self::Disabled,
            Outcome::Windows => Self::Windows,
            // What injection never says of a workload.
            Outcome::Uninjected | Outcome::Owned | Outcome::Unsupported => Self::Refused,
        }
    }
}

fn plan(pod: &Pod<'_>, surroundings: &Surroundings, error: Option<String>) -> WorkloadPlan {
    let services = surroundings.services_of(pod);
    let ports = ports::plan(pod, &services);
    WorkloadPlan {
        object: pod.workload.to_string(),
        namespace: pod.workload.namespace.clone(),
        fate: pod.fate,
        proxy: pod.proxy_plan(),
        probes: probes::plan(pod),
        notes: findings::notes(pod, &services),
        findings: findings::find(pod, surroundings, &ports, error),
        ports,
    }
}

fn general_notes(options: &Options, images: &[String]) -> Vec<String> {
    let Options { tls, sidecar, .. } = options;
    let mut notes = Vec::new();
    if *tls == TlsMode::Off {
        notes.push(
            "Without --tls=optional nothing is encrypted: every connection is plaintext, reason \
             disabled."
                .to_owned(),
        );
    }
    if *sidecar == Sidecar::Native {
        notes.push(
            "Native sidecars need Kubernetes 1.29 or later: older ones wait for the proxy to end before \
             they start the containers."
                .to_owned(),
        );
    }
    // Annotations may have chosen another one for a pod.
    let images: BTreeSet<&str> = images.iter().map(String::as_str).collect();
    let images: Vec<&str> = images.into_iter().rev().collect();
    notes.push(format!(
        "Nodes pull {}; name another registry with --registry.",
        images.join(" and ")
    ));
    notes
}
