//! Checks of the category linkerd-ns: whether the control plane may be installed here.

use std::collections::BTreeSet;

use futures::future::join_all;
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::Namespace,
};
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use super::{
    report::{Finding, Report, list},
    row::Row,
};
use crate::{
    chart,
    control_plane::{Kubernetes, no_permission, within},
    install,
    objects::{self, Object, Resource},
};

/// Says whether the namespace is free and whether the user may create the control plane's objects; with
/// `ha` those of `linkerd install --ha`.
pub(super) async fn check(report: &mut Report, kubernetes: &Kubernetes, namespace: &str, ha: bool) {
    report.category("linkerd-ns");
    let namespaces: Api<Namespace> = Api::all(kubernetes.client.clone());
    let free = match within(namespaces.get_opt(namespace)).await {
        Ok(None) => Finding::Success(None),
        Ok(Some(_)) => Finding::Error(format!("The {namespace:?} namespace already exists")),
        // Who may install is another question, and the next row.
        Err(error) if error.is_forbidden() => {
            let asked = format!("the namespace {namespace:?}");
            Finding::Warning(no_permission("get", &asked, None))
        }
        Err(error) => Finding::Error(kubernetes.explain(&error)),
    };
    report.add(Row::PreNamespace, free);
    let rights = match created(namespace, ha) {
        Ok(created) => {
            let asked = created
                .into_iter()
                .map(|resource| may_create(&kubernetes.client, resource, namespace));
            let answers = join_all(asked).await.into_iter();
            list(&answers.filter_map(Result::err).collect::<Vec<_>>())
        }
        Err(error) => Err(format!("{error:#}")),
    };
    report.add(Row::PreRights, Finding::from(rights));
}

/// What `linkerd install --tls=optional` creates, read from its manifests.
fn created(namespace: &str, ha: bool) -> anyhow::Result<BTreeSet<Resource>> {
    let mut values = install::default_values()?;
    chart::merge(&mut values, json!({"tls": "optional"}));
    if ha {
        chart::merge(&mut values, chart::ha_values()?);
    }
    let objects = objects::of_manifests(&install::manifests(namespace, &values)?)?;
    Ok(objects.iter().filter_map(Object::resource).collect())
}

async fn may_create(client: &Client, resource: Resource, namespace: &str) -> Result<(), String> {
    let Resource {
        group,
        plural,
        namespaced,
    } = resource;
    let namespace = namespaced.then_some(namespace);
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(plural.to_owned()),
                verb: Some("create".to_owned()),
                namespace: namespace.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    match within(reviews.create(&PostParams::default(), &review)).await {
        Ok(review) if review.status.as_ref().is_some_and(|status| status.allowed) => Ok(()),
        Ok(_) => Err(no_permission("create", plural, namespace)),
        Err(error) => Err(error.to_string()),
    }
}
