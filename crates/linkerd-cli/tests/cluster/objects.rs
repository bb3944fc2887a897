//! What a Kubernetes API with these objects answers. Entry: [`answer`].
//! It knows label and field selectors as far as the CLI uses them, and no writes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kubernetes::{Answer, list, status};

/// The object that `target`, a path and its query, names, or a list of those that it selects.
pub(crate) fn answer(target: &str, objects: &[Value]) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (api_version, rest) = match parts.as_slice() {
        ["api"] => {
            return (
                200,
                kinds(objects, |api_version| !api_version.contains('/')),
            );
        }
        ["apis"] => return (200, kinds(objects, |api_version| api_version.contains('/'))),
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        _ => return status(404, "NotFound"),
    };
    let (namespace, plural, name) = match rest {
        ["namespaces", namespace, plural, name] => (Some(*namespace), *plural, Some(*name)),
        ["namespaces", namespace, plural] => (Some(*namespace), *plural, None),
        [plural, name] => (None, *plural, Some(*name)),
        [plural] => (None, *plural, None),
        _ => return status(404, "NotFound"),
    };
    let mut found = objects.iter().filter(|object| {
        object["apiVersion"] == json!(api_version)
            && object["kind"]
                .as_str()
                .is_some_and(|kind| kind.to_lowercase() + "s" == plural)
            && namespace.is_none_or(|namespace| object["metadata"]["namespace"] == json!(namespace))
            && name.is_none_or(|name| object["metadata"]["name"] == json!(name))
    });
    if name.is_some() {
        return match found.next() {
            Some(object) => (200, object.clone()),
            None => status(404, "NotFound"),
        };
    }
    let items = found.filter(|object| selected(object, query)).cloned();
    (200, list(items.collect()))
}

/// The kinds of these objects, as Kubernetes tells which there are.
fn kinds(objects: &[Value], is_meant: fn(&str) -> bool) -> Value {
    let mut groups: BTreeMap<(&str, &str), BTreeMap<String, Value>> = BTreeMap::new();
    for object in objects {
        let api_version = object["apiVersion"].as_str().expect("a version");
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = object["kind"].as_str().expect("a kind");
        let scope = match object["metadata"]["namespace"] {
            Value::Null => "Cluster",
            _ => "Namespaced",
        };
        if is_meant(api_version) {
            let plural = kind.to_lowercase() + "s";
            let resource = json!({
                "resource": plural, "scope": scope, "verbs": ["list"],
                "responseKind": {"group": group, "version": version, "kind": kind},
            });
            let group = groups.entry((group, version)).or_default();
            group.insert(plural, resource);
        }
    }
    let items = groups.into_iter().map(|((group, version), resources)| {
        let resources: Vec<Value> = resources.into_values().collect();
        json!({
            "metadata": {"name": group},
            "versions": [{"version": version, "resources": resources}],
        })
    });
    json!({
        "apiVersion": "apidiscovery.k8s.io/v2",
        "kind": "APIGroupDiscoveryList",
        "metadata": {},
        "items": items.collect::<Vec<_>>(),
    })
}

/// Whether label and field selectors, `=` and `!=` alone, choose the object.
fn selected(object: &Value, query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).all(|(key, conditions)| {
        let fields = match key.as_ref() {
            "labelSelector" => object["metadata"]["labels"].clone(),
            "fieldSelector" => json!({
                "metadata.name": object["metadata"]["name"],
                "status.phase": object["status"]["phase"],
            }),
            _ => return true,
        };
        conditions.split(',').all(|condition| {
            let (field, wanted) = condition.split_once('=').expect("a comparison");
            match field.strip_suffix('!') {
                Some(field) => fields[field] != json!(wanted),
                None => fields[field] == json!(wanted),
            }
        })
    })
}
