//! Checks of the category linkerd-ca: whether every workload that is marked for TLS has what it needs
//! for a handshake. Looks at the objects that proxies mount, as they are now.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use linkerd_issuer::{Leaf, TrustBundle, lifetime::LIFETIME_IN_SECRET_MIN};
use linkerd_names::{Owner, component, labels};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    leaf::{human, judge},
    problem::Problem,
    report::{Finding, Report, Stop, list},
    retry::{Retry, waited_for},
    row::Row,
    workloads::{Marked, Source, marked},
};
use crate::control_plane::{Kubernetes, within};

/// Questions to Kubernetes at once.
const CONCURRENCY: usize = 16;
/// Time to replace the root: long before it is over.
const ROOT_WARNING: Duration = Duration::from_secs(60 * 24 * 60 * 60);
/// A certificate is renewed at two thirds of its life; this much of a life later somebody looks.
const RENEWAL_DELAY_PART: u32 = 12;

/// What was found for the marked workloads.
#[derive(Default)]
struct Found {
    without_bundle: Vec<String>,
    /// How many of these have one of another control plane.
    bundles_of_others: usize,
    /// Their names make no identity: they can never have a certificate.
    impossible: Vec<String>,
    without_secret: Vec<String>,
    bad: Vec<String>,
    /// They are not renewed in time, or cannot be in the pods in time.
    overdue: Vec<String>,
    /// How many Secrets there are, whatever is in them.
    certificates: usize,
    /// The certificate that ends first.
    first: Option<(SystemTime, Owner)>,
    bundles: BTreeMap<String, TrustBundle>,
}

/// Says whether bundles and certificates are there, fit, and are renewed.
pub(super) async fn check(
    report: &mut Report,
    kubernetes: &Kubernetes,
    control_plane: &str,
    retry: &Retry,
) -> Result<(), Stop> {
    report.category("linkerd-ca");
    let workloads = workloads_of(kubernetes, control_plane).await;
    let workloads = report.require(Row::CaWorkloads, workloads)?;
    if workloads.is_empty() {
        report.add(Row::CaMarked, Finding::Warning("no workload is".to_owned()));
        return Ok(());
    }
    // A workload that was just created has its Secret within a second, and one of an earlier root a new
    // certificate within some: --wait waits for both.
    let missing = |found: &Result<Found, Problem>| match found {
        Ok(found) => found
            .without_bundle
            .iter()
            .chain(&found.without_secret)
            .chain(&found.bad)
            .next()
            .cloned(),
        Err(_) => waited_for(found),
    };
    // Workloads come and go while certificates are waited for: only the first look takes those that are known.
    let mut known = Some(workloads);
    let look = || {
        let known = known.take();
        async move {
            let listed = match known {
                Some(known) => known,
                None => workloads_of(kubernetes, control_plane).await?,
            };
            look(kubernetes, &listed, control_plane).await
        }
    };
    let found = retry.look(look, missing).await;
    let found = report.require(Row::CaReadable, found)?;
    let Found {
        without_bundle,
        bundles_of_others,
        impossible,
        without_secret,
        bad,
        overdue,
        certificates,
        first,
        bundles,
    } = found;
    let without = Finding::from(list(&without_bundle));
    if bundles_of_others == 0 || bundles_of_others < without_bundle.len() {
        report.add(Row::CaBundles, without);
    } else {
        let hint = "mesh all of a namespace with one control plane, and restart what runs with the other's proxy";
        report.add_hinted(Row::CaBundles, without, hint);
    }
    report.add(Row::CaAnchors, anchors(&bundles, SystemTime::now()));
    report.add(
        Row::CaNames,
        match list(&impossible) {
            Ok(()) => Finding::Success(None),
            Err(impossible) => Finding::Warning(impossible),
        },
    );
    report.add(Row::CaCertificates, Finding::from(list(&without_secret)));
    report.add(
        Row::CaValid,
        match (list(&bad), first) {
            (Err(problems), _) => Finding::Error(problems),
            (Ok(()), None) => Finding::Success(None),
            (Ok(()), Some((end, owner))) => {
                let rest = end.duration_since(SystemTime::now()).unwrap_or_default();
                Finding::Success(Some(format!(
                    "{certificates} certificates; {owner} has the first to end, in {}",
                    human(rest)
                )))
            }
        },
    );
    report.add(
        Row::CaRenewal,
        match list(&overdue) {
            Ok(()) => Finding::Success(None),
            Err(overdue) => Finding::Warning(overdue),
        },
    );
    Ok(())
}

