//! From the flags of `tap` to a request. Entry: [`build`]. Pure.

use linkerd_names::ResourceType;
use linkerd_proto::{
    public::{
        ResourceSelection, TapByResourceRequest,
        tap_by_resource_request::{
            Match,
            r#match::{Http, Match as Kind, Seq, http::Match as HttpKind},
        },
    },
    tap::observe_request::Traffic,
};

use super::{Filters, Protocol};
use crate::resource::{self, InvalidResource};

/// What is asked of the control plane.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) request: TapByResourceRequest,
    /// The types of its targets, each once, in the order in which they were named.
    pub(crate) kinds: Vec<ResourceType>,
}

/// Flags that make no sense. The texts are those of Linkerd in 2018 where it had them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidFilters {
    #[error("requires at least 1 arg(s), only received 0")]
    Count,
    #[error("target resource invalid: {0}")]
    Target(InvalidResource),
    #[error("destination resource invalid: {0}")]
    Destination(InvalidResource),
    #[error("unsupported resource type [{0}]")]
    Unsupported(ResourceType),
    #[error("a resource cannot be tapped by name across all namespaces")]
    NameEverywhere,
    #[error("--max-rps must be more than 0, not {0}")]
    Rate(f32),
    #[error("--{0} is about requests, and --protocol tcp asks for connections that carry none")]
    HttpOfTcp(&'static str),
}

/// Returns the request about what is in `namespace`, and the types of its targets.
///
/// # Errors
/// The first of the flags that makes no sense.
pub(crate) fn build(filters: &Filters, namespace: &str) -> Result<Question, InvalidFilters> {
    let Filters {
        resource,
        selector,
        namespace: _,
        all_namespaces,
        to,
        to_namespace,
        protocol,
        max_rps,
        scheme,
        method,
        authority,
        path,
    } = filters;
    if resource.is_empty() {
        return Err(InvalidFilters::Count);
    }
    let words: Vec<&str> = resource.iter().map(String::as_str).collect();
    let targets = resource::parse_several(&words).map_err(InvalidFilters::Target)?;
    for (kind, name) in &targets {
        if matches!(kind, ResourceType::All | ResourceType::Authority) {
            return Err(InvalidFilters::Unsupported(*kind));
        }
        if *all_namespaces && !name.is_empty() && *kind != ResourceType::Namespace {
            return Err(InvalidFilters::NameEverywhere);
        }
    }
    if !max_rps.is_finite() || *max_rps <= 0.0 {
        return Err(InvalidFilters::Rate(*max_rps));
    }
    let http_flags = [
        ("scheme", scheme),
        ("method", method),
        ("authority", authority),
        ("path", path),
    ];
    let about_http = http_flags.iter().find(|(_, value)| value.is_some());
    let traffic = match (protocol, about_http) {
        (Some(Protocol::Tcp), Some((flag, _))) => return Err(InvalidFilters::HttpOfTcp(flag)),
        (Some(Protocol::Tcp), None) => vec![Traffic::Connections],
        (Some(Protocol::Http), _) | (None, Some(_)) => vec![Traffic::Requests],
        (None, None) => vec![Traffic::Requests, Traffic::Connections],
    };
    let mut matches = Vec::new();
    if let Some(to) = destination(to.as_deref(), to_namespace.as_deref())? {
        matches.push(of(Kind::Destination(to)));
    }
    let http = [
        scheme.clone().map(HttpKind::Scheme),
        method.clone().map(HttpKind::Method),
        authority.clone().map(HttpKind::Authority),
        path.clone().map(HttpKind::Path),
    ];
    matches.extend(http.into_iter().flatten().map(|kind| {
        of(Kind::Http(Http {
            r#match: Some(kind),
        }))
    }));
    let mut kinds = Vec::new();
    for (kind, _) in &targets {
        if !kinds.contains(kind) {
            kinds.push(*kind);
        }
    }
    let namespace = if *all_namespaces { "" } else { namespace };
    let mut selections = targets.into_iter().map(|(kind, name)| ResourceSelection {
        resource: Some(resource::message(kind, namespace, &name)),
        label_selector: selector.selector.clone(),
    });
    let request = TapByResourceRequest {
        target: selections.next(),
        other_targets: selections.collect(),
        r#match: Some(of(Kind::All(Seq { matches }))),
        traffic: traffic.into_iter().map(Into::into).collect(),
        max_rps: *max_rps,
        proof: Default::default(),
    };
    Ok(Question { request, kinds })
}

