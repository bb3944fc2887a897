//! How people write what they ask about: `deploy`, `po/web-0`, `svc web`.
//! Entry: [`parse`]. Pure.

use linkerd_names::{OwnerKind, ResourceType};
use linkerd_proto::public::Resource;

/// The words for each type: its own, kubectl's short forms and plurals; and the prefix of names in
/// `stat all`.
const WORDS: [(ResourceType, &[&str], &str); 12] = [
    (ResourceType::All, &["all"], ""),
    (
        ResourceType::Authority,
        &["au", "authority", "authorities"],
        "au/",
    ),
    (
        ResourceType::Namespace,
        &["ns", "namespace", "namespaces"],
        "ns/",
    ),
    (
        ResourceType::Service,
        &["svc", "service", "services"],
        "svc/",
    ),
    (
        ResourceType::Workload(OwnerKind::Deployment),
        &["deploy", "deployment", "deployments"],
        "deploy/",
    ),
    (
        ResourceType::Workload(OwnerKind::DaemonSet),
        &["ds", "daemonset", "daemonsets"],
        "ds/",
    ),
    (
        ResourceType::Workload(OwnerKind::StatefulSet),
        &["sts", "statefulset", "statefulsets"],
        "sts/",
    ),
    (
        ResourceType::Workload(OwnerKind::ReplicaSet),
        &["rs", "replicaset", "replicasets"],
        "rs/",
    ),
    (
        ResourceType::Workload(OwnerKind::ReplicationController),
        &["rc", "replicationcontroller", "replicationcontrollers"],
        "rc/",
    ),
    (
        ResourceType::Workload(OwnerKind::CronJob),
        &["cj", "cronjob", "cronjobs"],
        "cj/",
    ),
    (
        ResourceType::Workload(OwnerKind::Job),
        &["job", "jobs"],
        "job/",
    ),
    (
        ResourceType::Workload(OwnerKind::Pod),
        &["po", "pod", "pods"],
        "po/",
    ),
];

/// A text that names no resource.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidResource {
    #[error("cannot find Kubernetes canonical name from friendly name [{0}]")]
    UnknownType(String),
    #[error("Invalid resource string: {0}")]
    Form(String),
}

/// Reads `TYPE`, `TYPE/NAME` or `TYPE NAME`.
///
/// # Errors
/// [`InvalidResource`] quotes the text.
pub(crate) fn parse(words: &[&str]) -> Result<(ResourceType, String), InvalidResource> {
    let (kind, name) = match words {
        [word] => match word.split('/').collect::<Vec<_>>()[..] {
            [kind] => (kind, ""),
            [kind, name] => (kind, name),
            _ => return Err(InvalidResource::Form((*word).to_owned())),
        },
        [kind, name] => (*kind, *name),
        _ => return Err(InvalidResource::Form(words.join(" "))),
    };
    Ok((parse_type(kind)?, name.to_owned()))
}

/// Reads a word for a type.
///
/// # Errors
/// [`InvalidResource::UnknownType`].
pub(crate) fn parse_type(word: &str) -> Result<ResourceType, InvalidResource> {
    let known = WORDS.iter().find(|(_, words, _)| words.contains(&word));
    known
        .map(|(kind, _, _)| *kind)
        .ok_or_else(|| InvalidResource::UnknownType(word.to_owned()))
}

/// The prefix of an object's name where objects of several types are shown: `deploy/`.
pub(crate) fn prefix(kind: ResourceType) -> &'static str {
    WORDS
        .iter()
        .find(|(known, _, _)| *known == kind)
        .map_or("", |(_, _, prefix)| prefix)
}

/// The message form of a resource.
pub(crate) fn message(kind: ResourceType, namespace: &str, name: &str) -> Resource {
    Resource {
        namespace: namespace.to_owned(),
        r#type: kind.to_string(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_for_a_type_is_understood() {
        for (kind, words, _) in WORDS {
            for word in words {
                assert_eq!(parse(&[word]), Ok((kind, String::new())));
            }
        }
    }

    #[test]
    fn a_name_follows_a_slash_or_a_blank() {
        let web = (
            ResourceType::Workload(OwnerKind::Deployment),
            "web".to_owned(),
        );
        assert_eq!(parse(&["deploy/web"]), Ok(web.clone()));
        assert_eq!(parse(&["deploy", "web"]), Ok(web));
    }

    #[test]
    fn other_words_and_forms_are_refused() {
        for (words, message) in [
            (
                &["Deploy"][..],
                "cannot find Kubernetes canonical name from friendly name [Deploy]",
            ),
            (
                &["node/a"],
                "cannot find Kubernetes canonical name from friendly name [node]",
            ),
            (
                &[""],
                "cannot find Kubernetes canonical name from friendly name []",
            ),
            (&["a/b/c"], "Invalid resource string: a/b/c"),
            (
                &["po/x", "y"],
                "cannot find Kubernetes canonical name from friendly name [po/x]",
            ),
        ] {
            assert_eq!(parse(words).expect_err("refused").to_string(), message);
        }
    }
}
