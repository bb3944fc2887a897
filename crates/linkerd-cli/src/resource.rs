//! How people write what they ask about: `deploy`, `po/web-0`, `svc web`.
//! Entries: [`parse`] for one, [`parse_several`]. Pure.

mod meant;

use linkerd_names::{OwnerKind, ResourceType};
use linkerd_proto::public::{Resource, ResourceSelection};

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
    /// The first words are those of 2018.
    #[error(
        "cannot find Kubernetes canonical name from friendly name [{word}]: types are {}{}",
        type_names(),
        question(.meant.as_deref())
    )]
    UnknownType { word: String, meant: Option<String> },
    #[error("Invalid resource string: {0}")]
    Form(String),
    #[error("'all' cannot be asked for beside other resources")]
    AllAndMore,
    #[error("{0} is asked for twice")]
    Twice(String),
}

impl InvalidResource {
    /// The same of a type that had to be in `words`, of which none has a slash: they may be names.
    fn of_names(self, words: &[&str]) -> Self {
        match self {
            Self::UnknownType { word, meant: None } => Self::UnknownType {
                word,
                meant: meant::objects(words),
            },
            other => other,
        }
    }
}

fn type_names() -> String {
    let names: Vec<&str> = types().map(ResourceType::as_str).collect();
    names.join(", ")
}

fn question(meant: Option<&str>) -> String {
    meant.map_or_else(String::new, |meant| format!("; did you mean {meant:?}?"))
}

/// Reads `TYPE`, `TYPE/NAME` or `TYPE NAME`.
///
/// # Errors
/// [`InvalidResource`] quotes the text.
pub(crate) fn parse(words: &[&str]) -> Result<(ResourceType, String), InvalidResource> {
    let (kind, name) = match words {
        [word] => match word.split('/').collect::<Vec<_>>()[..] {
            [kind] => {
                let kind = parse_type(kind).map_err(|error| error.of_names(words))?;
                return Ok((kind, String::new()));
            }
            [kind, name] if !name.is_empty() => (kind, name),
            _ => return Err(InvalidResource::Form((*word).to_owned())),
        },
        [kind, name] => (*kind, *name),
        _ => return Err(InvalidResource::Form(words.join(" "))),
    };
    Ok((parse_type(kind)?, name.to_owned()))
}

/// Reads `TYPE[,TYPE…]`, `TYPE NAME…`, or several of `TYPE/NAME` and `TYPE`, as kubectl does. A word after
/// a type alone is a name, whatever it says.
///
/// # Errors
/// [`InvalidResource`] quotes the text.
pub(crate) fn parse_several(
    words: &[&str],
) -> Result<Vec<(ResourceType, String)>, InvalidResource> {
    let mut found = Vec::new();
    match words {
        [types, names @ ..]
            if !names.is_empty()
                && !types.contains('/')
                && !names.iter().any(|name| name.contains('/')) =>
        {
            for word in types.split(',') {
                let kind = parse_type(word).map_err(|error| error.of_names(words))?;
                found.extend(names.iter().map(|name| (kind, (*name).to_owned())));
            }
        }
        _ => {
            for part in words.iter().flat_map(|word| word.split(',')) {
                found.push(parse(&[part])?);
            }
        }
    }
    for (index, resource) in found.iter().enumerate() {
        let (kind, name) = resource;
        if *kind == ResourceType::All && found.len() > 1 {
            return Err(InvalidResource::AllAndMore);
        }
        if found[..index].contains(resource) {
            let separator = if name.is_empty() { "" } else { "/" };
            return Err(InvalidResource::Twice(format!("{kind}{separator}{name}")));
        }
    }
    Ok(found)
}

/// Reads a word for a type, as kubectl does: in any case, and with the group of its API (`deployments.apps`).
///
/// # Errors
/// [`InvalidResource::UnknownType`].
pub(crate) fn parse_type(word: &str) -> Result<ResourceType, InvalidResource> {
    let lower = word.to_ascii_lowercase();
    let known = WORDS
        .iter()
        .find(|(kind, words, _)| match lower.split_once('.') {
            Some((plain, group)) => words.contains(&plain) && group_of(*kind) == Some(group),
            None => words.contains(&lower.as_str()),
        });
    known
        .map(|(kind, _, _)| *kind)
        .ok_or_else(|| InvalidResource::UnknownType {
            word: word.to_owned(),
            meant: meant::kind(word).map(str::to_owned),
        })
}

/// The API group of a type that has one.
fn group_of(kind: ResourceType) -> Option<&'static str> {
    let ResourceType::Workload(kind) = kind else {
        return None;
    };
    let (group, _) = kind.api_version().split_once('/')?;
    Some(group)
}

