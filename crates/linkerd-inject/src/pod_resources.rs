//! Raises what a pod has for all its containers together (`spec.resources`, Kubernetes 1.34) by what the proxy has:
//! the API server refuses a pod whose containers request more, and with the same limit the application would have
//! less. Entries: [`raise`], and [`restore`] for the way back.

use linkerd_names::annotations::POD_RESOURCES_BEFORE;
use serde_json::{Value, json};

use crate::{
    ObjectError,
    object::{Fields, Workload},
    options::Resources,
    quantity::{amount, text, written},
};

/// What the proxy has of one resource.
struct Share<'a> {
    resource: &'static str,
    request: &'a str,
    limit: Option<&'a str>,
}

/// Raises the resources of the pod of `template`, to which no container of ours was added yet, and notes what they
/// were.
pub(crate) fn raise(
    workload: &Workload,
    template: &mut Fields,
    proxy: &Resources,
) -> Result<(), ObjectError> {
    let Resources {
        cpu_request,
        cpu_limit,
        memory_request,
        memory_limit,
    } = proxy;
    let shares = [
        Share {
            resource: "cpu",
            request: cpu_request,
            limit: cpu_limit.as_deref(),
        },
        Share {
            resource: "memory",
            request: memory_request,
            limit: memory_limit.as_deref(),
        },
    ];
    let spec = workload.mapping(template, "spec")?;
    let Some(before) = spec.get("resources").cloned() else {
        return Ok(());
    };
    let mut resources = before.clone();
    for share in shares {
        share.add_to(&mut resources, spec);
    }
    if resources == before {
        return Ok(());
    }
    spec.insert("resources".to_owned(), resources);
    let metadata = workload.mapping(template, "metadata")?;
    let notes = workload.mapping(metadata, "metadata.annotations")?;
    let before = Value::from(before.to_string());
    notes.insert(POD_RESOURCES_BEFORE.to_owned(), before);
    Ok(())
}

impl Share<'_> {
    /// What cannot be read stays as it is.
    fn add_to(&self, resources: &mut Value, spec: &Fields) {
        let resource = self.resource;
        let of_pod = |kind: &str| text(&resources[kind][resource]).as_deref().and_then(amount);
        let (requested, limited) = (of_pod("requests"), of_pod("limits"));
        let Some(more_requested) = amount(self.request) else {
            return;
        };
        let Some(more_limited) = amount(self.limit.unwrap_or(self.request)) else {
            return;
        };
        let raised = limited.map(|limited| limited.saturating_add(more_limited));
        let requested = match (requested, limited) {
            // A Guaranteed pod stays Guaranteed.
            (Some(requested), Some(limited)) if requested == limited => raised,
            (Some(requested), _) => Some(requested.saturating_add(more_requested)),
            // Kubernetes would take the limit for the request, and with the proxy's takes that.
            (None, Some(_)) if !is_requested(spec, resource) => raised,
            (None, _) => None,
        };
        for (kind, amount) in [("requests", requested), ("limits", raised)] {
            if let Some(amount) = amount
                && matches!(resources[kind], Value::Null | Value::Object(_))
            {
                resources[kind][resource] = json!(written(amount));
            }
        }
    }
}

/// Whether some container requests the resource; a limit is a request too.
fn is_requested(spec: &Fields, resource: &str) -> bool {
    let mut containers = ["initContainers", "containers"]
        .into_iter()
        .filter_map(|list| spec.get(list)?.as_array())
        .flatten();
    containers.any(|container| {
        let resources = &container["resources"];
        ["requests", "limits"]
            .iter()
            .any(|kind| !resources[*kind][resource].is_null())
    })
}

/// Gives the resources of the pod back as they were.
pub(crate) fn restore(template: &mut Fields) {
    let before = template
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations")?.as_object_mut())
        .and_then(|notes| notes.shift_remove(POD_RESOURCES_BEFORE));
    let Some(before) = before.as_ref().and_then(Value::as_str) else {
        return;
    };
    if let Ok(before) = serde_json::from_str(before)
        && let Some(Value::Object(spec)) = template.get_mut("spec")
    {
        spec.insert("resources".to_owned(), before);
    }
}
