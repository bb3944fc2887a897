//! Everything that the controller watches, as one stream. Entry: [`watch_all`].
//! Objects are reduced to what is needed as they come in; a watch that breaks is taken up again by itself.

use std::{fmt::Debug, future::ready};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream, select_all},
};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    core::v1::{ConfigMap, Namespace, Pod, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use linkerd_kubernetes::watch_config;
use linkerd_names::{
    Owner, OwnerKind, annotations,
    component::{self, ROOT_SECRET, TRUST_BUNDLE_CONFIG_MAP},
    labels,
};
use tracing::warn;

use crate::{
    bundle::{self, HeldBundle},
    marks::{self, Mark},
    metrics::Metrics,
    mirror::Change,
    secret::{self, Held},
    workloads::{self, Source, Templated, Workload},
};

/// Selects pods that run or will.
const NOT_ENDED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// So many Secrets are read at once. A Secret may be a megabyte, and whoever may write some gives them our label.
const SECRETS_PAGE: u32 = 20;

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
    /// The root's Secret has changed.
    Root,
    /// About namespaces that ask `linkerd-injector` for proxies.
    Injected(Change<String, ()>),
    /// The webhook's configuration or Secret has changed.
    Webhook,
}

/// What every watch is started with.
struct Start<'a> {
    client: &'a Client,
    control_plane_namespace: &'a str,
    metrics: &'a Metrics,
}

/// Watches workloads of every kind, our Secrets and ConfigMaps, and the root; with an injector, whose proxies
/// get their certificates from `injected`, also namespaces and what makes the injector trusted.
pub fn watch_all(
    client: &Client,
    control_plane_namespace: &str,
    injected: Option<Source>,
    metrics: &Metrics,
) -> impl Stream<Item = Observed> + Send + use<> {
    let start = Start {
        client,
        control_plane_namespace,
        metrics,
    };
    let templated = OwnerKind::ALL
        .into_iter()
        .filter(|kind| *kind != OwnerKind::Pod);
    let mut streams: Vec<BoxStream<'static, Observed>> = templated
        .map(|kind| start.watch_templated(kind, injected))
        .collect();
    streams.push(start.watch_pods());
    streams.push(start.watch_secrets());
    streams.push(start.watch_bundles());
    streams.push(start.watch_root());
    if injected.is_some() {
        streams.push(start.watch_namespaces());
        streams.extend(start.watch_webhook());
    }
    select_all(streams)
}

