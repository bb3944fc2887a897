//! What a request is about where it may name several resources. Entry: [`parse`]. Pure.

use std::fmt;

use kube::core::Selector;
use linkerd_names::ResourceType;
use linkerd_proto::public::ResourceSelection;

use crate::{cluster::Cluster, label_selector, stat_request::Target};

/// More than anybody writes; each costs questions to others.
const SELECTED_MAX: usize = 32;

/// A resource, and the labels that its objects must have.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    pub(crate) target: Target,
    labels: Selector,
}

/// Reads the first selection of a request and those beside it.
///
/// # Errors
/// The first thing that makes no sense.
pub(crate) fn parse(
    first: Option<ResourceSelection>,
    others: Vec<ResourceSelection>,
) -> Result<Vec<Selected>, String> {
    if others.len() >= SELECTED_MAX {
        return Err(format!("more than {SELECTED_MAX} resources are named"));
    }
    let one = |selection: ResourceSelection| -> Result<Selected, String> {
        let resource = selection.resource.ok_or("no resource is named")?;
        let labels = label_selector::parse(&selection.label_selector);
        Ok(Selected {
            target: Target::parse(&resource).map_err(|error| error.to_string())?,
            labels: labels.map_err(|error| error.to_string())?,
        })
    };
    let first = first.ok_or("no resource is named")?;
    std::iter::once(first).chain(others).map(one).collect()
}

impl Selected {
    /// Whether an object of the target's type has the name and the namespace that were asked for.
    pub(crate) fn names(&self, namespace: &str, name: &str) -> bool {
        let Target {
            kind,
            namespace: wanted_namespace,
            name: wanted_name,
        } = &self.target;
        let anywhere = *kind == ResourceType::Namespace || wanted_namespace.is_empty();
        (anywhere || wanted_namespace == namespace)
            && (wanted_name.is_empty() || wanted_name == name)
    }

    /// Whether an object of the target's type has the labels that were asked for.
    pub(crate) fn has_labels_of(&self, cluster: &Cluster, namespace: &str, name: &str) -> bool {
        self.labels.selects_all()
            || cluster.has_labels(self.target.kind, namespace, name, &self.labels)
    }
}

impl fmt::Display for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target {
            kind,
            namespace,
            name,
        } = &self.target;
        if name.is_empty() {
            write!(f, "any {kind}")?;
        } else {
            write!(f, "{kind} {name:?}")?;
        }
        if *kind != ResourceType::Namespace && !namespace.is_empty() {
            write!(f, " in namespace {namespace:?}")?;
        }
        if self.labels.selects_all() {
            return Ok(());
        }
        f.write_str(" with the labels that were asked for")
    }
}

#[cfg(test)]
mod tests {
    use linkerd_proto::public::Resource;

    use super::*;

    fn selection(kind: &str, label_selector: &str) -> ResourceSelection {
        ResourceSelection {
            resource: Some(Resource {
                namespace: "shop".into(),
                r#type: kind.into(),
                name: "web".into(),
            }),
            label_selector: label_selector.into(),
        }
    }

    #[test]
    fn selections_that_make_no_sense_are_refused() {
        let refusal = |first, others| parse(first, others).expect_err("refused");
        assert_eq!(refusal(None, vec![]), "no resource is named");
        let none = ResourceSelection::default();
        let web = || selection("deployment", "");
        assert_eq!(refusal(Some(web()), vec![none]), "no resource is named");
        assert_eq!(
            refusal(Some(selection("node", "")), vec![]),
            "unimplemented resource type: node"
        );
        let error = refusal(Some(web()), vec![selection("pod", "app=,")]);
        assert!(error.contains("is not a label selector"), "{error}");
        let error = refusal(Some(web()), vec![web(); SELECTED_MAX]);
        assert_eq!(error, "more than 32 resources are named");
    }

    #[test]
    fn what_is_selected_has_a_text() {
        let text =
            |labels| parse(Some(selection("pod", labels)), vec![]).expect("fine")[0].to_string();
        assert_eq!(text(""), "pod \"web\" in namespace \"shop\"");
        let labelled = "pod \"web\" in namespace \"shop\" with the labels that were asked for";
        assert_eq!(text("app=web"), labelled);
        let unnamed = |kind, namespace: &str| {
            let mut selection = selection(kind, "");
            let resource = selection.resource.as_mut().expect("set");
            (resource.namespace, resource.name) = (namespace.into(), String::new());
            parse(Some(selection), vec![]).expect("fine")[0].to_string()
        };
        assert_eq!(
            unnamed("deployment", "shop"),
            "any deployment in namespace \"shop\""
        );
        assert_eq!(unnamed("deployment", ""), "any deployment");
        let namespace = parse(Some(selection("namespace", "")), vec![]).expect("fine");
        assert_eq!(namespace[0].to_string(), "namespace \"web\"");
    }

    #[test]
    fn objects_are_named_by_namespace_and_name_where_these_were_asked_for() {
        let named = |kind, namespace: &str, name: &str| {
            let all = parse(Some(selection(kind, "")), vec![]).expect("fine");
            all[0].names(namespace, name)
        };
        assert!(named("pod", "shop", "web") && named("namespace", "", "web"));
        assert!(!named("pod", "other", "web") && !named("pod", "shop", "db"));
    }
}
