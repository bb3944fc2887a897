//! Why a document or an object in it cannot be injected.
//! The texts name the object, because one file holds many.

use linkerd_names::InvalidIdentity;
use thiserror::Error;

use crate::yaml::InvalidYaml;

/// A document that stops the whole run.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// It is not YAML.
    #[error("{name}: document {number} of {count}, {error}")]
    Yaml {
        /// The source's name.
        name: String,
        /// Which document of the source, from 1 on.
        number: usize,
        /// How many documents the source has.
        count: usize,
        /// What is wrong, and in which line of the source.
        error: InvalidYaml,
    },
    /// It is YAML, but no mapping, which every Kubernetes object is.
    #[error("{name}: document {number} of {count}, line {line}: it is not a Kubernetes object")]
    NoObject {
        /// The source's name.
        name: String,
        /// Which document of the source, from 1 on.
        number: usize,
        /// How many documents the source has.
        count: usize,
        /// Where the document begins in the source.
        line: usize,
    },
    /// The object in it cannot be injected.
    #[error("{name}: document {number} of {count}, line {line}: {error}")]
    Object {
        /// The source's name.
        name: String,
        /// Which document of the source, from 1 on.
        number: usize,
        /// How many documents the source has.
        count: usize,
        /// Where the document begins in the source.
        line: usize,
        /// The object and its fault.
        error: Box<ObjectError>,
    },
}

/// An object that cannot be injected.
#[derive(Debug, Error)]
pub enum ObjectError {
    /// The proxy's identity and its Secret are named after the workload.
    #[error(
        "{kind} with generateName {generate_name:?} has no name: its certificate is named after it; \
         give it a name, or inject it without --tls"
    )]
    GenerateName {
        /// The kind in lower case.
        kind: String,
        /// Its `metadata.generateName`.
        generate_name: String,
    },
    /// Neither `metadata.name` nor `metadata.generateName` is there.
    #[error("a {kind} has no metadata.name")]
    NoName {
        /// The kind in lower case.
        kind: String,
    },
    /// Something else where a pod should be.
    #[error("it is not a pod")]
    NoPod,
    /// The workload's name cannot be part of an identity.
    #[error("{object}: {error}; inject it without --tls")]
    Identity {
        /// `deployment/web`.
        object: String,
        /// Why.
        error: InvalidIdentity,
    },
    /// A field does not have the type that Kubernetes wants.
    #[error("{object}: {path} is not a {expected}")]
    WrongType {
        /// `deployment/web`.
        object: String,
        /// `spec.template.spec.containers`.
        path: String,
        /// `list` or `mapping`.
        expected: &'static str,
    },
    /// A container's traffic would not enter the proxy.
    #[error(
        "{object}: container {container:?} runs as user {uid}, which is the proxy's, so that its \
         traffic would bypass the proxy: give one of them another user (runAsUser, --proxy-uid)"
    )]
    ProxyUser {
        /// `deployment/web`.
        object: String,
        /// The container's name.
        container: String,
        /// The user id.
        uid: u32,
    },
    /// An annotation of the pod template cannot be read.
    #[error("{object}: annotation {annotation}: {error}")]
    Annotation {
        /// `deployment/web`.
        object: String,
        /// The annotation's key.
        annotation: &'static str,
        /// Why.
        error: crate::options::InvalidOption,
    },
    /// The proxy would not start.
    #[error(
        "{object}: the proxy would listen on port {port} twice: give another one to {} ({}) or to {} ({})",
        annotations[0], flags[0], annotations[1], flags[1]
    )]
    SamePort {
        /// `deployment/web`.
        object: String,
        /// The port.
        port: u16,
        /// The keys of the annotations that set the two.
        annotations: [&'static str; 2],
        /// The flags that do.
        flags: [&'static str; 2],
    },
    /// The container would not start.
    #[error(
        "{object}: container {container:?} listens on port {port}, and so would the proxy: give the proxy another \
         one by {annotation} ({flag})"
    )]
    TakenPort {
        /// `deployment/web`.
        object: String,
        /// The container's name.
        container: String,
        /// The port.
        port: u16,
        /// The key of the annotation that sets the proxy's.
        annotation: &'static str,
        /// The flag that does.
        flag: &'static str,
    },
    /// The API server would refuse the pod.
    #[error(
        "{object}: annotation {limit_annotation}: {limit} is less than the request, which is {request}: \
         change it or {request_annotation}"
    )]
    LimitBelowRequest {
        /// `deployment/web`.
        object: String,
        /// The key of the annotation that sets the request.
        request_annotation: &'static str,
        /// The request, from an annotation or by default.
        request: String,
        /// The key of the annotation that sets the limit.
        limit_annotation: &'static str,
        /// The limit.
        limit: String,
    },
}
