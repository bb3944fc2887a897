//! The pods that ask for a proxy and have none, why, and what helps. Entries: [`unmeshed`] and [`hint`].
//! Injection itself says what it would make of each pod, as it does for `linkerd-injector`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, ResourceExt as _, api::ListParams};
use linkerd_inject::{Options, Outcome, inject_pod, options::TlsMode};
use linkerd_names::{annotations, component, labels};

use super::problem::Problem;
use crate::{
    control_plane::{Kubernetes, within},
    proxy_flags::ProxyFlags,
    release::{self, Release},
};

/// Objects asked for at once.
const PAGE: u32 = 500;

/// A pod without the proxy that it asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unmeshed {
    /// `shop/web-1`.
    pod: String,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// It would get one if it were created now.
    Older,
    /// The annotation is neither of the two words.
    UnknownWord(String),
    /// It cannot have one as it is written.
    Refused(String),
    HostNetwork,
    OtherMesh,
    Windows,
}

impl fmt::Display for Unmeshed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {} has no proxy: ", self.pod)?;
        match &self.why {
            Why::Older => f.write_str("it would get one if it were created now"),
            Why::UnknownWord(word) => write!(
                f,
                "the annotation linkerd.io/inject is {word:?}, which is neither \"enabled\" nor \"disabled\""
            ),
            Why::Refused(why) => f.write_str(why),
            Why::HostNetwork => f.write_str("it uses the host's network"),
            Why::OtherMesh => f.write_str("it has the proxy of another mesh"),
            Why::Windows => f.write_str("it is for nodes with Windows"),
        }
    }
}

/// What helps these pods, each way once.
pub(super) fn hint(pods: &[Unmeshed]) -> String {
    let ways: BTreeSet<&str> = pods
        .iter()
        .map(|pod| match pod.why {
            Why::Older => "`kubectl rollout restart` the workloads of pods that would get one",
            Why::UnknownWord(_) | Why::Refused(_) => "correct what the reason names in the pod template",
            Why::HostNetwork | Why::OtherMesh | Why::Windows => {
                "annotate the templates of pods that cannot have one with linkerd.io/inject: disabled"
            }
        })
        .collect();
    let ways: Vec<&str> = ways.into_iter().collect();
    format!(
        "{}; the Event NotMeshed of the workload says more",
        ways.join("; ")
    )
}

/// Every pod that asks for a proxy, itself or by its namespace, and has none, sorted.
pub(super) async fn unmeshed(
    kubernetes: &Kubernetes,
    control_plane: &str,
) -> Result<Vec<Unmeshed>, Problem> {
    let namespaces: Api<Namespace> = Api::all(kubernetes.client.clone());
    let namespaces = within(namespaces.list_metadata(&ListParams::default()))
        .await
        .map_err(|error| Problem::of(kubernetes, &error, "list", "namespaces", None))?;
    let namespaces: BTreeMap<String, BTreeMap<String, String>> = namespaces
        .items
        .into_iter()
        .map(|mut namespace| {
            (
                namespace.name_any(),
                std::mem::take(namespace.annotations_mut()),
            )
        })
        .collect();
    let options = options(kubernetes, control_plane).await;
    let api: Api<Pod> = Api::all(kubernetes.client.clone());
    // Whoever has the label has the proxy.
    let mut params = ListParams::default()
        .labels(&format!("!{}", labels::CONTROL_PLANE_NAMESPACE))
        .limit(PAGE);
    let mut found = BTreeSet::new();
    loop {
        let page = within(api.list(&params))
            .await
            .map_err(|error| Problem::of(kubernetes, &error, "list", "pods", None))?;
        let pods = page.items.iter();
        found.extend(pods.filter_map(|pod| problem(pod, &namespaces, control_plane, &options)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found.into_iter().collect()),
        }
    }
}

/// How the control plane injects, as far as its values can be read.
async fn options(kubernetes: &Kubernetes, control_plane: &str) -> Options {
    let values = match release::read(kubernetes, control_plane).await {
        Ok(Release::Ours(installed)) => installed.values(control_plane).ok(),
        // Whether they are missing is another row.
        _ => None,
    };
    let options =
        values.and_then(|values| ProxyFlags::of_values(&values).options(control_plane).ok());
    // With TLS the workload's name counts, which a pod does not tell.
    Options {
        tls: TlsMode::Off,
        ..options.unwrap_or_default()
    }
}