/// Without a namespace the destination may be in any.
fn destination(
    to: Option<&str>,
    namespace: Option<&str>,
) -> Result<Option<linkerd_proto::public::Resource>, InvalidFilters> {
    let Some(to) = to else {
        return Ok(namespace.map(|name| resource::message(ResourceType::Namespace, "", name)));
    };
    let (kind, name) = resource::parse(&[to]).map_err(InvalidFilters::Destination)?;
    if matches!(kind, ResourceType::All | ResourceType::Authority) {
        return Err(InvalidFilters::Unsupported(kind));
    }
    let namespace = namespace.unwrap_or_default();
    Ok(Some(resource::message(kind, namespace, &name)))
}

fn of(kind: Kind) -> Match {
    Match {
        r#match: Some(kind),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Tap {
        #[command(flatten)]
        filters: Filters,
    }

    fn build(flags: &str) -> Result<TapByResourceRequest, InvalidFilters> {
        let words = ["tap"].into_iter().chain(flags.split_whitespace());
        let filters = Tap::try_parse_from(words).expect("known flags").filters;
        let namespace = filters.namespace.as_deref().unwrap_or("default");
        super::build(&filters, namespace).map(|question| question.request)
    }

    #[test]
    fn flags_that_make_no_sense_are_refused_before_anybody_is_asked() {
        for (flags, message) in [
            ("", "requires at least 1 arg(s), only received 0"),
            (
                "po po/x,po",
                "target resource invalid: pod is asked for twice",
            ),
            ("deploy,au", "unsupported resource type [authority]"),
            (
                "po --protocol tcp --path /",
                "--path is about requests, and --protocol tcp asks for connections that carry none",
            ),
            (
                "web",
                "target resource invalid: cannot find Kubernetes canonical name from friendly name [web]",
            ),
            ("au", "unsupported resource type [authority]"),
            ("all", "unsupported resource type [all]"),
            (
                "po --to x",
                "destination resource invalid: cannot find Kubernetes canonical name from friendly name [x]",
            ),
            ("po --to au/x", "unsupported resource type [authority]"),
            (
                "po/x -A",
                "a resource cannot be tapped by name across all namespaces",
            ),
            ("po --max-rps 0", "--max-rps must be more than 0, not 0"),
            ("po --max-rps=-1", "--max-rps must be more than 0, not -1"),
            ("po --max-rps=nan", "--max-rps must be more than 0, not NaN"),
        ] {
            let said = build(flags).expect_err(flags).to_string();
            assert_eq!(said.split(": types are").next(), Some(message), "{flags}");
        }
    }

    #[test]
    fn each_resource_is_a_target_with_the_same_labels() {
        let request = build("deploy/web deploy/voting ns/b -n a -l app=web").expect("fine");
        let all = request.target.into_iter().chain(request.other_targets);
        let all: Vec<_> = all
            .map(|it| (it.resource.expect("set"), it.label_selector))
            .collect();
        let deployment = resource::parse_type("deploy").expect("a type");
        let expected = [
            resource::message(deployment, "a", "web"),
            resource::message(deployment, "a", "voting"),
            resource::message(ResourceType::Namespace, "", "b"),
        ];
        assert_eq!(all, expected.map(|it| (it, "app=web".to_owned())));
    }

    #[test]
    fn filters_about_http_leave_connections_out() {
        let traffic = |flags| -> Vec<_> {
            let request = build(flags).expect(flags);
            request.traffic().collect()
        };
        let (requests, connections) = (Traffic::Requests, Traffic::Connections);
        assert_eq!(traffic("po"), [requests, connections]);
        assert_eq!(traffic("po --to deploy/db"), [requests, connections]);
        assert_eq!(traffic("po --method GET"), [requests]);
        assert_eq!(traffic("po --protocol http"), [requests]);
        assert_eq!(traffic("po --protocol tcp"), [connections]);
    }

    #[test]
    fn filters_are_all_to_match() {
        let request = build(
            "deploy/web -n a --to svc/b --scheme http --method post --authority x:80 --path /p",
        );
        let request = request.expect("fine");
        let kind = resource::parse_type("deploy").expect("a type");
        let target = request.target.expect("set").resource;
        assert_eq!(target, Some(resource::message(kind, "a", "web")));
        let Some(Kind::All(Seq { matches })) = request.r#match.expect("set").r#match else {
            panic!("a list")
        };
        let http = |kind| {
            of(Kind::Http(Http {
                r#match: Some(kind),
            }))
        };
        let service = resource::message(ResourceType::Service, "", "b");
        let expected = [
            of(Kind::Destination(service)),
            http(HttpKind::Scheme("http".into())),
            http(HttpKind::Method("post".into())),
            http(HttpKind::Authority("x:80".into())),
            http(HttpKind::Path("/p".into())),
        ];
        assert_eq!(matches, expected);
    }
}