impl Start<'_> {
    fn watch_templated(
        &self,
        kind: OwnerKind,
        injected: Option<Source>,
    ) -> BoxStream<'static, Observed> {
        let resource = workloads::api_resource(kind);
        let api: Api<Templated> = Api::all_with(self.client.clone(), &resource);
        let ours = self.control_plane_namespace.to_owned();
        // The marks are on the pod template, which no selector reaches.
        let events = watcher(api, watch_config());
        self.changes(kind.as_str(), events, move |object| {
            Some(workloads::read_templated(kind, &object, &ours, injected))
        })
        .map(move |change| Observed::Workload(kind, change))
        .boxed()
    }

    /// Pods with proxies of any control plane that have not ended: what they say of their workload, and, of those
    /// that stand for themselves and are ours, the workload.
    fn watch_pods(&self) -> BoxStream<'static, Observed> {
        let api: Api<PartialObjectMeta<Pod>> = Api::all(self.client.clone());
        let ours = self.control_plane_namespace.to_owned();
        let marked = format!("{},{}", labels::CONTROL_PLANE_NAMESPACE, labels::TLS_MODE);
        let pods = watch_config().labels(&marked).fields(NOT_ENDED);
        self.changes("pod", watcher(api, pods), move |pod| {
            let (owner, workload) = workloads::read_pod(&pod.metadata, &ours);
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

    fn watch_secrets(&self) -> BoxStream<'static, Observed> {
        let api: Api<Secret> = Api::all(self.client.clone());
        let control_plane_namespace = self.control_plane_namespace.to_owned();
        let ours = format!(
            "{}={control_plane_namespace}",
            labels::CONTROL_PLANE_NAMESPACE
        );
        let secrets = watch_config()
            .labels(&ours)
            .fields(&not_our_keys())
            .page_size(SECRETS_PAGE);
        self.changes("secret", watcher(api, secrets), move |mut secret| {
            let namespace = secret.namespace().unwrap_or_default();
            let Some(owner) = secret::owner_of(&namespace, &secret.name_any()) else {
                secret::wipe(&mut secret);
                return None;
            };
            Some((owner, Some(secret::read(secret, &control_plane_namespace))))
        })
        .map(Observed::Secret)
        .boxed()
    }

    fn watch_bundles(&self) -> BoxStream<'static, Observed> {
        let api: Api<ConfigMap> = Api::all(self.client.clone());
        // By name and not by label: our permission is for this one name.
        let ours = format!("metadata.name={TRUST_BUNDLE_CONFIG_MAP}");
        let events = watcher(api, watch_config().fields(&ours));
        self.changes("configmap", events, |config_map| {
            let namespace = config_map.namespace().unwrap_or_default();
            Some((namespace, Some(bundle::read(config_map))))
        })
        .map(Observed::Bundle)
        .boxed()
    }

    fn watch_root(&self) -> BoxStream<'static, Observed> {
        let api = Api::<PartialObjectMeta<Secret>>::namespaced(
            self.client.clone(),
            self.control_plane_namespace,
        );
        self.watch_one("root_secret", api, ROOT_SECRET, || Observed::Root)
    }

    fn watch_namespaces(&self) -> BoxStream<'static, Observed> {
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let events = watcher(api, watch_config());
        self.changes("namespace", events, |namespace| {
            let word = namespace.annotations().get(annotations::INJECT);
            let asks = word.is_some_and(|word| word == annotations::INJECT_ENABLED);
            Some((namespace.name_any(), asks.then_some(())))
        })
        .map(Observed::Injected)
        .boxed()
    }

    fn watch_webhook(&self) -> [BoxStream<'static, Observed>; 2] {
        let secrets = Api::<PartialObjectMeta<Secret>>::namespaced(
            self.client.clone(),
            self.control_plane_namespace,
        );
        let configurations: Api<PartialObjectMeta<MutatingWebhookConfiguration>> =
            Api::all(self.client.clone());
        let secret = component::INJECTOR_SECRET;
        let configuration = component::injector_webhook_configuration(self.control_plane_namespace);
        [
            self.watch_one("injector_secret", secrets, secret, || Observed::Webhook),
            self.watch_one(
                "webhook_configuration",
                configurations,
                &configuration,
                || Observed::Webhook,
            ),
        ]
    }

    /// One object, of which no more is asked than when it may be another: `observed` says which it is.
    fn watch_one<K>(
        &self,
        kind: &'static str,
        api: Api<PartialObjectMeta<K>>,
        name: &str,
        observed: fn() -> Observed,
    ) -> BoxStream<'static, Observed>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
    {
        let config = watch_config().fields(&format!("metadata.name={name}"));
        unbroken(kind, watcher(api, config), self.metrics.clone())
            .filter_map(move |event| {
                let is_news = matches!(event, Event::Apply(_) | Event::Delete(_) | Event::InitDone);
                ready(is_news.then(observed))
            })
            .boxed()
    }

    /// Turns the events of one watch into changes. `read` returns an object's key, and its value if it
    /// concerns us; none when not even its key does.
    fn changes<O, K, V, E, R>(
        &self,
        kind: &'static str,
        events: E,
        read: R,
    ) -> impl Stream<Item = Change<K, V>> + Send + use<O, K, V, E, R>
    where
        O: Clone + Send + 'static,
        K: Send,
        V: Send,
        E: Stream<Item = watcher::Result<Event<O>>> + Send + 'static,
        R: Fn(O) -> Option<(K, Option<V>)> + Send + 'static,
    {
        unbroken(kind, events, self.metrics.clone()).filter_map(move |event| {
            ready(match event {
                Event::Init => Some(Change::Relist),
                Event::InitApply(object) => {
                    read(object).and_then(|(key, value)| Some(Change::Listed(key, value?)))
                }
                Event::InitDone => Some(Change::RelistDone),
                Event::Apply(object) => read(object).map(|(key, value)| match value {
                    Some(value) => Change::Set(key, value),
                    None => Change::Remove(key),
                }),
                Event::Delete(object) => read(object).map(|(key, _)| Change::Remove(key)),
            })
        })
    }
}

/// Selects Secrets but for those of the control plane itself, whose keys are nothing to a watch.
fn not_our_keys() -> String {
    format!(
        "metadata.name!={ROOT_SECRET},metadata.name!={}",
        component::INJECTOR_SECRET
    )
}

/// What a watch tells; one that breaks is taken up again after a while.
fn unbroken<O>(
    kind: &'static str,
    events: impl Stream<Item = watcher::Result<Event<O>>> + Send + 'static,
    metrics: Metrics,
) -> impl Stream<Item = Event<O>> + Send
where
    O: Send + 'static,
{
    events.default_backoff().filter_map(move |event| {
        let event = event.inspect_err(|error| {
            metrics.watch_failed(kind);
            warn!(kind, %error, "a watch failed and will be tried again");
        });
        ready(event.ok())
    })
}
