//! What the Namespace of a pod configures about its proxy. Entry: [`inherit`].
//! `linkerd-injector` honours that for the pods that it meshes; `linkerd inject` does not know it.

use std::collections::BTreeMap;

use linkerd_names::annotations;

use crate::{
    ObjectError, config,
    object::{Fields, Workload},
};

/// The annotations `config.linkerd.io/…` of a pod's Namespace that the pod does not have itself.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    pub(super) keys: Vec<String>,
    /// Whether they are on the pod: when `linkerd-injector` is asked for its proxy.
    pub(super) counts: bool,
}

/// Writes onto the pod what `linkerd-injector` will, when that is to mesh it.
pub(super) fn inherit(
    workload: &Workload,
    template: &mut Fields,
    of_namespace: &BTreeMap<String, String>,
) -> Result<Inherited, ObjectError> {
    let own = |key: &str| {
        let metadata = template.get("metadata")?;
        metadata["annotations"].get(key)
    };
    let configures =
        |key: &&String| key.starts_with(annotations::CONFIG_PREFIX) && own(key).is_none();
    let keys = of_namespace.keys().filter(configures).cloned().collect();
    let word = own(annotations::INJECT).and_then(|word| word.as_str());
    let word = word.or_else(|| of_namespace.get(annotations::INJECT).map(String::as_str));
    let counts = word == Some(annotations::INJECT_ENABLED);
    if counts {
        config::inherit(workload, template, of_namespace)?;
    }
    Ok(Inherited { keys, counts })
}
