//! Finds the pod template in an object, whatever its kind.
//! Entry: [`visit`]. `kind` and the group in `apiVersion` decide, in any version; manifests of old ones count.

use linkerd_names::{Owner, OwnerKind, annotations};
use serde_json::{Map, Value};

use crate::{
    ObjectError,
    report::{Entry, Outcome},
};

/// A JSON object.
pub(crate) type Fields = Map<String, Value>;

/// What an object says about itself outside of its pod template.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) kind: OwnerKind,
    /// None with `generateName`.
    pub(crate) name: Option<String>,
    pub(crate) generate_name: Option<String>,
    /// None when it is left to kubectl.
    pub(crate) namespace: Option<String>,
    /// Whether the object has the annotation that forbids injection.
    pub(crate) disabled: bool,
    /// Where the pod template is: `spec.template`, empty for a Pod.
    path: &'static [&'static str],
}

/// Calls `change` with the pod template of `object`, or of each item of a List, and collects what
/// it reports. Other objects are reported as unsupported, and what another workload has made as that one's.
pub(crate) fn visit(
    object: &mut Value,
    change: &mut dyn FnMut(&Workload, &mut Fields) -> Result<Entry, ObjectError>,
) -> Result<Vec<Entry>, ObjectError> {
    if object["kind"] == "List"
        && let Some(Value::Array(items)) = object.get_mut("items")
    {
        let mut entries = Vec::new();
        for item in items {
            entries.extend(visit(item, change)?);
        }
        return Ok(entries);
    }
    let Some(workload) = Workload::of(object) else {
        return Ok(vec![Entry::new(display(object), Outcome::Unsupported)]);
    };
    if let Some(owner) = workload.maker(&object["metadata"]) {
        return Ok(vec![Entry {
            belongs_to: Some(owner),
            ..Entry::new(workload.to_string(), Outcome::Owned)
        }]);
    }
    let mut template = object
        .as_object_mut()
        .ok_or_else(|| workload.wrong_type("", "mapping"))?;
    for field in workload.path {
        template = template
            .get_mut(*field)
            .and_then(Value::as_object_mut)
            .ok_or_else(|| workload.wrong_type("", "mapping"))?;
    }
    Ok(vec![change(&workload, template)?])
}

impl Workload {
    /// The workload that `pod`, which is about to be created in `namespace`, is a part of.
    pub(crate) fn of_pod(pod: &Value, owner: Option<&Owner>, namespace: &str) -> Option<Self> {
        let pod = Self::of(pod).filter(|workload| workload.kind == OwnerKind::Pod)?;
        let namespace = Some(namespace.to_owned());
        Some(match owner {
            None => Self { namespace, ..pod },
            Some(owner) => Self {
                kind: owner.kind,
                name: Some(owner.name.clone()),
                generate_name: None,
                namespace,
                ..pod
            },
        })
    }

    fn of(object: &Value) -> Option<Self> {
        let kind = object.get("kind")?.as_str()?;
        let kind = match &object["apiVersion"] {
            // Who leaves it out means what everybody knows by that name.
            Value::Null => OwnerKind::ALL
                .into_iter()
                .find(|known| known.api_kind() == kind)?,
            api_version => OwnerKind::from_api(api_version.as_str()?, kind)?,
        };
        let path: &[&str] = match kind {
            OwnerKind::Pod => &[],
            OwnerKind::CronJob => &["spec", "jobTemplate", "spec", "template"],
            OwnerKind::Deployment
            | OwnerKind::DaemonSet
            | OwnerKind::StatefulSet
            | OwnerKind::ReplicaSet
            | OwnerKind::ReplicationController
            | OwnerKind::Job => &["spec", "template"],
        };
        let metadata = &object["metadata"];
        let text = |key: &str| {
            metadata[key]
                .as_str()
                .filter(|text| !text.is_empty())
                .map(ToOwned::to_owned)
        };
        Some(Self {
            kind,
            name: text("name"),
            generate_name: text("generateName"),
            namespace: text("namespace"),
            disabled: is_disabled(metadata),
            path,
        })
    }

    /// The workload that has made this one, whose pods are its pods; none when it stands for itself.
    fn maker(&self, metadata: &Value) -> Option<String> {
        let mut owners = metadata["ownerReferences"].as_array()?.iter();
        let controller = owners.find(|owner| owner["controller"] == true)?;
        let text = |key: &str| controller[key].as_str();
        let above = self.kind.part_of(text("apiVersion")?, text("kind")?)?;
        Some(format!("{above}/{}", text("name")?))
    }

    /// Whether the pod template is a pod itself.
    pub(crate) fn is_pod(&self) -> bool {
        self.path.is_empty()
    }

    /// An error about a field of the pod template.
    pub(crate) fn wrong_type(&self, field: &str, expected: &'static str) -> ObjectError {
        let parts = self
            .path
            .iter()
            .copied()
            .chain([field])
            .filter(|part| !part.is_empty());
        let path = parts.collect::<Vec<_>>().join(".");
        ObjectError::WrongType {
            object: self.to_string(),
            path,
            expected,
        }
    }

    /// The mapping in `parent` at the last part of `field`, which is the path from the pod template
    /// on; made when it is not there.
    pub(crate) fn mapping<'a>(
        &self,
        parent: &'a mut Fields,
        field: &str,
    ) -> Result<&'a mut Fields, ObjectError> {
        let value = parent.entry(last(field)).or_insert(Value::Null);
        if value.is_null() {
            *value = Value::Object(Fields::new());
        }
        value
            .as_object_mut()
            .ok_or_else(|| self.wrong_type(field, "mapping"))
    }

    /// The list in `parent` at the last part of `field`; made when it is not there.
    pub(crate) fn list<'a>(
        &self,
        parent: &'a mut Fields,
        field: &str,
    ) -> Result<&'a mut Vec<Value>, ObjectError> {
        let value = parent.entry(last(field)).or_insert(Value::Null);
        if value.is_null() {
            *value = Value::Array(Vec::new());
        }
        value
            .as_array_mut()
            .ok_or_else(|| self.wrong_type(field, "list"))
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self
            .name
            .as_deref()
            .or(self.generate_name.as_deref())
            .unwrap_or_default();
        write!(f, "{}/{name}", self.kind)
    }
}

/// Whether `metadata` has the annotation that forbids injection.
pub(crate) fn is_disabled(metadata: &Value) -> bool {
    metadata["annotations"][annotations::INJECT] == annotations::INJECT_DISABLED
}

/// What the annotation about injection says when it is neither of its two words.
pub(crate) fn unknown_word(metadata: &Value) -> Option<String> {
    let word = metadata["annotations"][annotations::INJECT].as_str()?;
    let known = [
        "",
        annotations::INJECT_ENABLED,
        annotations::INJECT_DISABLED,
    ];
    (!known.contains(&word)).then(|| word.to_owned())
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn display(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&object["metadata"]["name"]);
    format!("{}/{name}", text(&object["kind"]).to_ascii_lowercase())
}
