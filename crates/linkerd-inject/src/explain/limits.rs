//! Whether ResourceQuotas and LimitRanges of the manifests refuse the containers that injection adds, which
//! all have the proxy's requests and limits. Entry: [`refusals`]. Defaults and rules are those of the API server.

use linkerd_names::annotations;
use serde_json::Value;

use super::{
    pod::{Pod, items, text},
    surroundings::{Surroundings, is_beside},
};
use crate::{
    options::Resources,
    quantity::{self, BILLION as ONE, amount},
};

/// Why no pod is made.
pub(super) struct Refusal {
    pub(super) what: String,
    pub(super) fix: String,
}

/// What the proxy's containers have of one resource, before any defaults.
struct Share<'a> {
    resource: &'static str,
    request: &'a str,
    request_annotation: &'static str,
    limit: Option<&'a str>,
    limit_annotation: &'static str,
}

/// What refuses the pod: of each resource the first thing.
pub(super) fn refusals(pod: &Pod<'_>, surroundings: &Surroundings) -> Vec<Refusal> {
    let ranges = surroundings.limit_ranges.iter();
    let ranges = ranges.filter(|range| is_beside(range, pod));
    let limits: Vec<(&str, &Value)> = ranges
        .flat_map(|range| {
            let name = text(&range["metadata"]["name"]);
            items(&range["spec"]["limits"]).map(move |limits| (name, limits))
        })
        .filter(|(_, limits)| limits["type"] == "Container")
        .collect();
    let quotas = surroundings.quotas.iter();
    let quotas = quotas.filter(|quota| is_beside(quota, pod) && is_about(quota, pod));
    let quotas: Vec<&Value> = quotas.collect();
    let shares = shares(&pod.options.proxy_resources).into_iter();
    shares
        .filter_map(|share| {
            refused_by_range(&share, &limits).or_else(|| refused_by_quota(&share, &limits, &quotas))
        })
        .collect()
}

fn shares(resources: &Resources) -> [Share<'_>; 2] {
    let Resources {
        cpu_request,
        cpu_limit,
        memory_request,
        memory_limit,
    } = resources;
    [
        Share {
            resource: "cpu",
            request: cpu_request,
            request_annotation: annotations::PROXY_CPU_REQUEST,
            limit: cpu_limit.as_deref(),
            limit_annotation: annotations::PROXY_CPU_LIMIT,
        },
        Share {
            resource: "memory",
            request: memory_request,
            request_annotation: annotations::PROXY_MEMORY_REQUEST,
            limit: memory_limit.as_deref(),
            limit_annotation: annotations::PROXY_MEMORY_LIMIT,
        },
    ]
}

/// The limit that containers without one get: the default of the first LimitRange that has one, and its `max` is
/// one too.
fn default_limit(resource: &str, limits: &[(&str, &Value)]) -> Option<String> {
    let mut limits = limits.iter();
    limits.find_map(|(_, it)| {
        quantity::text(&it["default"][resource]).or_else(|| quantity::text(&it["max"][resource]))
    })
}

fn refused_by_range(share: &Share<'_>, limits: &[(&str, &Value)]) -> Option<Refusal> {
    let Share {
        resource,
        request,
        request_annotation,
        limit_annotation,
        ..
    } = share;
    let given = default_limit(resource, limits);
    let limit = share.limit.or(given.as_deref());
    let requested = amount(request)?;
    let limited = limit.and_then(amount);
    limits.iter().find_map(|(name, it)| {
        let (min, max) = (quantity::text(&it["min"][*resource]), quantity::text(&it["max"][*resource]));
        let ratio = quantity::text(&it["maxLimitRequestRatio"][*resource]);
        let is_over = |bound: &Option<String>, value: u128| {
            let bound = bound.as_deref().and_then(amount);
            bound.is_some_and(|bound| value > bound)
        };
        let is_under = |bound: &Option<String>, value: u128| {
            let bound = bound.as_deref().and_then(amount);
            bound.is_some_and(|bound| value < bound)
        };
        let too_far = match (&ratio, limited) {
            (None, _) => false,
            (Some(_), None) => true,
            // The API server compares the quotient, too.
            (Some(ratio), Some(limited)) => amount(ratio).is_some_and(|ratio| {
                limited.saturating_mul(ONE) > ratio.saturating_mul(requested)
            }),
        };
        let shown = limit.unwrap_or("none");
        let why = if is_under(&min, requested) {
            format!("wants at least {} of {resource}, and the proxy requests {request}", min?)
        } else if is_over(&max, requested) {
            format!("allows at most {} of {resource}, and the proxy requests {request}", max?)
        } else if limited.is_some_and(|limited| is_over(&max, limited)) {
            format!("allows at most {} of {resource}, and the proxy's limit is {shown}", max?)
        } else if limited.is_some_and(|limited| limited < requested) {
            format!("gives the proxy a limit of {shown} of {resource}, and it requests {request}")
        } else if too_far {
            format!(
                "allows a limit of {} times the request of {resource}; the proxy requests {request}, and its \
                 limit is {shown}",
                ratio?
            )
        } else {
            return None;
        };
        Some(Refusal {
            what: format!("LimitRange {name} {why}: no pod is made"),
            fix: format!("annotate the pod template with {request_annotation} and {limit_annotation} that fit"),
        })
    })
}

fn refused_by_quota(
    share: &Share<'_>,
    limits: &[(&str, &Value)],
    quotas: &[&Value],
) -> Option<Refusal> {
    let Share {
        resource,
        limit,
        limit_annotation,
        ..
    } = share;
    if limit.is_some() || default_limit(resource, limits).is_some() {
        return None;
    }
    let mut quotas = quotas.iter();
    let quota = quotas.find(|it| !it["spec"]["hard"][format!("limits.{resource}")].is_null())?;
    let name = text(&quota["metadata"]["name"]);
    Some(Refusal {
        what: format!(
            "ResourceQuota {name} has limits.{resource}, and the proxy has no limit: no pod is made"
        ),
        fix: format!(
            "annotate the pod template with {limit_annotation}, or add a LimitRange with a default of \
             {resource} for containers"
        ),
    })
}

/// Whether a quota counts the pod. It is never of the class BestEffort: the proxy has requests.
fn is_about(quota: &Value, pod: &Pod<'_>) -> bool {
    let spec = &quota["spec"];
    let of_pod = pod.spec();
    let class = of_pod["priorityClassName"].as_str();
    let has_deadline = !of_pod["activeDeadlineSeconds"].is_null();
    let applies = |scope: &str, operator: &str, values: &Value| match scope {
        "Terminating" => has_deadline,
        "NotTerminating" => !has_deadline,
        "NotBestEffort" => true,
        "PriorityClass" => {
            let is_listed = items(values).any(|value| value.as_str() == class);
            match operator {
                "In" => class.is_some() && is_listed,
                "NotIn" => !is_listed,
                "DoesNotExist" => class.is_none(),
                _ => class.is_some(),
            }
        }
        // BestEffort, and what cannot be known here.
        _ => false,
    };
    let mut selectors = items(&spec["scopeSelector"]["matchExpressions"]);
    items(&spec["scopes"]).all(|scope| applies(text(scope), "Exists", &Value::Null))
        && selectors.all(|it| applies(text(&it["scopeName"]), text(&it["operator"]), &it["values"]))
}
