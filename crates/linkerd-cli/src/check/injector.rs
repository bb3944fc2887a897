//! Checks of the category linkerd-injector: whether the API server trusts the webhook, whether another one wants
//! the same pods, and whether every pod that asks for a proxy has one. Entry: [`check`]. A webhook that fails lets pods start without us; here it
//! comes to light.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{Namespace, Pod, Secret},
};
use kube::{Api, ResourceExt as _, api::ListParams};
use linkerd_issuer::{TrustBundle, WebhookCertificate};
use linkerd_names::{annotations, component, labels};

use super::{
    leaf::human,
    report::{Finding, Report, Stop, list},
    retry::Retry,
    row::Row,
};
use crate::control_plane::{CallError, Kubernetes, no_permission, within};

/// Objects asked for at once.
const PAGE: u32 = 500;
/// The name of our webhook, and how that of Linkerd's own injector ends.
const INJECTOR_WEBHOOK: &str = "injector.linkerd.io";

/// Says whether the webhook is trusted, and names each pod that should have a proxy and has none.
pub(super) async fn check(
    report: &mut Report,
    kubernetes: &Kubernetes,
    control_plane: &str,
    retry: &Retry,
) -> Result<(), Stop> {
    report.category("linkerd-injector");
    let name = component::injector_webhook_configuration(control_plane);
    let api: Api<MutatingWebhookConfiguration> = Api::all(kubernetes.client.clone());
    let installed = within(api.get_opt(&name)).await.map_err(|error| {
        explain(
            kubernetes,
            &error,
            "get",
            "mutatingwebhookconfigurations",
            None,
        )
    });
    let installed = report.require(Row::InjectorReadable, installed)?;
    if installed.is_some() {
        let trusted = retry.run(|| trusted(kubernetes, control_plane, &api, &name));
        report.add(
            Row::InjectorTrusted,
            trusted
                .await
                .map_or_else(Finding::Error, |rest| Finding::Success(Some(rest))),
        );
        // Hardly anybody has two: said only where it is so.
        if let Err(problem) = alone(kubernetes, &api, &name).await {
            report.add(Row::InjectorAlone, Finding::Warning(problem));
        }
    }
    let unmeshed = retry.run(|| async {
        let mut problems = unmeshed(kubernetes, control_plane).await?;
        if installed.is_none() && !problems.is_empty() {
            problems.insert(0, "linkerd-injector is not installed".to_owned());
        }
        list(&problems)
    });
    report.add(Row::InjectorPods, Finding::from(unmeshed.await));
    Ok(())
}

/// How long the webhook's certificate is trusted, or why it is not.
async fn trusted(
    kubernetes: &Kubernetes,
    control_plane: &str,
    configurations: &Api<MutatingWebhookConfiguration>,
    name: &str,
) -> Result<String, String> {
    let configuration = within(configurations.get(name)).await.map_err(|error| {
        explain(
            kubernetes,
            &error,
            "get",
            "mutatingwebhookconfigurations",
            None,
        )
    })?;
    let secret = component::INJECTOR_SECRET;
    let secrets: Api<Secret> = Api::namespaced(kubernetes.client.clone(), control_plane);
    let held = within(secrets.get_opt(secret))
        .await
        .map_err(|error| explain(kubernetes, &error, "get", "secrets", Some(control_plane)))?;
    let held = held.ok_or_else(|| format!("there is no Secret {secret:?}"))?;
    let data = held.data.unwrap_or_default();
    let pem = data
        .get(component::INJECTOR_CERTIFICATE_KEY)
        .ok_or_else(|| format!("Secret {secret:?} has no certificate"))?;
    let now = SystemTime::now();
    for webhook in configuration.webhooks.unwrap_or_default() {
        let bundle = webhook.client_config.ca_bundle.unwrap_or_default();
        judge(
            &pem.0,
            &bundle.0,
            &component::injector_host(control_plane),
            now,
        )
        .map_err(|problem| format!("webhook {}: {problem}", webhook.name))?;
    }
    let certificate = WebhookCertificate::from_pem(&pem.0).map_err(|error| error.to_string())?;
    let rest = certificate.not_after().duration_since(now);
    Ok(format!(
        "its certificate ends in {}",
        human(rest.unwrap_or_default())
    ))
}

