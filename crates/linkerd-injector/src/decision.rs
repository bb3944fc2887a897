//! Decides whether a pod gets the proxy. Entry: [`without_asking`], and [`decide`] when that has no answer.
//! Pure: what the cluster knows comes in from `judge.rs`; `webhook.rs` and `audit.rs` act on the answer.

use std::collections::BTreeMap;

use linkerd_inject::{ObjectError, Options, Outcome, inject_pod, report::Entry};
use linkerd_names::{Owner, annotations, component, labels};
use serde_json::Value;

use crate::{cluster::LookupError, events::UNKNOWN_ANNOTATION};

/// What becomes of a pod.
#[derive(Debug)]
pub enum Decision {
    /// It gets the proxy.
    Inject {
        /// The pod as it is to be.
        pod: Value,
        /// What will not be as its owner wants it.
        warnings: Vec<Warning>,
    },
    /// It is as it should be.
    LeftAlone(LeftAlone),
    /// It should have a proxy, and starts without one.
    NotMeshed(NotMeshed),
}

/// What people are told of a pod that got the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The Event's word for machines.
    pub reason: &'static str,
    /// A sentence.
    pub note: String,
}

/// Why a pod is as it should be without us. The words are values of the metric label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftAlone {
    /// Neither the pod nor its namespace asks for a proxy.
    NotAsked,
    /// The pod forbids it, or the namespace does and the pod says nothing.
    Disabled,
    /// The namespace is the cluster's own, or that of the control plane.
    Namespace,
    /// It is the image of a static pod, which runs as the node's file says, whatever is changed here; and the API
    /// server refuses one with a Secret or a token.
    StaticPod,
    /// It has our proxy.
    AlreadyInjected,
}

/// Why a pod that should be meshed is not.
#[derive(Debug, thiserror::Error)]
pub enum NotMeshed {
    /// The rules of linkerd-init would be the node's.
    #[error(
        "it uses the host's network (hostNetwork: true), whose rules must not be rewritten; annotate its \
         template with linkerd.io/inject: disabled if that is meant"
    )]
    HostNetwork,
    /// Two proxies would redirect each other's traffic.
    #[error(
        "it has the proxy of another mesh; take that out, or annotate the template with \
         linkerd.io/inject: disabled"
    )]
    OtherProxy,
    /// The proxy is a program for Linux.
    #[error(
        "it is for nodes with Windows, and the proxy for Linux; annotate its template with \
         linkerd.io/inject: disabled"
    )]
    Windows,
    /// The annotation is neither of the two words.
    #[error(
        "the annotation linkerd.io/inject is {0:?}, which is neither \"enabled\" nor \"disabled\""
    )]
    UnknownWord(String),
    /// Nobody knows whether it is to be meshed, or as what.
    #[error("{0}; delete the pod to try again")]
    Lookup(#[from] LookupError),
    /// It cannot have a proxy as it is.
    #[error(transparent)]
    Refused(#[from] ObjectError),
}

impl LeftAlone {
    /// Value of the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::Disabled => "disabled",
            Self::Namespace => "namespace",
            Self::StaticPod => "static_pod",
            Self::AlreadyInjected => "already_injected",
        }
    }
}

impl NotMeshed {
    /// The word of [`Self::Lookup`].
    pub const LOOKUP: &'static str = "lookup";
    /// Every value of the metric label `reason`.
    pub const WORDS: [&'static str; 6] = [
        "host_network",
        "other_proxy",
        "windows",
        "unknown_word",
        Self::LOOKUP,
        "refused",
    ];

    /// Value of the metric label.
    pub const fn as_str(&self) -> &'static str {
        let [
            host_network,
            other_proxy,
            windows,
            unknown_word,
            lookup,
            refused,
        ] = Self::WORDS;
        match self {
            Self::HostNetwork => host_network,
            Self::OtherProxy => other_proxy,
            Self::Windows => windows,
            Self::UnknownWord(_) => unknown_word,
            Self::Lookup(_) => lookup,
            Self::Refused(_) => refused,
        }
    }
}

/// What can be said of `pod` without asking the cluster; none when its namespace matters.
pub fn without_asking(
    pod: &Value,
    namespace: &str,
    control_plane_namespace: &str,
) -> Option<LeftAlone> {
    let metadata = &pod["metadata"];
    if namespace == control_plane_namespace
        || component::NAMESPACES_NEVER_INJECTED.contains(&namespace)
    {
        return Some(LeftAlone::Namespace);
    }
    if metadata["annotations"][annotations::STATIC_POD].is_string() {
        return Some(LeftAlone::StaticPod);
    }
    if metadata["annotations"][annotations::INJECT] == annotations::INJECT_DISABLED {
        return Some(LeftAlone::Disabled);
    }
    // `linkerd inject` has done it, or another injector. The label alone proves nothing: it may be copied.
    let is_labelled = metadata["labels"][labels::CONTROL_PLANE_NAMESPACE].is_string();
    (is_labelled && has_proxy(&pod["spec"])).then_some(LeftAlone::AlreadyInjected)
}

