//! Reads a workload as far as it matters here: whose it is, and whether its pods are marked for TLS.
//! Only the fields named here are ever parsed; a Deployment of a megabyte costs nothing.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, NotUsed, Object};
use linkerd_names::{Owner, OwnerKind, annotations, component, labels};
use serde::{Deserialize, Serialize};

/// A workload that is to have a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Kind, namespace and name.
    pub owner: Owner,
    /// Tells it from an earlier workload of the same name.
    pub uid: String,
    /// Where its proxies get their certificate.
    pub source: Source,
    /// Whether that depends on something else.
    pub wanted: Wanted,
}

/// When a workload is to have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Certainly: its pod template has a proxy of ours.
    Marked,
    /// Unless another control plane is faster: its pod template asks for a proxy, whosever.
    Annotated,
    /// Likewise, when its namespace asks for proxies.
    WhereInjected,
    /// Only while pods mount its Secret: its template asks for no proxy, or not any more.
    WhileMounted,
}

/// Where the proxies of a workload get their certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// From a Secret that we write.
    Secret,
    /// From the identity service, for a key that stays in the pod: there is no Secret.
    Service,
}

/// Any workload with a pod template, as the API server sends it.
pub type Templated = Object<Spec, NotUsed>;

/// The part of a workload's spec that is read.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    template: Option<Template>,
    /// Only of CronJobs.
    job_template: Option<JobTemplate>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct JobTemplate {
    spec: JobSpec,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct JobSpec {
    template: Option<Template>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Template {
    metadata: TemplateMetadata,
    spec: PodSpec,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    host_network: Option<bool>,
    os: Option<PodOs>,
    node_selector: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct PodOs {
    name: String,
}

impl PodSpec {
    /// Whether the pods are for nodes with Windows, where the proxy does not run.
    fn is_for_windows(&self) -> bool {
        let selector = self.node_selector.as_ref();
        let selected = selector.and_then(|selector| selector.get("kubernetes.io/os"));
        let os = self.os.as_ref().map(|os| &os.name);
        [os, selected]
            .into_iter()
            .flatten()
            .any(|os| os == "windows")
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct TemplateMetadata {
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

/// How the API server calls the kind.
pub fn api_resource(kind: OwnerKind) -> ApiResource {
    let (group, version) = kind
        .api_version()
        .split_once('/')
        .unwrap_or(("", kind.api_version()));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: kind.api_version().to_owned(),
        kind: kind.api_kind().to_owned(),
        plural: format!("{}s", kind.as_str()),
    }
}

/// Reads a workload with a pod template: who it is, and the workload itself when it may have a certificate of the
/// control plane in `control_plane_namespace`. The proxies that `linkerd-injector` adds get theirs from `injected`,
/// if there is one: their workloads are known before they have a pod. What asks for no proxy is known as well,
/// because pods of an earlier template may run for long, unless it is marked for another control plane.
pub fn read_templated(
    kind: OwnerKind,
    object: &Templated,
    control_plane_namespace: &str,
    injected: Option<Source>,
) -> (Owner, Option<Workload>) {
    let spec = &object.spec;
    let template = match kind {
        OwnerKind::CronJob => spec
            .job_template
            .as_ref()
            .and_then(|template| template.spec.template.as_ref()),
        _ => spec.template.as_ref(),
    };
    let labels = template.and_then(|template| template.metadata.labels.as_ref());
    let (owner, workload) = read(kind, &object.metadata, labels, control_plane_namespace);
    if workload.is_some() {
        return (owner, workload);
    }
    let is_anothers = labels
        .and_then(|labels| labels.get(labels::CONTROL_PLANE_NAMESPACE))
        .is_some_and(|namespace| namespace != control_plane_namespace);
    if is_anothers || !is_independent(kind, &object.metadata) {
        return (owner, None);
    }
    let injected = injected.zip(template).and_then(|(source, template)| {
        let wanted = wanted_of_injector(&owner, template, control_plane_namespace)?;
        Some((source, wanted))
    });
    let (source, wanted) = injected.unwrap_or((Source::Secret, Wanted::WhileMounted));
    let workload = Workload {
        owner: owner.clone(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        source,
        wanted,
    };
    (owner, Some(workload))
}

/// Whether the injector will add proxies to the pods of this template; none when it certainly will not. What
/// it decides for a pod, in the same words.
fn wanted_of_injector(
    owner: &Owner,
    template: &Template,
    control_plane_namespace: &str,
) -> Option<Wanted> {
    let Template { metadata, spec } = template;
    let namespace = owner.namespace.as_str();
    let labels = metadata.labels.as_ref();
    let has_proxy =
        labels.is_some_and(|labels| labels.contains_key(labels::CONTROL_PLANE_NAMESPACE));
    if namespace == control_plane_namespace
        || component::NAMESPACES_NEVER_INJECTED.contains(&namespace)
        || has_proxy
        || spec.host_network == Some(true)
        || spec.is_for_windows()
    {
        return None;
    }
    let annotations = metadata.annotations.as_ref();
    let word = annotations.and_then(|annotations| annotations.get(annotations::INJECT));
    match word.map(String::as_str) {
        None | Some("") => Some(Wanted::WhereInjected),
        Some(annotations::INJECT_ENABLED) => Some(Wanted::Annotated),
        Some(_) => None,
    }
}

/// Reads a pod, which is its own template.
pub fn read_pod(metadata: &ObjectMeta, control_plane_namespace: &str) -> (Owner, Option<Workload>) {
    read(
        OwnerKind::Pod,
        metadata,
        metadata.labels.as_ref(),
        control_plane_namespace,
    )
}

fn read(
    kind: OwnerKind,
    metadata: &ObjectMeta,
    labels: Option<&BTreeMap<String, String>>,
    control_plane_namespace: &str,
) -> (Owner, Option<Workload>) {
    let owner = Owner {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        kind,
        name: metadata.name.clone().unwrap_or_default(),
    };
    let label = |key| labels.and_then(|labels| labels.get(key));
    let marked = label(labels::CONTROL_PLANE_NAMESPACE)
        .is_some_and(|namespace| namespace == control_plane_namespace)
        && label(labels::TLS_MODE).is_some();
    if !marked || !is_independent(kind, metadata) {
        return (owner, None);
    }
    let workload = Workload {
        owner: owner.clone(),
        uid: metadata.uid.clone().unwrap_or_default(),
        source: labels.map_or(Source::Secret, source_of),
        wanted: Wanted::Marked,
    };
    (owner, Some(workload))
}

/// Where a proxy with these labels on its pod gets its certificate.
pub fn source_of(labels: &BTreeMap<String, String>) -> Source {
    match labels.get(labels::IDENTITY_MODE).map(String::as_str) {
        Some(labels::IDENTITY_MODE_SERVICE) => Source::Service,
        _ => Source::Secret,
    }
}

/// Whether the workload has a name of its own in the mesh, and is there to stay: one that waits for the
/// deletion of its dependents would have its Secret deleted and written in turns.
fn is_independent(kind: OwnerKind, metadata: &ObjectMeta) -> bool {
    metadata.deletion_timestamp.is_none() && !belongs_to_another(kind, metadata)
}

/// Whether the pods of this workload have the name of its controller.
fn belongs_to_another(kind: OwnerKind, metadata: &ObjectMeta) -> bool {
    let references = metadata.owner_references.as_deref().unwrap_or_default();
    references.iter().any(|reference| {
        reference.controller == Some(true)
            && kind
                .part_of(&reference.api_version, &reference.kind)
                .is_some()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn marks() -> Value {
        json!({"linkerd.io/control-plane-ns": "linkerd", "linkerd.io/tls-mode": "optional"})
    }

    fn deployment(labels: &Value) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a.b", "namespace": "ns", "uid": "1"},
            "spec": {"replicas": 1, "template": {"metadata": {"labels": labels}, "spec": {}}},
            "status": {"replicas": 1},
        })
    }

    fn found(kind: OwnerKind, object: Value) -> Option<Workload> {
        let object: Templated = serde_json::from_value(object).expect("a workload");
        let (owner, workload) = read_templated(kind, &object, "linkerd", None);
        assert_eq!(owner.name, "a.b");
        workload
    }

    /// Known, and not marked.
    fn while_mounted() -> Option<Workload> {
        Some(Workload {
            owner: Owner {
                namespace: "ns".into(),
                kind: OwnerKind::Deployment,
                name: "a.b".into(),
            },
            uid: "1".into(),
            source: Source::Secret,
            wanted: Wanted::WhileMounted,
        })
    }

    #[test]
    fn a_workload_is_found_by_the_marks_of_its_pod_template() {
        let workload = found(OwnerKind::Deployment, deployment(&marks())).expect("marked");
        assert_eq!(
            workload.owner.secret_name(),
            "a.b-deployment-tls-linkerd-io"
        );
        assert_eq!(
            (workload.uid.as_str(), workload.source),
            ("1", Source::Secret)
        );
    }

    #[test]
    fn the_mark_of_the_identity_service_says_that_there_is_no_secret() {
        let source = |mode: &str| {
            let mut marks = marks();
            marks["linkerd.io/identity-mode"] = json!(mode);
            found(OwnerKind::Deployment, deployment(&marks)).map(|workload| workload.source)
        };
        assert_eq!(source("service"), Some(Source::Service));
        assert_eq!(source("secret"), Some(Source::Secret));
    }

    #[test]
    fn a_workload_without_tls_is_known_for_the_pods_that_it_still_has() {
        for labels in [
            json!(null),
            json!({}),
            json!({"linkerd.io/control-plane-ns": "linkerd"}),
            json!({"linkerd.io/tls-mode": "optional"}),
        ] {
            let workload = found(OwnerKind::Deployment, deployment(&labels));
            assert_eq!(workload, while_mounted(), "{labels}");
        }
    }

    #[test]
    fn workloads_of_another_control_plane_are_left_alone() {
        for labels in [
            json!({"linkerd.io/control-plane-ns": "other"}),
            json!({"linkerd.io/control-plane-ns": "other", "linkerd.io/tls-mode": "optional"}),
        ] {
            let workload = found(OwnerKind::Deployment, deployment(&labels));
            assert_eq!(workload, None, "{labels}");
        }
    }

    #[test]
    fn marks_on_the_workload_itself_do_not_count() {
        let mut object = deployment(&json!({}));
        object["metadata"]["labels"] = marks();
        assert_eq!(found(OwnerKind::Deployment, object), while_mounted());
    }

    #[test]
    fn the_template_of_a_cron_job_lies_deeper() {
        let object = json!({
            "metadata": {"name": "a.b", "namespace": "ns", "uid": "1"},
            "spec": {"jobTemplate": {"spec": {"template": {"metadata": {"labels": marks()}}}}},
        });
        assert!(found(OwnerKind::CronJob, object).is_some());
    }

    #[test]
    fn what_a_workload_made_has_that_workloads_certificate() {
        for (kind, api_version, controller, expected) in [
            (OwnerKind::ReplicaSet, "apps/v1", "Deployment", false),
            (
                OwnerKind::ReplicaSet,
                "argoproj.io/v1alpha1",
                "Rollout",
                true,
            ),
            (OwnerKind::ReplicaSet, "example.com/v1", "Deployment", true),
            (OwnerKind::Job, "batch/v1", "CronJob", false),
            (OwnerKind::StatefulSet, "example.com/v1", "Database", true),
            (OwnerKind::Deployment, "example.com/v1", "Shop", true),
        ] {
            let mut object = deployment(&marks());
            object["metadata"]["ownerReferences"] = json!([{
                "apiVersion": api_version, "kind": controller, "name": "x", "uid": "9", "controller": true,
            }]);
            assert_eq!(found(kind, object.clone()).is_some(), expected, "{kind}");
            object["metadata"]["ownerReferences"][0]["controller"] = json!(false);
            assert!(found(kind, object).is_some(), "{kind}");
        }
    }

    #[test]
    fn what_the_injector_will_mesh_is_known_from_the_template() {
        let wanted = |namespace: &str, change: &dyn Fn(&mut Value)| {
            let mut object = deployment(&json!({}));
            object["metadata"]["namespace"] = json!(namespace);
            change(&mut object["spec"]["template"]);
            let object: Templated = serde_json::from_value(object).expect("a workload");
            let injected = Some(Source::Service);
            let (_, workload) = read_templated(OwnerKind::Deployment, &object, "linkerd", injected);
            let workload = workload.expect("known");
            if workload.wanted != Wanted::WhileMounted {
                assert_eq!(workload.source, Source::Service);
            }
            workload.wanted
        };
        let says = |word: &'static str| {
            move |template: &mut Value| {
                template["metadata"]["annotations"] = json!({"linkerd.io/inject": word});
            }
        };
        assert_eq!(wanted("ns", &|_| ()), Wanted::WhereInjected);
        assert_eq!(wanted("ns", &says("enabled")), Wanted::Annotated);
        assert_eq!(wanted("ns", &says("disabled")), Wanted::WhileMounted);
        assert_eq!(
            wanted("kube-system", &says("enabled")),
            Wanted::WhileMounted
        );
        assert_eq!(wanted("linkerd", &says("enabled")), Wanted::WhileMounted);
        let host_network = |template: &mut Value| template["spec"]["hostNetwork"] = json!(true);
        assert_eq!(wanted("ns", &host_network), Wanted::WhileMounted);
        for windows in [
            json!({"os": {"name": "windows"}}),
            json!({"nodeSelector": {"kubernetes.io/os": "windows"}}),
        ] {
            let spec = |template: &mut Value| template["spec"] = windows.clone();
            assert_eq!(wanted("ns", &spec), Wanted::WhileMounted, "{windows}");
        }
        let linux = json!({"os": {"name": "linux"}, "nodeSelector": {"kubernetes.io/os": "linux"}});
        let spec = |template: &mut Value| template["spec"] = linux.clone();
        assert_eq!(wanted("ns", &spec), Wanted::WhereInjected);
        let without_tls = |template: &mut Value| {
            template["metadata"]["labels"] = json!({"linkerd.io/control-plane-ns": "linkerd"});
        };
        assert_eq!(wanted("ns", &without_tls), Wanted::WhileMounted);
    }

    #[test]
    fn a_workload_that_is_being_deleted_gets_nothing() {
        let mut object = deployment(&marks());
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(found(OwnerKind::Deployment, object), None);
    }

    #[test]
    fn every_kind_has_its_place_in_the_api() {
        let path = |kind| {
            let resource = api_resource(kind);
            format!("{}/{}", resource.api_version, resource.plural)
        };
        assert_eq!(path(OwnerKind::Deployment), "apps/v1/deployments");
        assert_eq!(
            path(OwnerKind::ReplicationController),
            "v1/replicationcontrollers"
        );
        assert_eq!(path(OwnerKind::CronJob), "batch/v1/cronjobs");
        assert_eq!(api_resource(OwnerKind::Pod).group, "");
    }
}
