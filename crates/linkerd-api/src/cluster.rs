//! What the cluster consists of, as far as people ask: one table a kind.
//! Entry: [`Cluster::follow`] fills it; `selection.rs` and `pod_index.rs` ask it.

use futures::future::{BoxFuture, FutureExt as _, join_all};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::{CronJob, Job},
    core::v1::{self as core, Namespace, ReplicationController, Service},
};
use kube::{Api, Client};

use crate::{pod::Pod, table::Table, workload::Workload};

/// All tables.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "each field is named for its kind")]
pub struct Cluster {
    pub namespaces: Table<Workload>,
    pub services: Table<Workload>,
    pub deployments: Table<Workload>,
    pub daemon_sets: Table<Workload>,
    pub stateful_sets: Table<Workload>,
    pub replica_sets: Table<Workload>,
    pub replication_controllers: Table<Workload>,
    pub jobs: Table<Workload>,
    pub cron_jobs: Table<Workload>,
    pub pods: Table<Pod>,
}

impl Cluster {
    /// Keeps all tables equal to the cluster, for ever.
    pub async fn follow(&self, client: &Client) {
        let all: Vec<BoxFuture<'_, ()>> = vec![
            self.namespaces
                .follow(Api::<Namespace>::all(client.clone()), |object| {
                    Workload::without_selector(object.metadata)
                })
                .boxed(),
            self.services
                .follow(Api::<Service>::all(client.clone()), |object| {
                    let labels = object.spec.and_then(|spec| spec.selector);
                    Workload::by_labels(object.metadata, labels)
                })
                .boxed(),
            self.deployments
                .follow(Api::<Deployment>::all(client.clone()), |object| {
                    Workload::by_selector(object.metadata, object.spec.map(|spec| spec.selector))
                })
                .boxed(),
            self.daemon_sets
                .follow(Api::<DaemonSet>::all(client.clone()), |object| {
                    Workload::by_selector(object.metadata, object.spec.map(|spec| spec.selector))
                })
                .boxed(),
            self.stateful_sets
                .follow(Api::<StatefulSet>::all(client.clone()), |object| {
                    Workload::by_selector(object.metadata, object.spec.map(|spec| spec.selector))
                })
                .boxed(),
            self.replica_sets
                .follow(Api::<ReplicaSet>::all(client.clone()), |object| {
                    Workload::by_selector(object.metadata, object.spec.map(|spec| spec.selector))
                })
                .boxed(),
            self.replication_controllers
                .follow(
                    Api::<ReplicationController>::all(client.clone()),
                    |object| {
                        let labels = object.spec.and_then(|spec| spec.selector);
                        Workload::by_labels(object.metadata, labels)
                    },
                )
                .boxed(),
            self.jobs
                .follow(Api::<Job>::all(client.clone()), |object| {
                    let selector = object.spec.and_then(|spec| spec.selector);
                    Workload::by_selector(object.metadata, selector)
                })
                .boxed(),
            self.cron_jobs
                .follow(Api::<CronJob>::all(client.clone()), |object| {
                    Workload::without_selector(object.metadata)
                })
                .boxed(),
            self.pods
                .follow(Api::<core::Pod>::all(client.clone()), Pod::from)
                .boxed(),
        ];
        join_all(all).await;
    }

    /// Waits until every table has been filled once.
    pub async fn wait_synced(&self) {
        tokio::join!(
            self.namespaces.wait_synced(),
            self.services.wait_synced(),
            self.deployments.wait_synced(),
            self.daemon_sets.wait_synced(),
            self.stateful_sets.wait_synced(),
            self.replica_sets.wait_synced(),
            self.replication_controllers.wait_synced(),
            self.jobs.wait_synced(),
            self.cron_jobs.wait_synced(),
            self.pods.wait_synced(),
        );
    }
}