fn has_proxy(spec: &Value) -> bool {
    let mut containers = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| spec[list].as_array().into_iter().flatten());
    containers.any(|container| container["name"] == component::PROXY_CONTAINER)
}

/// What the word of a pod asks for, and that of its namespace when the pod has none.
///
/// # Errors
/// Why they ask for no proxy, or for nothing that we know.
pub fn asked(
    own: Option<&str>,
    namespace_annotations: &BTreeMap<String, String>,
) -> Result<(), Decision> {
    let inherited = namespace_annotations.get(annotations::INJECT);
    match own.or(inherited.map(String::as_str)) {
        None | Some("") => Err(Decision::LeftAlone(LeftAlone::NotAsked)),
        Some(annotations::INJECT_ENABLED) => Ok(()),
        Some(annotations::INJECT_DISABLED) => Err(Decision::LeftAlone(LeftAlone::Disabled)),
        Some(other) => Err(Decision::NotMeshed(NotMeshed::UnknownWord(
            other.to_owned(),
        ))),
    }
}

/// Adds the proxy to `pod`, which asked for it and is a part of `owner`.
pub fn decide(
    mut pod: Value,
    namespace: &str,
    namespace_annotations: &BTreeMap<String, String>,
    owner: Option<&Owner>,
    options: &Options,
) -> Decision {
    match inject_pod(&mut pod, owner, namespace, namespace_annotations, options) {
        Err(error) => Decision::NotMeshed(NotMeshed::Refused(error)),
        Ok(entry) => match entry.outcome {
            Outcome::Injected => Decision::Inject {
                pod,
                warnings: warnings(&entry),
            },
            Outcome::HostNetwork => Decision::NotMeshed(NotMeshed::HostNetwork),
            Outcome::KnownSidecar => Decision::NotMeshed(NotMeshed::OtherProxy),
            Outcome::Windows => Decision::NotMeshed(NotMeshed::Windows),
            Outcome::Disabled => Decision::LeftAlone(LeftAlone::Disabled),
            Outcome::Unsupported | Outcome::Uninjected | Outcome::Owned => {
                Decision::LeftAlone(LeftAlone::NotAsked)
            }
        },
    }
}