/// All types, by the word that people complete.
pub(crate) fn types() -> impl Iterator<Item = ResourceType> {
    WORDS.iter().map(|(kind, _, _)| *kind)
}

/// The prefix of an object's name where objects of several types are shown: `deploy/`.
pub(crate) fn prefix(kind: ResourceType) -> &'static str {
    WORDS
        .iter()
        .find(|(known, _, _)| *known == kind)
        .map_or("", |(_, _, prefix)| prefix)
}

/// The namespace that a selection is about; empty for all of them, and of namespaces themselves.
pub(crate) fn namespace(selection: Option<&ResourceSelection>) -> &str {
    let resource = selection.and_then(|it| it.resource.as_ref());
    resource.map_or("", |it| &it.namespace)
}

/// The message form of a resource. A namespace is in no other one.
pub(crate) fn message(kind: ResourceType, namespace: &str, name: &str) -> Resource {
    let namespace = match kind {
        ResourceType::Namespace => "",
        _ => namespace,
    };
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
    fn types_are_spelt_as_kubectl_has_them() {
        for (word, kind) in [
            ("DEPLOYMENT", OwnerKind::Deployment),
            ("Deployment", OwnerKind::Deployment),
            ("deployments.apps", OwnerKind::Deployment),
            ("cronjobs.batch", OwnerKind::CronJob),
        ] {
            assert_eq!(parse_type(word), Ok(ResourceType::Workload(kind)));
        }
        for other in [
            "statefulsets.apps.kruise.io",
            "jobs.apps",
            "pods.apps",
            "deployments.",
        ] {
            assert!(parse_type(other).is_err(), "{other}");
        }
        let error = parse(&["deploy/"]).expect_err("no name");
        assert_eq!(error.to_string(), "Invalid resource string: deploy/");
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
    fn several_resources_are_written_as_for_kubectl() {
        let texts = |words: &[&str]| {
            let found = parse_several(words)?;
            let text = |(kind, name): (ResourceType, String)| format!("{kind}/{name}");
            Ok::<_, InvalidResource>(found.into_iter().map(text).collect::<Vec<_>>())
        };
        for (words, expected) in [
            (&["deploy"][..], &["deployment/"][..]),
            (&["deploy,sts"], &["deployment/", "statefulset/"]),
            (
                &["deploy", "web", "db"],
                &["deployment/web", "deployment/db"],
            ),
            (&["deploy/web", "po/x"], &["deployment/web", "pod/x"]),
            (&["deploy/web", "sts"], &["deployment/web", "statefulset/"]),
            (&["deploy,sts", "db"], &["deployment/db", "statefulset/db"]),
            (&["all"], &["all/"]),
        ] {
            assert_eq!(texts(words).expect("valid"), expected, "{words:?}");
        }
        for (words, message) in [
            (
                &["all", "po/x"][..],
                "'all' cannot be asked for beside other resources",
            ),
            (&["po,po"], "pod is asked for twice"),
            (&["po/x", "pods/x"], "pod/x is asked for twice"),
            (
                &["a", "b", "c"],
                "cannot find Kubernetes canonical name from friendly name [a]",
            ),
            (
                &["po,"],
                "cannot find Kubernetes canonical name from friendly name []",
            ),
        ] {
            let said = texts(words).expect_err("refused").to_string();
            assert_eq!(said.split(": types are").next(), Some(message));
        }
    }

    #[test]
    fn other_words_and_forms_are_refused() {
        for (words, message) in [
            (
                &["Deploys"][..],
                "cannot find Kubernetes canonical name from friendly name [Deploys]",
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
            let said = parse(words).expect_err("refused").to_string();
            assert_eq!(said.split(": types are").next(), Some(message));
        }
    }

    #[test]
    fn what_may_have_been_meant_is_asked_and_all_types_are_named() {
        for (words, meant) in [
            (&["web"][..], Some("deploy/web")),
            (&["web", "api"], Some("deploy web api")),
            (&["deploy,web"], Some("deploy/web")),
            (&["deploy/web", "api"], Some("deploy/api")),
            (&["deploymnt"], Some("deployment")),
            (&["deploymnt/web"], Some("deployment")),
            (&["Deploys", "web"], Some("deploy")),
            (&["web/x"], None),
            (&["We_b"], None),
        ] {
            let said = parse_several(words).expect_err("refused").to_string();
            let types = "]: types are all, authority, namespace, service, deployment, daemonset, \
                         statefulset, replicaset, replicationcontroller, cronjob, job, pod";
            let (_, rest) = said.split_once(types).expect("the types");
            let expected = meant.map(|meant| format!("; did you mean {meant:?}?"));
            assert_eq!(rest, expected.unwrap_or_default(), "{words:?}");
        }
    }
}
