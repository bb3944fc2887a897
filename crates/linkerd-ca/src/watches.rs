//! Everything that the controller watches, as one stream. Entry: [`watch_all`].
//! Objects are reduced to what is needed as they come in; a watch that breaks is taken up again by itself.

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream, select_all},
};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{ConfigMap, Namespace, Pod, Secret},
};
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Config, Event, watch_object, watcher},
    },
};
use linkerd_names::{
    Owner, OwnerKind, annotations,
    component::{self, ROOT_SECRET, TRUST_BUNDLE_CONFIG_MAP},
    labels,
};
use tracing::warn;

use crate::{
    bundle::{self, HeldBundle},
    marks::{self, Mark},
    mirror::Change,
    secret::{self, Held},
    workloads::{self, Source, Templated, Workload},
    write::Version,
};

/// Selects pods that run or will.
const NOT_ENDED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// One thing that a watch tells.
#[derive(Debug)]
pub enum Observed {
    /// About workloads of one kind.
    Workload(OwnerKind, Change<Owner, Workload>),
    /// About pods with proxies of any control plane.
    Mark(Change<Owner, Mark>),
    /// About Secrets of workloads.
    Secret(Change<Owner, Held>),
    /// About trust bundles, by namespace.
    Bundle(Change<String, HeldBundle>),
    /// The root's Secret as it is now.
    Root(Option<Version>),
    /// About namespaces that ask `linkerd-injector` for proxies.
    Injected(Change<String, ()>),
    /// The webhook's configuration or Secret has changed.
    Webhook,
}

/// Watches workloads of every kind, our Secrets and ConfigMaps, and the root; with an injector, whose proxies
/// get their certificates from `injected`, also namespaces and what makes the injector trusted.
pub fn watch_all(
    client: &Client,
    control_plane_namespace: &str,
    injected: Option<Source>,
) -> impl Stream<Item = Observed> + Send + use<> {
    let templated = OwnerKind::ALL
        .into_iter()
        .filter(|kind| *kind != OwnerKind::Pod);
    let mut streams: Vec<BoxStream<'static, Observed>> = templated
        .map(|kind| {
            let namespace = control_plane_namespace.to_owned();
            watch_templated(client.clone(), kind, namespace, injected)
        })
        .collect();
    streams.push(watch_pods(
        client.clone(),
        control_plane_namespace.to_owned(),
    ));
    streams.push(watch_secrets(
        client.clone(),
        control_plane_namespace.to_owned(),
    ));
    streams.push(watch_bundles(client.clone()));
    streams.push(watch_root(client.clone(), control_plane_namespace));
    if injected.is_some() {
        streams.push(watch_namespaces(client.clone()));
        streams.extend(watch_webhook(client, control_plane_namespace));
    }
    select_all(streams)
}

fn watch_templated(
    client: Client,
    kind: OwnerKind,
    control_plane_namespace: String,
    injected: Option<Source>,
) -> BoxStream<'static, Observed> {
    let api: Api<Templated> = Api::all_with(client, &workloads::api_resource(kind));
    // The marks are on the pod template, which no selector reaches.
    changes(
        kind.as_str(),
        watcher(api, Config::default()),
        move |object| {
            Some(workloads::read_templated(
                kind,
                &object,
                &control_plane_namespace,
                injected,
            ))
        },
    )
    .map(move |change| Observed::Workload(kind, change))
    .boxed()
}

/// Pods with proxies of any control plane that have not ended: what they say of their workload, and, of those
/// that stand for themselves and are ours, the workload.
fn watch_pods(client: Client, control_plane_namespace: String) -> BoxStream<'static, Observed> {
    let api: Api<PartialObjectMeta<Pod>> = Api::all(client);
    let marked = format!("{},{}", labels::CONTROL_PLANE_NAMESPACE, labels::TLS_MODE);
    let pods = Config::default().labels(&marked).fields(NOT_ENDED);
    changes("pod", watcher(api, pods), move |pod| {
        let (owner, workload) = workloads::read_pod(&pod.metadata, &control_plane_namespace);
        let mark = marks::read(&pod.metadata)?;
        Some((owner, Some((workload, mark))))
    })
    .flat_map(|change: Change<Owner, (Option<Workload>, Mark)>| {
        let workload = change.clone().filter_map(|(workload, _)| workload);
        let mark = change.filter_map(|(_, mark)| Some(mark));
        let workload = workload.map(|change| Observed::Workload(OwnerKind::Pod, change));
        stream::iter(workload.into_iter().chain(mark.map(Observed::Mark)))
    })
    .boxed()
}