/// What `linkerd inject` warns of as well.
fn warnings(entry: &Entry) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if !entry.ignored.is_empty() {
        let note = format!(
            "unknown annotations have no effect: {}",
            entry.ignored.join(", ")
        );
        warnings.push(Warning {
            reason: UNKNOWN_ANNOTATION,
            note,
        });
    }
    if entry.endless {
        let note = format!(
            "pods of {} never complete, because a plain sidecar does not end with the containers: annotate \
             the pod template with {}: \"true\"",
            entry.object,
            annotations::PROXY_ENABLE_NATIVE_SIDECAR
        );
        let reason = "NeverCompletes";
        warnings.push(Warning { reason, note });
    }
    if !entry.unknown_ports.is_empty() {
        let note = format!(
            "tcpSocket probes of ports that are not there: {}",
            entry.unknown_ports.join(", ")
        );
        let reason = "UnknownProbePort";
        warnings.push(Warning { reason, note });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(annotations: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": "web-1-", "annotations": annotations},
            "spec": {"containers": [{"name": "app", "image": "shop/web:1"}]},
        })
    }

    fn namespace(word: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(annotations::INJECT.to_owned(), word.to_owned())])
    }

    fn reason(decision: &Decision) -> &'static str {
        match decision {
            Decision::Inject { .. } => "inject",
            Decision::LeftAlone(reason) => reason.as_str(),
            Decision::NotMeshed(reason) => reason.as_str(),
        }
    }

    #[test]
    fn the_word_of_the_pod_wins_over_that_of_the_namespace() {
        for (own, inherited, expected) in [
            (None, None, "not_asked"),
            (None, Some("enabled"), "inject"),
            (None, Some("disabled"), "disabled"),
            (Some("enabled"), None, "inject"),
            (Some("enabled"), Some("disabled"), "inject"),
            (Some("disabled"), Some("enabled"), "disabled"),
            (Some("yes"), Some("enabled"), "unknown_word"),
            (None, Some("true"), "unknown_word"),
        ] {
            let namespace = inherited.map(namespace).unwrap_or_default();
            let found = match asked(own, &namespace) {
                Ok(()) => "inject",
                Err(decision) => reason(&decision),
            };
            assert_eq!(found, expected, "{own:?} {inherited:?}");
        }
    }

    #[test]
    fn what_is_not_ours_to_mesh_is_known_without_asking() {
        let plain = pod(json!({"linkerd.io/inject": "enabled"}));
        let without = |pod: &Value, namespace: &str| without_asking(pod, namespace, "linkerd");
        assert_eq!(without(&plain, "shop"), None);
        assert_eq!(without(&plain, "linkerd"), Some(LeftAlone::Namespace));
        assert_eq!(without(&plain, "kube-system"), Some(LeftAlone::Namespace));
        let disabled = pod(json!({"linkerd.io/inject": "disabled"}));
        assert_eq!(without(&disabled, "shop"), Some(LeftAlone::Disabled));
        let of_node =
            pod(json!({"linkerd.io/inject": "enabled", "kubernetes.io/config.mirror": "a"}));
        assert_eq!(without(&of_node, "shop"), Some(LeftAlone::StaticPod));
        let mut injected = plain;
        injected["metadata"]["labels"] = json!({"linkerd.io/control-plane-ns": "linkerd"});
        assert_eq!(without(&injected, "shop"), None, "the label alone");
        for list in ["initContainers", "containers"] {
            let mut injected = injected.clone();
            injected["spec"][list] = json!([{"name": "linkerd-proxy"}]);
            let expected = Some(LeftAlone::AlreadyInjected);
            assert_eq!(without(&injected, "shop"), expected, "{list}");
        }
    }

    #[test]
    fn a_pod_that_cannot_be_meshed_says_why() {
        let owner = Owner {
            namespace: "shop".to_owned(),
            kind: linkerd_names::OwnerKind::Deployment,
            name: "web".to_owned(),
        };
        let decided = |change: fn(&mut Value)| {
            let mut pod = pod(json!({}));
            change(&mut pod);
            let options = Options::default();
            decide(pod, "shop", &BTreeMap::new(), Some(&owner), &options)
        };
        for (change, expected) in [
            (
                (|pod| pod["spec"]["hostNetwork"] = json!(true)) as fn(&mut Value),
                "host_network",
            ),
            (
                |pod| pod["spec"]["containers"][0]["name"] = json!("istio-proxy"),
                "other_proxy",
            ),
            (
                |pod| pod["spec"]["os"] = json!({"name": "windows"}),
                "windows",
            ),
            (
                |pod| pod["spec"]["securityContext"] = json!({"runAsUser": 2102}),
                "refused",
            ),
            (
                |pod| {
                    pod["metadata"]["annotations"] = json!({"config.linkerd.io/proxy-uid": "root"});
                },
                "refused",
            ),
            (
                |pod| {
                    pod["metadata"]["annotations"] =
                        json!({"config.linkerd.io/admin-port": "4143"});
                },
                "refused",
            ),
            (
                |pod| {
                    pod["metadata"]["annotations"] =
                        json!({"config.linkerd.io/proxy-log-level": "((("});
                },
                "inject",
            ),
            (|_| (), "inject"),
        ] {
            assert_eq!(reason(&decided(change)), expected);
        }
    }

    #[test]
    fn what_will_not_be_as_it_is_meant_is_told() {
        let owner = Owner {
            namespace: "shop".to_owned(),
            kind: linkerd_names::OwnerKind::Job,
            name: "import".to_owned(),
        };
        let reasons = |change: fn(&mut Value)| {
            let mut pod = pod(json!({}));
            change(&mut pod);
            let options = Options::default();
            match decide(pod, "shop", &BTreeMap::new(), Some(&owner), &options) {
                Decision::Inject { warnings, .. } => warnings
                    .into_iter()
                    .map(|warning| (warning.reason, warning.note))
                    .unzip::<_, _, Vec<_>, Vec<_>>(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reasons(|_| ()).0, Vec::<&str>::new());
        let (reasons, notes) = reasons(|pod| {
            pod["metadata"]["annotations"] = json!({
                "config.linkerd.io/proxy-enable-native-sidecar": "false",
                "config.linkerd.io/access-log": "apache",
            });
            pod["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": "sql"}});
        });
        assert_eq!(
            reasons,
            ["UnknownAnnotation", "NeverCompletes", "UnknownProbePort"]
        );
        assert!(notes[0].contains("access-log"), "{notes:?}");
        assert!(notes[1].contains("job/import"), "{notes:?}");
        assert!(notes[2].contains("\"sql\""), "{notes:?}");
    }
}
