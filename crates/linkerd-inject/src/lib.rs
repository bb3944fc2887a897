//! Adds the proxy to the pods in Kubernetes manifests: documents in, documents and a report out.
//! Entry: [`inject`] and [`uninject`] for text, [`inject_object`] for one parsed object, [`inject_pod`] for
//! a pod that a controller is about to create, and [`explain()`] for what injection will do.
//! Pure: no file, no network; fields that it does not know stay as they are.

mod config;
mod documents;
mod error;
pub mod explain;
mod known_sidecars;
mod object;
mod opaque_ports;
pub mod options;
mod pod;
mod pod_resources;
mod proxy_ports;
mod quantity;
mod removal;
pub mod report;
mod sidecar;
mod tcp_probes;
pub mod yaml;

use std::collections::BTreeMap;

use linkerd_names::Owner;
use serde_json::Value;

use object::Workload;

pub use error::{DocumentError, ObjectError};
pub use explain::explain;
pub use options::{InvalidOption, Options};
pub use report::{Outcome, Report};

/// One text with manifests.
#[derive(Clone, Debug)]
pub struct Source {
    /// What error messages call it: a path, or `stdin`.
    pub name: String,
    /// YAML documents, or one JSON document.
    pub text: String,
}

/// The result of [`inject`] or [`uninject`].
#[derive(Clone, Debug)]
pub struct Output {
    /// Every document of every source, each followed by `---`. Documents without a change are
    /// there byte for byte.
    pub yaml: String,
    /// What was done with each object.
    pub report: Report,
}

/// Adds the proxy to each workload in `sources`. All or nothing.
///
/// # Errors
/// [`DocumentError`] names the source, the document and the line of the first one that cannot be
/// read or injected.
pub fn inject(sources: &[Source], options: &Options) -> Result<Output, DocumentError> {
    documents::map(sources, |object| inject_object(object, options))
}

/// Takes out of each workload in `sources` what [`inject`] has put there. All or nothing.
///
/// # Errors
/// [`DocumentError`] names the source, the document and the line of the first one that cannot be
/// read.
pub fn uninject(sources: &[Source]) -> Result<Output, DocumentError> {
    documents::map(sources, |object| {
        object::visit(object, &mut |workload, template| {
            Ok(removal::remove(workload, template))
        })
    })
}

/// Adds the proxy to `object`, or to each item when it is a List, and reports on each of them.
///
/// # Errors
/// [`ObjectError`] names the object; it may be half changed then.
pub fn inject_object(
    object: &mut Value,
    options: &Options,
) -> Result<Vec<report::Entry>, ObjectError> {
    object::visit(object, &mut |workload, template| {
        let entry = pod::inject(workload, template, options)?;
        let injected = entry.outcome == Outcome::Injected;
        let word = template.get("metadata").and_then(object::unknown_word);
        Ok(report::Entry {
            unknown_word: word.filter(|_| injected),
            ..entry
        })
    })
}

/// Adds the proxy to `pod`, which is about to be created in `namespace` as a part of `owner`, whose
/// identity it gets; without an owner it is a workload itself. What the namespace's annotations configure is
/// written onto the pod.
///
/// # Errors
/// [`ObjectError`] names the workload; the pod may be half changed then.
pub fn inject_pod(
    pod: &mut Value,
    owner: Option<&Owner>,
    namespace: &str,
    namespace_annotations: &BTreeMap<String, String>,
    options: &Options,
) -> Result<report::Entry, ObjectError> {
    let workload = Workload::of_pod(pod, owner, namespace).ok_or(ObjectError::NoPod)?;
    let fields = pod.as_object_mut().ok_or(ObjectError::NoPod)?;
    config::inherit(&workload, fields, namespace_annotations)?;
    pod::inject(&workload, fields, options)
}