fn watch_secrets(client: Client, control_plane_namespace: String) -> BoxStream<'static, Observed> {
    let api: Api<Secret> = Api::all(client);
    let ours = format!(
        "{}={control_plane_namespace}",
        labels::CONTROL_PLANE_NAMESPACE
    );
    changes(
        "secret",
        watcher(api, Config::default().labels(&ours)),
        move |secret| {
            let owner =
                secret::owner_of(&secret.namespace().unwrap_or_default(), &secret.name_any())?;
            Some((owner, Some(secret::read(secret, &control_plane_namespace))))
        },
    )
    .map(Observed::Secret)
    .boxed()
}

fn watch_bundles(client: Client) -> BoxStream<'static, Observed> {
    let api: Api<ConfigMap> = Api::all(client);
    // By name and not by label: our permission is for this one name.
    let ours = format!("metadata.name={TRUST_BUNDLE_CONFIG_MAP}");
    changes(
        "configmap",
        watcher(api, Config::default().fields(&ours)),
        |config_map| {
            Some((
                config_map.namespace().unwrap_or_default(),
                Some(bundle::read(config_map)),
            ))
        },
    )
    .map(Observed::Bundle)
    .boxed()
}

fn watch_root(client: Client, control_plane_namespace: &str) -> BoxStream<'static, Observed> {
    let api: Api<Secret> = Api::namespaced(client, control_plane_namespace);
    watch_object(api, ROOT_SECRET)
        .default_backoff()
        .filter_map(async |event| report("root secret", event))
        .map(|secret| {
            let version = secret.as_ref().map(|secret| Version::of(&secret.metadata));
            if let Some(mut secret) = secret {
                secret::wipe(&mut secret);
            }
            Observed::Root(version)
        })
        .boxed()
}

fn watch_namespaces(client: Client) -> BoxStream<'static, Observed> {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    changes("namespace", watcher(api, Config::default()), |namespace| {
        let word = namespace.annotations().get(annotations::INJECT);
        let asks = word.is_some_and(|word| word == annotations::INJECT_ENABLED);
        Some((namespace.name_any(), asks.then_some(())))
    })
    .map(Observed::Injected)
    .boxed()
}

fn watch_webhook(
    client: &Client,
    control_plane_namespace: &str,
) -> [BoxStream<'static, Observed>; 2] {
    let secrets: Api<PartialObjectMeta<Secret>> =
        Api::namespaced(client.clone(), control_plane_namespace);
    let configurations: Api<PartialObjectMeta<MutatingWebhookConfiguration>> =
        Api::all(client.clone());
    let configuration = component::injector_webhook_configuration(control_plane_namespace);
    [
        watch_object(secrets, component::INJECTOR_SECRET)
            .default_backoff()
            .filter_map(async |event| report("injector secret", event))
            .map(|_| Observed::Webhook)
            .boxed(),
        watch_object(configurations, &configuration)
            .default_backoff()
            .filter_map(async |event| report("webhook configuration", event))
            .map(|_| Observed::Webhook)
            .boxed(),
    ]
}

/// Turns the events of one watch into changes. `read` returns an object's key, and its value if it
/// concerns us; none when not even its key does.
fn changes<O, K, V>(
    what: &'static str,
    events: impl Stream<Item = watcher::Result<Event<O>>> + Send + 'static,
    read: impl Fn(O) -> Option<(K, Option<V>)> + Send + 'static,
) -> impl Stream<Item = Change<K, V>> + Send
where
    O: Clone + Send + 'static,
    K: Send,
    V: Send,
{
    events.default_backoff().filter_map(move |event| {
        let change = report(what, event).and_then(|event| match event {
            Event::Init => Some(Change::Relist),
            Event::InitApply(object) => {
                let (key, value) = read(object)?;
                Some(Change::Listed(key, value?))
            }
            Event::InitDone => Some(Change::RelistDone),
            Event::Apply(object) => Some(match read(object)? {
                (key, Some(value)) => Change::Set(key, value),
                (key, None) => Change::Remove(key),
            }),
            Event::Delete(object) => Some(Change::Remove(read(object)?.0)),
        });
        std::future::ready(change)
    })
}

/// Logs a watch that broke; it is taken up again after a while.
fn report<T>(what: &'static str, event: watcher::Result<T>) -> Option<T> {
    match event {
        Ok(event) => Some(event),
        Err(error) => {
            warn!(watch = what, %error, "watch broke, trying again");
            None
        }
    }
}
