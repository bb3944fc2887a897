//! Checks of the category linkerd-injector: whether the API server asks the webhook and trusts it, whether another one
//! wants the same pods, and whether every pod that asks for a proxy has one. Entry: [`check`]. A webhook that fails lets
//! pods start without us; here it comes to light.

use std::time::SystemTime;

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::Deployment,
    core::v1::{Namespace, Secret},
};
use kube::{Api, ResourceExt as _, api::ListParams};
use linkerd_issuer::{TrustBundle, WebhookCertificate};
use linkerd_names::{annotations, component};

use super::{
    leaf::human,
    orphans::orphans,
    problem::Problem,
    report::{Finding, Report, Stop, list},
    retry::Retry,
    row::Row,
    unmeshed::{self, unmeshed},
};
use crate::control_plane::{Kubernetes, within};

/// What installs a webhook, as the API server's rules of access name it.
const CONFIGURATIONS: &str = "mutatingwebhookconfigurations";
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
    let configuration = || configuration(kubernetes, &api, &name);
    let mut installed = report.require(Row::InjectorReadable, configuration().await)?;
    let deployed = installed.is_some()
        || match deployed(kubernetes, control_plane).await {
            Ok(deployed) => deployed,
            Err(problem) => {
                report.add(Row::InjectorConfigured, problem);
                false
            }
        };
    if deployed {
        let found = retry.run(|| async {
            let found = configuration().await?;
            found.ok_or_else(|| {
                Problem::Found(format!("there is no MutatingWebhookConfiguration {name:?}"))
            })
        });
        match found.await {
            Ok(found) => {
                report.add(Row::InjectorConfigured, Finding::Success(None));
                installed = Some(found);
            }
            Err(problem) => report.add(Row::InjectorConfigured, problem),
        }
    }
    if installed.is_some() {
        let trusted = retry.run(|| trusted(kubernetes, control_plane, &api, &name));
        report.add(
            Row::InjectorTrusted,
            trusted
                .await
                .map_or_else(Finding::from, |rest| Finding::Success(Some(rest))),
        );
        // Hardly anybody has two: said only where it is so.
        if let Err(problem) = alone(kubernetes, &api, &name).await {
            report.add(Row::InjectorAlone, Finding::Warning(problem));
        }
    }
    check_pods(report, kubernetes, control_plane, deployed).await;
    Ok(())
}

/// Names the pods that should have a proxy and have none, and those that have one of nobody. No time heals
/// these, so that `--wait` does not wait for them: nobody adds a proxy to a pod that runs.
async fn check_pods(
    report: &mut Report,
    kubernetes: &Kubernetes,
    control_plane: &str,
    is_installed: bool,
) {
    match unmeshed(kubernetes, control_plane).await {
        Err(problem) => report.add(Row::InjectorPods, problem),
        Ok(pods) if pods.is_empty() => report.add(Row::InjectorPods, Finding::Success(None)),
        Ok(pods) => {
            let mut lines: Vec<String> = pods.iter().map(ToString::to_string).collect();
            let hint = if is_installed {
                unmeshed::hint(&pods)
            } else {
                lines.insert(0, "linkerd-injector is not installed".to_owned());
                "install it with `linkerd upgrade -l <namespace> --set injector.enabled=true | kubectl apply -f -`, or mesh \
                 them with `linkerd inject`"
                    .to_owned()
            };
            report.add_hinted(Row::InjectorPods, Finding::from(list(&lines)), hint);
        }
    }
    match orphans(kubernetes, control_plane).await {
        Err(problem) => report.add(Row::InjectorOrphans, problem),
        // It is seldom so: said only then.
        Ok(lines) => {
            if let Err(lines) = list(&lines) {
                report.add(Row::InjectorOrphans, Finding::Warning(lines));
            }
        }
    }
}

/// The webhook's configuration, when there is one.
async fn configuration(
    kubernetes: &Kubernetes,
    configurations: &Api<MutatingWebhookConfiguration>,
    name: &str,
) -> Result<Option<MutatingWebhookConfiguration>, Problem> {
    within(configurations.get_opt(name))
        .await
        .map_err(|error| Problem::of(kubernetes, &error, "get", CONFIGURATIONS, None))
}

/// Whether the injector runs, or is to.
async fn deployed(kubernetes: &Kubernetes, control_plane: &str) -> Result<bool, Problem> {
    let api: Api<Deployment> = Api::namespaced(kubernetes.client.clone(), control_plane);
    let found = within(api.get_opt(component::INJECTOR)).await;
    let found = found.map_err(|error| {
        Problem::of(
            kubernetes,
            &error,
            "get",
            "deployments",
            Some(control_plane),
        )
    })?;
    Ok(found.is_some())
}

/// How long the webhook's certificate is trusted, or why it is not.
async fn trusted(
    kubernetes: &Kubernetes,
    control_plane: &str,
    configurations: &Api<MutatingWebhookConfiguration>,
    name: &str,
) -> Result<String, Problem> {
    let configuration = within(configurations.get(name))
        .await
        .map_err(|error| Problem::of(kubernetes, &error, "get", CONFIGURATIONS, None))?;
    let secret = component::INJECTOR_SECRET;
    let secrets: Api<Secret> = Api::namespaced(kubernetes.client.clone(), control_plane);
    let held = within(secrets.get_opt(secret))
        .await
        .map_err(|error| Problem::of(kubernetes, &error, "get", "secrets", Some(control_plane)))?;
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
    let listed =
        listed.map_err(|error| Problem::of(kubernetes, &error, "list", CONFIGURATIONS, None))?;
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
        namespaces.map_err(|error| Problem::of(kubernetes, &error, "list", "namespaces", None))?;
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

#[cfg(test)]
mod tests {
    use linkerd_issuer::{LEAF_LIFETIME_DEFAULT, Root};

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
}