/// The workloads that are to have a certificate now.
async fn workloads_of(
    kubernetes: &Kubernetes,
    control_plane: &str,
) -> Result<Vec<Marked>, Problem> {
    let listed = marked(&kubernetes.client, control_plane).await;
    listed.map_err(|(kind, error)| {
        let resource = format!("{}s", kind.as_str());
        Problem::of(kubernetes, &error, "list", &resource, None)
    })
}

async fn look(
    kubernetes: &Kubernetes,
    workloads: &[Marked],
    control_plane: &str,
) -> Result<Found, Problem> {
    let mut found = Found::default();
    let namespaces: BTreeSet<&str> = workloads
        .iter()
        .map(|workload| workload.owner.namespace.as_str())
        .collect();
    let mut bundles = stream::iter(namespaces)
        .map(|namespace| async move {
            (
                namespace,
                bundle(kubernetes, namespace, control_plane).await,
            )
        })
        .buffered(CONCURRENCY);
    while let Some((namespace, bundle)) = bundles.next().await {
        match bundle? {
            Ok(bundle) => {
                found.bundles.insert(namespace.to_owned(), bundle);
            }
            Err(NoBundle { what, of_another }) => {
                found
                    .without_bundle
                    .push(format!("namespace {namespace}: {what}"));
                found.bundles_of_others += usize::from(of_another);
            }
        }
    }
    let with_secret = workloads.iter().filter(|one| one.source == Source::Secret);
    let mut secrets = stream::iter(with_secret.map(|workload| &workload.owner))
        .map(|owner| async move { (owner, secret(kubernetes, owner).await) })
        .buffered(CONCURRENCY);
    while let Some((owner, secret)) = secrets.next().await {
        let secret = secret?;
        let identity = match owner.identity(control_plane) {
            Ok(identity) => identity,
            Err(error) => {
                found.impossible.push(format!("{owner}: {error}"));
                continue;
            }
        };
        let Some(secret) = secret else {
            found
                .without_secret
                .push(format!("{owner}: no Secret {:?}", owner.secret_name()));
            continue;
        };
        found.certificates += 1;
        // Without a bundle there is nothing to compare with, and that is reported already.
        let Some(bundle) = found.bundles.get(&owner.namespace) else {
            continue;
        };
        let now = SystemTime::now();
        match judge(&secret.data.unwrap_or_default(), &identity, bundle, now) {
            Err(problem) => found.bad.push(format!("{owner}: {problem}")),
            Ok(leaf) => {
                if leaf.lifetime() < LIFETIME_IN_SECRET_MIN {
                    found.overdue.push(format!(
                        "{owner}: valid for {} in all, and kubelet may need two minutes to bring the next one",
                        human(leaf.lifetime())
                    ));
                } else if is_overdue(&leaf, now) {
                    let rest = leaf.not_after().duration_since(now).unwrap_or_default();
                    found
                        .overdue
                        .push(format!("{owner}: ends in {}", human(rest)));
                }
                let end = (leaf.not_after(), owner.clone());
                found.first = Some(
                    found
                        .first
                        .take()
                        .map_or(end.clone(), |first| first.min(end)),
                );
            }
        }
    }
    Ok(found)
}

/// Whether a certificate should have been replaced already.
fn is_overdue(leaf: &Leaf, now: SystemTime) -> bool {
    let life = leaf
        .not_after()
        .duration_since(leaf.not_before())
        .unwrap_or_default();
    now > leaf.renew_at() + life / RENEWAL_DELAY_PART
}

/// Why a namespace has no bundle of ours.
struct NoBundle {
    what: String,
    /// Another control plane has written it.
    of_another: bool,
}