/// Why an API server with this `caBundle` does not accept the certificate.
fn judge(pem: &[u8], bundle: &[u8], host: &str, now: SystemTime) -> Result<(), String> {
    let certificate =
        WebhookCertificate::from_pem(pem).map_err(|error| format!("its certificate: {error}"))?;
    if certificate.host() != host {
        return Err(format!(
            "its certificate is for {}, not for {host}",
            certificate.host()
        ));
    }
    let bundle = std::str::from_utf8(bundle)
        .ok()
        .and_then(|text| TrustBundle::from_pem(text).ok())
        .ok_or("its caBundle holds no certificates")?;
    if !certificate.is_trusted_by(&bundle, now) {
        return Err("its certificate does not chain to its caBundle, or has ended".to_owned());
    }
    Ok(())
}

/// Ours is the only injector that listens to the annotation, or nobody has annotated a namespace.
async fn alone(
    kubernetes: &Kubernetes,
    configurations: &Api<MutatingWebhookConfiguration>,
    name: &str,
) -> Result<(), String> {
    let listed = within(configurations.list(&ListParams::default())).await;
    let listed = listed.map_err(|error| {
        explain(
            kubernetes,
            &error,
            "list",
            "mutatingwebhookconfigurations",
            None,
        )
    })?;
    let others: Vec<String> = listed
        .into_iter()
        .filter(|it| it.name_any() != name && is_injector(it))
        .map(|it| it.name_any())
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let namespaces: Api<Namespace> = Api::all(kubernetes.client.clone());
    let namespaces = within(namespaces.list_metadata(&ListParams::default())).await;
    let namespaces =
        namespaces.map_err(|error| explain(kubernetes, &error, "list", "namespaces", None))?;
    let both_want = namespaces.into_iter().find(|namespace| {
        let word = namespace.annotations().get(annotations::INJECT);
        namespace.metadata.deletion_timestamp.is_none()
            && word.is_some_and(|word| word == annotations::INJECT_ENABLED)
    });
    match both_want {
        None => Ok(()),
        Some(namespace) => Err(format!(
            "the pods of namespace {} get the proxy of one of them: {name}, {}",
            namespace.name_any(),
            others.join(", ")
        )),
    }
}

/// Whether it is that of a control plane like ours, or of Linkerd itself.
fn is_injector(configuration: &MutatingWebhookConfiguration) -> bool {
    let mut webhooks = configuration.webhooks.iter().flatten();
    webhooks.any(|webhook| webhook.name.ends_with(INJECTOR_WEBHOOK))
}

/// Every pod that asks for a proxy, itself or by its namespace, and has none.
async fn unmeshed(kubernetes: &Kubernetes, control_plane: &str) -> Result<Vec<String>, String> {
    let namespaces: Api<Namespace> = Api::all(kubernetes.client.clone());
    let namespaces = within(namespaces.list_metadata(&ListParams::default()))
        .await
        .map_err(|error| explain(kubernetes, &error, "list", "namespaces", None))?;
    let words: BTreeMap<String, String> = namespaces
        .items
        .into_iter()
        .filter_map(|namespace| {
            let word = namespace.annotations().get(annotations::INJECT)?.clone();
            Some((namespace.name_any(), word))
        })
        .collect();
    let pods: Api<Pod> = Api::all(kubernetes.client.clone());
    // Whoever has the label has the proxy.
    let mut params = ListParams::default()
        .labels(&format!("!{}", labels::CONTROL_PLANE_NAMESPACE))
        .limit(PAGE);
    let mut problems = BTreeSet::new();
    loop {
        let page = within(pods.list(&params))
            .await
            .map_err(|error| explain(kubernetes, &error, "list", "pods", None))?;
        problems.extend(
            page.items
                .iter()
                .filter_map(|pod| problem(pod, &words, control_plane)),
        );
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(problems.into_iter().collect()),
        }
    }
}

