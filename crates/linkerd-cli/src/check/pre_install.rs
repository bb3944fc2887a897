//! Checks of the category linkerd-ns: whether the control plane may be installed here.

use futures::future::join_all;
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::Namespace,
};
use kube::{Api, Client, api::PostParams};

use super::{
    report::{Finding, Report, list},
    row::Row,
};
use crate::control_plane::{Kubernetes, within};

/// What `linkerd install | kubectl apply -f -` creates: API group, resource, whether it is in the
/// control plane's namespace.
const CREATED: [(&str, &str, bool); 9] = [
    ("", "namespaces", false),
    ("rbac.authorization.k8s.io", "clusterroles", false),
    ("rbac.authorization.k8s.io", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io", "roles", true),
    ("rbac.authorization.k8s.io", "rolebindings", true),
    ("", "serviceaccounts", true),
    ("", "services", true),
    ("", "configmaps", true),
    ("apps", "deployments", true),
];

/// Says whether the namespace is free and whether the user may create the control plane's objects.
pub(super) async fn check(report: &mut Report, kubernetes: &Kubernetes, namespace: &str) {
    report.category("linkerd-ns");
    let namespaces: Api<Namespace> = Api::all(kubernetes.client.clone());
    let free = match within(namespaces.get_opt(namespace)).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(format!("The {namespace:?} namespace already exists")),
        Err(error) => Err(kubernetes.explain(&error)),
    };
    report.add(Row::PreNamespace, Finding::from(free));
    let asked = CREATED.map(|(group, resource, inside)| {
        may_create(
            &kubernetes.client,
            group,
            resource,
            inside.then_some(namespace),
        )
    });
    let refused: Vec<String> = join_all(asked)
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    report.add(Row::PreRights, Finding::from(list(&refused)));
}

async fn may_create(
    client: &Client,
    group: &str,
    resource: &str,
    namespace: Option<&str>,
) -> Result<(), String> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
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
        Ok(_) => Err(crate::control_plane::no_permission(
            "create", resource, namespace,
        )),
        Err(error) => Err(error.to_string()),
    }
}