/// What is wrong with a pod without a proxy; none when it does not ask for one, or has ended.
fn problem(
    pod: &Pod,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
    control_plane: &str,
    options: &Options,
) -> Option<Unmeshed> {
    let nothing = BTreeMap::new();
    let namespace = pod.namespace().unwrap_or_default();
    let inherited = namespaces.get(&namespace).unwrap_or(&nothing);
    let own = pod.annotations().get(annotations::INJECT);
    let word = own.or_else(|| inherited.get(annotations::INJECT))?;
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    let lives =
        pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"));
    if namespace == control_plane
        || component::NAMESPACES_NEVER_INJECTED.contains(&namespace.as_str())
        || pod.annotations().contains_key(annotations::STATIC_POD)
        || word == annotations::INJECT_DISABLED
        || word.is_empty()
        || !lives
    {
        return None;
    }
    let name = pod.name_any();
    let why = if word == annotations::INJECT_ENABLED {
        let mut value = serde_json::to_value(pod).expect("a pod came as JSON");
        match inject_pod(&mut value, None, &namespace, inherited, options) {
            Ok(entry) => match entry.outcome {
                Outcome::HostNetwork => Why::HostNetwork,
                Outcome::KnownSidecar => Why::OtherMesh,
                Outcome::Windows => Why::Windows,
                _ => Why::Older,
            },
            Err(error) => {
                let text = error.to_string();
                let of_pod = text.strip_prefix(&format!("pod/{name}: "));
                Why::Refused(of_pod.unwrap_or(&text).to_owned())
            }
        }
    } else {
        Why::UnknownWord(word.clone())
    };
    Some(Unmeshed {
        pod: format!("{namespace}/{name}"),
        why,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn find(namespace: &str, change: impl FnOnce(&mut Value)) -> Option<Unmeshed> {
        let word = |word: &str| BTreeMap::from([(annotations::INJECT.to_owned(), word.to_owned())]);
        let namespaces = BTreeMap::from([
            ("shop".to_owned(), word("enabled")),
            ("kube-system".to_owned(), word("enabled")),
        ]);
        let mut pod = json!({
            "metadata": {"name": "a", "namespace": namespace},
            "spec": {"containers": [{"name": "app"}]}, "status": {"phase": "Running"},
        });
        change(&mut pod);
        let pod = serde_json::from_value(pod).expect("a pod");
        problem(&pod, &namespaces, "linkerd", &Options::default())
    }

    fn says(word: &'static str) -> impl Fn(&mut Value) {
        move |pod| pod["metadata"]["annotations"] = json!({"linkerd.io/inject": word})
    }

    #[test]
    fn pods_that_ask_for_no_proxy_or_never_get_one_are_left_out() {
        let of_node = |pod: &mut Value| {
            pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "a"});
        };
        assert_eq!(find("shop", of_node), None);
        assert_eq!(find("other", |_| ()), None);
        assert_eq!(find("kube-system", |_| ()), None);
        assert_eq!(find("shop", says("disabled")), None);
        assert_eq!(
            find("shop", |pod| pod["status"]["phase"] = json!("Succeeded")),
            None
        );
        assert!(find("other", says("enabled")).is_some());
    }

    #[test]
    fn pods_without_the_proxy_that_they_ask_for_say_why_and_what_helps() {
        let annotated = |key: &'static str, value: &'static str| {
            move |pod: &mut Value| pod["metadata"]["annotations"] = json!({key: value})
        };
        type Change = Box<dyn FnOnce(&mut Value)>;
        let cases: [(Change, &str, &str); 6] = [
            (
                Box::new(|_| ()),
                "it would get one if it were created now",
                "`kubectl rollout restart`",
            ),
            (
                Box::new(says("true")),
                "the annotation linkerd.io/inject is \"true\", which is neither \"enabled\" nor \"disabled\"",
                "correct what",
            ),
            (
                Box::new(annotated("config.linkerd.io/proxy-cpu-request", "much")),
                "annotation config.linkerd.io/proxy-cpu-request: \"much\" is not a quantity of Kubernetes (100m, 64Mi)",
                "correct what",
            ),
            (
                Box::new(|pod| pod["spec"]["hostNetwork"] = json!(true)),
                "it uses the host's network",
                "linkerd.io/inject: disabled",
            ),
            (
                Box::new(|pod| pod["spec"]["containers"][0]["name"] = json!("istio-proxy")),
                "it has the proxy of another mesh",
                "linkerd.io/inject: disabled",
            ),
            (
                Box::new(|pod| pod["spec"]["os"] = json!({"name": "windows"})),
                "it is for nodes with Windows",
                "linkerd.io/inject: disabled",
            ),
        ];
        let mut all = Vec::new();
        for (change, why, way) in cases {
            let found = find("shop", change).expect(why);
            assert_eq!(found.to_string(), format!("pod shop/a has no proxy: {why}"));
            let hint = hint(std::slice::from_ref(&found));
            assert!(hint.contains(way), "{why}: {hint}");
            assert!(
                !hint.contains(";  ") && hint.matches("; ").count() == 1,
                "{hint}"
            );
            all.push(found);
        }
        assert_eq!(hint(&all).matches("; ").count(), 3, "{}", hint(&all));
    }
}