/// What is wrong with a pod without a proxy; none when it does not ask for one, or has ended.
fn problem(pod: &Pod, words: &BTreeMap<String, String>, control_plane: &str) -> Option<String> {
    let namespace = pod.namespace().unwrap_or_default();
    let own = pod.annotations().get(annotations::INJECT);
    let word = own.or_else(|| words.get(&namespace))?;
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
    let spec = pod.spec.as_ref();
    let host_network = spec.and_then(|spec| spec.host_network) == Some(true);
    let os = spec.and_then(|spec| Some(&spec.os.as_ref()?.name));
    let selector = spec.and_then(|spec| spec.node_selector.as_ref()?.get("kubernetes.io/os"));
    let windows = [os, selector]
        .into_iter()
        .flatten()
        .any(|os| os == "windows");
    let reason = if word != annotations::INJECT_ENABLED {
        format!(
            ": the annotation linkerd.io/inject is {word:?}, which is neither \"enabled\" nor \"disabled\""
        )
    } else if host_network {
        ": it uses the host's network".to_owned()
    } else if windows {
        ": it is for nodes with Windows".to_owned()
    } else {
        String::new()
    };
    Some(format!("pod {namespace}/{name} has no proxy{reason}"))
}

fn explain(
    kubernetes: &Kubernetes,
    error: &CallError,
    verb: &str,
    resource: &str,
    namespace: Option<&str>,
) -> String {
    if error.is_forbidden() {
        return no_permission(verb, resource, namespace);
    }
    kubernetes.explain(error)
}

#[cfg(test)]
mod tests {
    use linkerd_issuer::{LEAF_LIFETIME_DEFAULT, Root};
    use serde_json::{Value, json};

    use super::*;

    const HOST: &str = "linkerd-injector.linkerd.svc";

    #[test]
    fn a_certificate_of_another_root_or_for_another_host_is_told_of() {
        let now = SystemTime::now();
        let root = Root::generate(now).expect("a root");
        let issued = root
            .issue_webhook("linkerd-injector", "linkerd", LEAF_LIFETIME_DEFAULT, now)
            .expect("a certificate");
        let pem = issued.certificate.to_pem();
        let bundle = root.trust_bundle().to_pem();
        let judged = |bundle: &str, host, now| judge(pem.as_bytes(), bundle.as_bytes(), host, now);
        assert_eq!(judged(&bundle, HOST, now), Ok(()));
        let other = Root::generate(now).expect("a root").trust_bundle().to_pem();
        assert!(judged(&other, HOST, now).is_err());
        assert!(judged(&(other + &bundle), HOST, now).is_ok());
        assert!(judged("", HOST, now).is_err());
        assert!(judged(&bundle, "linkerd-injector.other.svc", now).is_err());
        assert!(judged(&bundle, HOST, now + 2 * LEAF_LIFETIME_DEFAULT).is_err());
    }

    #[test]
    fn pods_without_the_proxy_that_they_ask_for_are_named() {
        let words = BTreeMap::from([
            ("shop".to_owned(), "enabled".to_owned()),
            ("kube-system".to_owned(), "enabled".to_owned()),
        ]);
        let found = |namespace: &str, change: &dyn Fn(&mut Value)| {
            let mut pod = json!({
                "metadata": {"name": "a", "namespace": namespace},
                "spec": {"containers": []}, "status": {"phase": "Running"},
            });
            change(&mut pod);
            let pod = serde_json::from_value(pod).expect("a pod");
            problem(&pod, &words, "linkerd")
        };
        let says = |word: &'static str| {
            move |pod: &mut Value| {
                pod["metadata"]["annotations"] = json!({"linkerd.io/inject": word});
            }
        };
        let expected = Some("pod shop/a has no proxy".to_owned());
        assert_eq!(found("shop", &|_| ()), expected);
        let on_windows = |pod: &mut Value| pod["spec"]["os"] = json!({"name": "windows"});
        let windows = found("shop", &on_windows);
        assert!(windows.is_some_and(|what| what.ends_with(": it is for nodes with Windows")));
        let of_node = |pod: &mut Value| {
            pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "a"});
        };
        assert_eq!(found("shop", &of_node), None);
        assert_eq!(found("other", &|_| ()), None);
        assert_eq!(found("kube-system", &|_| ()), None);
        assert_eq!(found("shop", &says("disabled")), None);
        assert!(found("other", &says("enabled")).is_some());
        assert!(found("shop", &says("true")).is_some_and(|it| it.contains("\"true\"")));
        assert_eq!(
            found("shop", &|pod| pod["status"]["phase"] = json!("Succeeded")),
            None
        );
        let host = found("shop", &|pod| pod["spec"]["hostNetwork"] = json!(true));
        assert!(host.is_some_and(|it| it.contains("host's network")));
    }
}
