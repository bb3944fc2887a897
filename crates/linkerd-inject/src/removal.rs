//! Takes out of a pod template what injection put there, ours or that of Linkerd, which calls most things the same.
//! Entry: [`remove`]; it leaves containers and labels of other meshes alone.

use linkerd_names::{OwnerKind, annotations, component, labels};
use serde_json::Value;

use crate::{
    object::{Fields, Workload},
    pod_resources,
    report::{Entry, Outcome},
    tcp_probes,
};

/// What Linkerd's injection adds beside what ours does.
pub(crate) const LINKERDS_LABEL: &str = "linkerd.io/workload-ns";
const LINKERDS_ANNOTATION: &str = "linkerd.io/trust-root-sha256";
const LINKERDS_CONTAINERS: [&str; 2] = ["linkerd-network-validator", "linkerd-debug"];
const LINKERDS_VOLUMES: [&str; 2] = [
    "linkerd-identity-end-entity",
    "linkerd-proxy-init-xtables-lock",
];

/// Removes our containers, volumes, labels and annotations, and gives probes back. Lists and mappings
/// that are empty then go as well.
pub(crate) fn remove(workload: &Workload, template: &mut Fields) -> Entry {
    let mut removed = false;
    if let Some(Value::Object(spec)) = template.get_mut("spec") {
        let containers = [component::PROXY_CONTAINER, component::INIT_CONTAINER];
        let volumes = [
            component::TRUST_ANCHORS_VOLUME,
            component::IDENTITY_VOLUME,
            component::IDENTITY_TOKEN_VOLUME,
        ];
        tcp_probes::restore(spec);
        removed |= remove_items(spec, "initContainers", &containers);
        removed |= remove_items(spec, "containers", &containers);
        removed |= remove_items(spec, "volumes", &volumes);
        if removed {
            remove_items(spec, "initContainers", &LINKERDS_CONTAINERS);
            remove_items(spec, "containers", &LINKERDS_CONTAINERS);
            remove_items(spec, "volumes", &LINKERDS_VOLUMES);
        }
    }
    let outcome = if removed {
        Outcome::Uninjected
    } else {
        Outcome::Unsupported
    };
    if removed {
        pod_resources::restore(template);
    }
    if removed && let Some(Value::Object(metadata)) = template.get_mut("metadata") {
        let owner_labels = OwnerKind::ALL.into_iter().filter_map(OwnerKind::pod_label);
        let marks = [
            labels::CONTROL_PLANE_NAMESPACE,
            labels::TLS_MODE,
            labels::IDENTITY_MODE,
            LINKERDS_LABEL,
        ]
        .map(ToOwned::to_owned);
        remove_keys(metadata, "labels", owner_labels.chain(marks));
        restore_skipped(
            metadata,
            annotations::SKIP_INBOUND_PORTS,
            annotations::SKIP_INBOUND_PORTS_BEFORE,
        );
        restore_skipped(
            metadata,
            annotations::SKIP_OUTBOUND_PORTS,
            annotations::SKIP_OUTBOUND_PORTS_BEFORE,
        );
        let notes = [
            annotations::CREATED_BY,
            annotations::PROXY_VERSION,
            LINKERDS_ANNOTATION,
        ];
        remove_keys(
            metadata,
            "annotations",
            notes.into_iter().map(ToOwned::to_owned),
        );
        if metadata.is_empty() {
            template.shift_remove("metadata");
        }
    }
    Entry::new(workload.to_string(), outcome)
}

/// Gives `annotation` back as it was when injection has added ports to it.
fn restore_skipped(metadata: &mut Fields, annotation: &str, before: &str) {
    let Some(Value::Object(notes)) = metadata.get_mut("annotations") else {
        return;
    };
    match notes.shift_remove(before) {
        None => {}
        Some(before) if before == "" => drop(notes.shift_remove(annotation)),
        Some(before) => drop(notes.insert(annotation.to_owned(), before)),
    }
}

fn remove_items(spec: &mut Fields, list: &str, names: &[&str]) -> bool {
    let Some(Value::Array(items)) = spec.get_mut(list) else {
        return false;
    };
    let before = items.len();
    items.retain(|item| {
        !item["name"]
            .as_str()
            .is_some_and(|name| names.contains(&name))
    });
    let removed = items.len() < before;
    if removed && items.is_empty() {
        spec.shift_remove(list);
    }
    removed
}

fn remove_keys(metadata: &mut Fields, mapping: &str, keys: impl Iterator<Item = String>) {
    let Some(Value::Object(entries)) = metadata.get_mut(mapping) else {
        return;
    };
    let before = entries.len();
    for key in keys {
        entries.shift_remove(&key);
    }
    if entries.len() < before && entries.is_empty() {
        metadata.shift_remove(mapping);
    }
}