/// The bundle of a namespace, or what is wrong with it.
async fn bundle(
    kubernetes: &Kubernetes,
    namespace: &str,
    control_plane: &str,
) -> Result<Result<TrustBundle, NoBundle>, Problem> {
    let name = component::TRUST_BUNDLE_CONFIG_MAP;
    let api: Api<ConfigMap> = Api::namespaced(kubernetes.client.clone(), namespace);
    let object = within(api.get_opt(name))
        .await
        .map_err(|error| Problem::of(kubernetes, &error, "get", "configmaps", Some(namespace)))?;
    let without = |what: String| {
        Err(NoBundle {
            what,
            of_another: false,
        })
    };
    let Some(object) = object else {
        return Ok(without(format!("no ConfigMap {name:?}")));
    };
    let labels = object.metadata.labels.unwrap_or_default();
    let holder = labels.get(labels::CONTROL_PLANE_NAMESPACE);
    if let Some(other) = holder.filter(|holder| *holder != control_plane) {
        let what = format!(
            "ConfigMap {name:?} is of the control plane in namespace {other}, which removes it when its last \
             workload and pod here have gone; if that control plane is gone: kubectl delete configmap -n {namespace} {name}"
        );
        return Ok(Err(NoBundle {
            what,
            of_another: true,
        }));
    }
    let data = object.data.unwrap_or_default();
    let Some(pem) = data.get(component::TRUST_BUNDLE_KEY) else {
        return Ok(without(format!(
            "ConfigMap {name:?} has no {:?}",
            component::TRUST_BUNDLE_KEY
        )));
    };
    Ok(TrustBundle::from_pem(pem).or_else(|error| without(format!("ConfigMap {name:?}: {error}"))))
}

async fn secret(kubernetes: &Kubernetes, owner: &Owner) -> Result<Option<Secret>, Problem> {
    let api: Api<Secret> = Api::namespaced(kubernetes.client.clone(), &owner.namespace);
    within(api.get_opt(&owner.secret_name()))
        .await
        .map_err(|error| Problem::of(kubernetes, &error, "get", "secrets", Some(&owner.namespace)))
}

/// Whether each bundle has a root that is valid now, and whether one of them ends soon.
fn anchors(bundles: &BTreeMap<String, TrustBundle>, now: SystemTime) -> Finding {
    let mut problems = Vec::new();
    let mut soon = Vec::new();
    for (namespace, bundle) in bundles {
        let ends: Vec<SystemTime> = bundle
            .certificates()
            .iter()
            .filter_map(|der| valid_until(der, now))
            .collect();
        match ends.into_iter().max() {
            None => problems.push(format!("namespace {namespace}: no root is valid now")),
            Some(end) => {
                let rest = end.duration_since(now).unwrap_or_default();
                if rest < ROOT_WARNING {
                    soon.push(format!(
                        "namespace {namespace}: the root ends in {}",
                        human(rest)
                    ));
                }
            }
        }
    }
    match (list(&problems), list(&soon)) {
        (Err(problems), _) => Finding::Error(problems),
        (Ok(()), Err(soon)) => Finding::Warning(soon),
        (Ok(()), Ok(())) => Finding::Success(None),
    }
}

/// When a certificate ends that is valid now.
fn valid_until(der: &[u8], now: SystemTime) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let time = |seconds: i64| Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?));
    let begin = time(certificate.validity().not_before.timestamp())?;
    let end = time(certificate.validity().not_after.timestamp())?;
    (begin <= now && now <= end).then_some(end)
}

#[cfg(test)]
mod tests {
    use linkerd_issuer::Root;

    use super::*;

    #[test]
    fn roots_are_reported_before_and_after_their_end() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let root = Root::generate(now).expect("a root");
        let bundles = BTreeMap::from([("ns".to_owned(), root.trust_bundle())]);
        let end = root.not_after();
        assert_eq!(anchors(&bundles, now), Finding::Success(None));
        let day = Duration::from_secs(86_400);
        assert!(matches!(anchors(&bundles, end - day), Finding::Warning(_)));
        assert!(matches!(anchors(&bundles, end + day), Finding::Error(_)));
    }
}
