//! From the flags of `tap` to a request. Entry: [`build`]. Pure.

use linkerd_names::ResourceType;
use linkerd_proto::public::{
    ResourceSelection, TapByResourceRequest,
    tap_by_resource_request::{
        Match,
        r#match::{Http, Match as Kind, Seq, http::Match as HttpKind},
    },
};

use super::Filters;
use crate::resource::{self, InvalidResource};

/// Flags that make no sense. The texts are those of Linkerd in 2018 where it had them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidFilters {
    #[error("accepts between 1 and 2 arg(s), received {0}")]
    Count(usize),
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
}

/// Returns the request, and the type of its target.
///
/// # Errors
/// The first of the flags that makes no sense.
pub(crate) fn build(
    filters: &Filters,
) -> Result<(TapByResourceRequest, ResourceType), InvalidFilters> {
    let Filters {
        resource,
        namespace,
        all_namespaces,
        to,
        to_namespace,
        max_rps,
        scheme,
        method,
        authority,
        path,
    } = filters;
    if !(1..=2).contains(&resource.len()) {
        return Err(InvalidFilters::Count(resource.len()));
    }
    let words: Vec<&str> = resource.iter().map(String::as_str).collect();
    let (kind, name) = resource::parse(&words).map_err(InvalidFilters::Target)?;
    if matches!(kind, ResourceType::All | ResourceType::Authority) {
        return Err(InvalidFilters::Unsupported(kind));
    }
    if *all_namespaces && !name.is_empty() && kind != ResourceType::Namespace {
        return Err(InvalidFilters::NameEverywhere);
    }
    if !max_rps.is_finite() || *max_rps <= 0.0 {
        return Err(InvalidFilters::Rate(*max_rps));
    }
    let namespace = if *all_namespaces || kind == ResourceType::Namespace {
        ""
    } else {
        namespace
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
    let request = TapByResourceRequest {
        target: Some(ResourceSelection {
            resource: Some(resource::message(kind, namespace, &name)),
            label_selector: String::new(),
        }),
        r#match: Some(of(Kind::All(Seq { matches }))),
        max_rps: *max_rps,
        proof: Default::default(),
    };
    Ok((request, kind))
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
    let namespace = match kind {
        ResourceType::Namespace => "",
        _ => namespace.unwrap_or_default(),
    };
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
        super::build(&filters).map(|(request, _)| request)
    }

    #[test]
    fn flags_that_make_no_sense_are_refused_before_anybody_is_asked() {
        for (flags, message) in [
            ("", "accepts between 1 and 2 arg(s), received 0"),
            ("a b c", "accepts between 1 and 2 arg(s), received 3"),
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
            assert_eq!(
                build(flags).expect_err(flags).to_string(),
                message,
                "{flags}"
            );
        }
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
