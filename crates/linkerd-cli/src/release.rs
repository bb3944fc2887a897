//! What is installed: the values that `install` has left in the cluster.
//! Entry: [`read`], for `upgrade`, `prune` and `uninstall`.

use anyhow::Context as _;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{Api, ResourceExt as _};
use linkerd_names::component;
use serde_json::Value;

use crate::{
    chart,
    control_plane::{CallError, ConnectError, Kubernetes, no_permission, within},
    install,
};

/// Labels and annotations by which Helm marks what it has installed.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const HELM_RELEASE: &str = "meta.helm.sh/release-name";
/// Label with the version of the chart's application.
const VERSION: &str = "app.kubernetes.io/version";

/// What is in a namespace.
#[derive(Debug)]
pub(crate) enum Release {
    /// No control plane.
    None,
    /// A control plane of a version that kept no values.
    Unknown,
    /// Helm's release of this name, which is Helm's business.
    Helm(String),
    /// A control plane, and its values.
    Ours(Box<Installed>),
}

/// The control plane that is installed.
#[derive(Debug, PartialEq)]
pub(crate) struct Installed {
    /// Its version, as its label has it.
    pub(crate) version: String,
    /// What of its values differs from the defaults, as YAML; all of them when nothing says what differs.
    overrides: String,
}

/// Asks the cluster what is installed in `namespace`.
///
/// # Errors
/// [`ConnectError::Kubernetes`] when it does not say.
pub(crate) async fn read(
    kubernetes: &Kubernetes,
    namespace: &str,
) -> Result<Release, ConnectError> {
    let failed = |error: CallError, resource| {
        ConnectError::Kubernetes(if error.is_forbidden() {
            no_permission("get", resource, Some(namespace))
        } else {
            kubernetes.explain(&error)
        })
    };
    let config_maps: Api<ConfigMap> = Api::namespaced(kubernetes.client.clone(), namespace);
    let config = within(config_maps.get_opt(component::CONFIG))
        .await
        .map_err(|error| failed(error, "configmaps"))?;
    if let Some(config) = config {
        return Ok(release(config));
    }
    let deployments: Api<Deployment> = Api::namespaced(kubernetes.client.clone(), namespace);
    let deployment = within(deployments.get_opt(component::DESTINATION))
        .await
        .map_err(|error| failed(error, "deployments"))?;
    Ok(match deployment {
        Some(_) => Release::Unknown,
        None => Release::None,
    })
}

fn release(mut config: ConfigMap) -> Release {
    if config
        .labels()
        .get(MANAGED_BY)
        .is_some_and(|by| by == "Helm")
    {
        let name = config.annotations_mut().remove(HELM_RELEASE);
        return Release::Helm(name.unwrap_or_default());
    }
    let version = config.labels_mut().remove(VERSION).unwrap_or_default();
    let mut data = config.data.unwrap_or_default();
    match data.remove("overrides").or_else(|| data.remove("values")) {
        Some(overrides) => Release::Ours(Box::new(Installed { version, overrides })),
        None => Release::Unknown,
    }
}

impl Installed {
    /// The defaults of this program's version with what was wanted otherwise at the install.
    ///
    /// # Errors
    /// When somebody has made something else of the ConfigMap.
    pub(crate) fn values(&self, namespace: &str) -> anyhow::Result<Value> {
        let overrides = linkerd_inject::yaml::read(&self.overrides, 1).with_context(|| {
            format!(
                "cannot read the values in ConfigMap {} of namespace {namespace:?}",
                component::CONFIG
            )
        })?;
        let mut values = install::default_values()?;
        if overrides.is_object() {
            chart::merge(&mut values, overrides);
        }
        Ok(values)
    }
}

/// What to say where a release of ours is needed and there is another state of things.
///
/// `verb` is the command: `upgrade`.
pub(crate) fn missing(release: &Release, namespace: &str, verb: &str) -> Option<String> {
    match release {
        Release::Ours(_) => None,
        Release::None => Some(format!(
            "there is no control plane in namespace {namespace:?}: install one with \
             `linkerd install --tls=optional | kubectl apply -f -`, or name its namespace with --linkerd-namespace"
        )),
        Release::Unknown => Some(format!(
            "the control plane in namespace {namespace:?} has no ConfigMap {} with the values it was \
             installed with: use `linkerd upgrade --reset-values` with the flags of that install",
            component::CONFIG
        )),
        Release::Helm(name) => Some(format!(
            "the control plane in namespace {namespace:?} is Helm's release {name:?}: use \
             `helm {verb} --namespace {namespace} {name}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: Value) -> Release {
        release(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn what_differs_comes_first_and_all_values_do_as_well() {
        let labels = json!({"labels": {VERSION: "0.1.0"}});
        for (data, expected) in [
            (
                json!({"values": "a: 1\n", "overrides": "{}\n"}),
                Some("{}\n"),
            ),
            (json!({"values": "a: 1\n"}), Some("a: 1\n")),
            (json!({}), None),
        ] {
            let found = match config(json!({"metadata": labels, "data": data})) {
                Release::Ours(installed) => {
                    assert_eq!(installed.version, "0.1.0");
                    Some(installed.overrides)
                }
                _ => None,
            };
            assert_eq!(found.as_deref(), expected);
        }
    }

    #[test]
    fn what_helm_has_installed_is_helms_business() {
        let release = config(json!({
            "metadata": {
                "labels": {MANAGED_BY: "Helm"},
                "annotations": {HELM_RELEASE: "mesh"},
            },
            "data": {"values": "{}"},
        }));
        assert_eq!(
            missing(&release, "linkerd", "upgrade").unwrap(),
            "the control plane in namespace \"linkerd\" is Helm's release \"mesh\": use \
             `helm upgrade --namespace linkerd mesh`"
        );
    }

    #[test]
    fn kept_values_lie_on_top_of_the_defaults() {
        let installed = |overrides: &str| Installed {
            version: String::new(),
            overrides: overrides.to_owned(),
        };
        let values = installed("ca: {replicas: 3}").values("linkerd").unwrap();
        assert_eq!(
            (&values["ca"]["replicas"], &values["api"]["replicas"]),
            (&json!(3), &json!(1))
        );
        let error = installed("a: [").values("linkerd").unwrap_err();
        assert!(format!("{error:#}").contains("linkerd-config"), "{error:#}");
    }
}
