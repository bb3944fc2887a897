//! From the flags of `stat` to requests, one for each resource. Entry: [`build`]. Pure.

use std::time::Duration;

use linkerd_names::ResourceType;
use linkerd_proto::public::{
    Empty, ResourceSelection, StatSummaryRequest, stat_summary_request::Outbound,
};

use super::{Args, Output};
use crate::{
    duration::{self, InvalidDuration},
    resource::{self, InvalidResource},
};

/// Flags that make no sense. The texts are those of Linkerd in 2018 where it had them.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidArgs {
    #[error("requires at least 1 arg(s), only received 0")]
    Count,
    #[error(transparent)]
    Resource(#[from] InvalidResource),
    #[error(transparent)]
    Duration(#[from] InvalidDuration),
    #[error("the time window is empty")]
    EmptyWindow,
    #[error("{0}")]
    Flags(&'static str),
}

/// Returns the requests about what is in `namespace`, in the order in which their resources were named, and
/// their window of time.
///
/// # Errors
/// The first of the flags, in the order of the help text, that makes no sense.
pub(super) fn build(
    args: &Args,
    namespace: &str,
) -> Result<(Vec<StatSummaryRequest>, Duration), InvalidArgs> {
    let Args {
        resource,
        namespace: _,
        selector,
        all_namespaces,
        time_window,
        to,
        to_namespace,
        from,
        from_namespace,
        output,
    } = args;
    if resource.is_empty() {
        return Err(InvalidArgs::Count);
    }
    let words: Vec<&str> = resource.iter().map(String::as_str).collect();
    let resources = resource::parse_several(&words)?;
    let only_namespaces = resources
        .iter()
        .all(|(kind, _)| *kind == ResourceType::Namespace);
    if to.is_some() && from.is_some() {
        return Err(InvalidArgs::Flags(
            "--to and --from flags are mutually exclusive",
        ));
    }
    if to_namespace.is_some() && from_namespace.is_some() {
        return Err(InvalidArgs::Flags(
            "--to-namespace and --from-namespace flags are mutually exclusive",
        ));
    }
    if to.is_some() && from_namespace.is_some() || from.is_some() && to_namespace.is_some() {
        return Err(InvalidArgs::Flags(
            "--to and --to-namespace cannot be mixed with --from and --from-namespace",
        ));
    }
    if only_namespaces {
        check_namespace_target(args)?;
    }
    let namespace = if *all_namespaces || only_namespaces {
        ""
    } else {
        namespace
    };
    let to = peer(to.as_deref(), to_namespace.as_deref(), namespace)?;
    let from = peer(from.as_deref(), from_namespace.as_deref(), namespace)?;
    let window = duration::parse(time_window)?;
    if window.is_zero() {
        return Err(InvalidArgs::EmptyWindow);
    }
    let named = |(kind, name): &(ResourceType, String)| {
        !name.is_empty() && (only_namespaces || *kind != ResourceType::Namespace)
    };
    if *all_namespaces && resources.iter().any(named) {
        return Err(InvalidArgs::Flags(
            "stats for a resource cannot be retrieved by name across all namespaces",
        ));
    }
    if from
        .as_ref()
        .is_some_and(|from| from.r#type == ResourceType::Authority.as_str())
    {
        return Err(InvalidArgs::Flags(
            "cannot query traffic --from an authority",
        ));
    }
    let outbound = match (to, from) {
        (Some(to), _) => Outbound::ToResource(to),
        (None, Some(from)) => Outbound::FromResource(from),
        (None, None) => Outbound::None(Empty {}),
    };
    let request = |(kind, name): (ResourceType, String)| StatSummaryRequest {
        selector: Some(ResourceSelection {
            resource: Some(resource::message(kind, namespace, &name)),
            label_selector: selector.selector.clone(),
        }),
        time_window: duration::whole_units(time_window, window),
        outbound: Some(outbound.clone()),
        tcp_stats: *output != Output::Table,
    };
    Ok((resources.into_iter().map(request).collect(), window))
}

/// A namespace is in no other namespace, so these flags have no meaning for it.
fn check_namespace_target(args: &Args) -> Result<(), InvalidArgs> {
    if args.to_namespace.is_some() {
        return Err(InvalidArgs::Flags(
            "--to-namespace flag is incompatible with namespace resource type",
        ));
    }
    if args.from_namespace.is_some() {
        return Err(InvalidArgs::Flags(
            "--from-namespace flag is incompatible with namespace resource type",
        ));
    }
    if args.namespace.is_some() {
        return Err(InvalidArgs::Flags(
            "--namespace flag is incompatible with namespace resource type",
        ));
    }
    Ok(())
}

/// The other side of the traffic: a resource in its own namespace or the target's, or, when only a
/// namespace is named, everything in it.
fn peer(
    resource: Option<&str>,
    namespace: Option<&str>,
    target_namespace: &str,
) -> Result<Option<linkerd_proto::public::Resource>, InvalidArgs> {
    let Some(resource) = resource else {
        return Ok(namespace.map(|name| resource::message(ResourceType::Namespace, "", name)));
    };
    let (kind, name) = resource::parse(&[resource])?;
    let namespace = namespace.unwrap_or(target_namespace);
    Ok(Some(resource::message(kind, namespace, &name)))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Stat {
        #[command(flatten)]
        args: Args,
    }

    fn build_all(flags: &str) -> Result<Vec<StatSummaryRequest>, InvalidArgs> {
        let words = ["stat"].into_iter().chain(flags.split_whitespace());
        let args = Stat::try_parse_from(words).expect("known flags").args;
        let namespace = args.namespace.as_deref().unwrap_or("of-context");
        super::build(&args, namespace).map(|(requests, _)| requests)
    }

    fn build(flags: &str) -> Result<StatSummaryRequest, InvalidArgs> {
        build_all(flags).map(|requests| match <[_; 1]>::try_from(requests) {
            Ok([request]) => request,
            Err(several) => panic!("several requests: {several:?}"),
        })
    }

    #[test]
    fn each_resource_has_its_request() {
        let targets = |flags: &str| -> Vec<_> {
            let selections = build_all(flags).expect(flags).into_iter();
            selections
                .map(|request| request.selector.expect("set"))
                .map(|it| (it.resource.expect("set"), it.label_selector))
                .collect()
        };
        assert_eq!(
            targets("deploy/web ns/b po -n a -l app=web"),
            [
                (message("deployment", "a", "web"), "app=web".to_owned()),
                (message("namespace", "", "b"), "app=web".to_owned()),
                (message("pod", "a", ""), "app=web".to_owned()),
            ]
        );
    }

    #[test]
    fn flags_that_make_no_sense_are_refused_in_a_fixed_order() {
        for (flags, message) in [
            ("", "requires at least 1 arg(s), only received 0"),
            (
                "a b c",
                "cannot find Kubernetes canonical name from friendly name [a]",
            ),
            (
                "node --to x --from y",
                "cannot find Kubernetes canonical name from friendly name [node]",
            ),
            ("a/b/c", "Invalid resource string: a/b/c"),
            (
                "deploy --to x --from y",
                "--to and --from flags are mutually exclusive",
            ),
            (
                "deploy --to-namespace x --from-namespace y -t x",
                "--to-namespace and --from-namespace flags are mutually exclusive",
            ),
            (
                "deploy --to po/x --from-namespace y",
                "--to and --to-namespace cannot be mixed with --from and --from-namespace",
            ),
            (
                "ns --to-namespace x -n y",
                "--to-namespace flag is incompatible with namespace resource type",
            ),
            (
                "ns --from-namespace x",
                "--from-namespace flag is incompatible with namespace resource type",
            ),
            (
                "ns -n x --to y",
                "--namespace flag is incompatible with namespace resource type",
            ),
            (
                "po --to y -t 1",
                "cannot find Kubernetes canonical name from friendly name [y]",
            ),
            (
                "po --from y -t 1",
                "cannot find Kubernetes canonical name from friendly name [y]",
            ),
            ("po/x -A -t 1", "time: missing unit in duration 1"),
            ("po -t x", "time: invalid duration x"),
            ("po -t 0s", "the time window is empty"),
            (
                "po/x -A --from au",
                "stats for a resource cannot be retrieved by name across all namespaces",
            ),
            ("po --from au/x", "cannot query traffic --from an authority"),
        ] {
            let said = build(flags).expect_err(flags).to_string();
            assert_eq!(said.split(": types are").next(), Some(message), "{flags}");
        }
    }

    #[test]
    fn a_peer_is_in_the_targets_namespace_unless_told_otherwise() {
        for (flags, expected) in [
            (
                "deploy -n a --to po/x",
                Outbound::ToResource(message("pod", "a", "x")),
            ),
            (
                "deploy -n a --from po/x",
                Outbound::FromResource(message("pod", "a", "x")),
            ),
            (
                "deploy -n a --to po/x --to-namespace b",
                Outbound::ToResource(message("pod", "b", "x")),
            ),
            (
                "deploy -n a --to ns/b",
                Outbound::ToResource(message("namespace", "", "b")),
            ),
            (
                "deploy --to-namespace b",
                Outbound::ToResource(message("namespace", "", "b")),
            ),
            (
                "au --from-namespace b",
                Outbound::FromResource(message("namespace", "", "b")),
            ),
            (
                "deploy -A --to po",
                Outbound::ToResource(message("pod", "", "")),
            ),
            ("deploy", Outbound::None(Empty {})),
        ] {
            assert_eq!(
                build(flags).expect(flags).outbound,
                Some(expected),
                "{flags}"
            );
        }
    }

    fn message(kind: &str, namespace: &str, name: &str) -> linkerd_proto::public::Resource {
        let kind = resource::parse_type(kind).expect("a type");
        resource::message(kind, namespace, name)
    }

    #[test]
    fn targets_have_a_namespace_unless_all_are_meant() {
        for (flags, expected) in [
            ("deploy web", message("deployment", "of-context", "web")),
            ("deploy/web -n a", message("deployment", "a", "web")),
            ("ns", message("namespace", "", "")),
            ("ns emojivoto", message("namespace", "", "emojivoto")),
            ("all -A", message("all", "", "")),
        ] {
            let request = build(flags).expect(flags);
            assert_eq!(
                request.selector.expect("set").resource,
                Some(expected),
                "{flags}"
            );
        }
    }

    #[test]
    fn windows_with_fractions_are_sent_in_whole_milliseconds() {
        for (text, sent) in [
            ("1m", "1m"),
            ("1m30s", "1m30s"),
            ("1.5m", "90000ms"),
            ("1us", "1ms"),
        ] {
            assert_eq!(
                build(&format!("po -t {text}")).expect(text).time_window,
                sent
            );
        }
    }
}
