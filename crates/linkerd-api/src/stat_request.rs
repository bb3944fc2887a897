//! A StatSummary request, checked. Entry: [`StatRequest::parse`].

use std::{str::FromStr, time::Duration};

use kube::core::Selector;
use linkerd_names::ResourceType;
use linkerd_proto::public::{Resource, StatSummaryRequest, stat_summary_request};

use crate::label_selector;

/// Prometheus keeps metrics for hours; a longer window would only cost memory.
const WINDOW_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Whose traffic is asked for.
#[derive(Clone, Debug)]
pub(crate) struct StatRequest {
    pub(crate) target: Target,
    /// Which objects have rows.
    pub(crate) selector: Selector,
    pub(crate) outbound: Outbound,
    pub(crate) window: Window,
    pub(crate) tcp_stats: bool,
}

/// One object, or all objects of a type.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kind: ResourceType,
    /// Empty: all namespaces.
    pub(crate) namespace: String,
    /// Empty: all objects of the type.
    pub(crate) name: String,
}

/// Which side of the target's traffic is counted.
#[derive(Clone, Debug)]
pub(crate) enum Outbound {
    /// What the target received, as its own proxies saw it; for a Service, as its clients' saw it.
    None,
    /// What the target sent to the peer, as the target's proxies saw it.
    To(Target),
    /// What the peer sent to the target, as the peer's proxies saw it.
    From(Target),
}

/// A window of time.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// As it was written in the request.
    pub(crate) text: String,
    pub(crate) length: Duration,
}

/// Why a request is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum InvalidRequest {
    /// Said in the response: the request is well-formed but makes no sense.
    #[error("{0}")]
    Resource(&'static str),
    /// Said as `INVALID_ARGUMENT`.
    #[error("{0}")]
    Argument(String),
}

impl StatRequest {
    /// Checks a request.
    ///
    /// # Errors
    /// [`InvalidRequest`] says what makes no sense.
    pub(crate) fn parse(request: &StatSummaryRequest) -> Result<Self, InvalidRequest> {
        let selection = request.selector.as_ref();
        let Some(resource) = selection.and_then(|selection| selection.resource.as_ref()) else {
            return Err(InvalidRequest::Resource(
                "StatSummary request missing Selector Resource",
            ));
        };
        let target = Target::parse(resource)?;
        let selector = selection.map_or("", |selection| &selection.label_selector);
        let selector = label_selector::parse(selector)
            .map_err(|error| InvalidRequest::Argument(error.to_string()))?;
        if target.kind == ResourceType::Authority && !selector.selects_all() {
            return Err(InvalidRequest::Resource(
                "authorities have no labels that could be selected",
            ));
        }
        let outbound = match &request.outbound {
            None | Some(stat_summary_request::Outbound::None(_)) => Outbound::None,
            Some(stat_summary_request::Outbound::ToResource(to)) => {
                Outbound::To(Target::parse(to)?)
            }
            Some(stat_summary_request::Outbound::FromResource(from)) => {
                Outbound::From(Target::parse(from)?)
            }
        };
        check_types(&target, &outbound)?;
        let window = Window::parse(&request.time_window)?;
        Ok(Self {
            target,
            selector,
            outbound,
            window,
            tcp_stats: request.tcp_stats,
        })
    }
}

fn check_types(target: &Target, outbound: &Outbound) -> Result<(), InvalidRequest> {
    if target.kind == ResourceType::All && !target.name.is_empty() {
        return Err(InvalidRequest::Resource(
            "resource type 'all' has no objects with a name",
        ));
    }
    let (Outbound::To(peer) | Outbound::From(peer)) = outbound else {
        return Ok(());
    };
    let from = matches!(outbound, Outbound::From(_));
    let service = if from { peer.kind } else { target.kind };
    if service == ResourceType::Service {
        return Err(SERVICE);
    }
    if peer.kind == ResourceType::All {
        return Err(InvalidRequest::Resource(
            "resource type 'all' is not supported as a filter",
        ));
    }
    if from && peer.kind == ResourceType::Authority {
        return Err(InvalidRequest::Resource(
            "cannot query traffic --from an authority",
        ));
    }
    Ok(())
}

const SERVICE: InvalidRequest = InvalidRequest::Resource(
    "a service receives and never sends: ask for it alone or with 'from', or for others with 'to' it",
);

impl Target {
    /// Reads a resource of a known type.
    ///
    /// # Errors
    /// [`InvalidRequest::Argument`] names the type.
    pub(crate) fn parse(resource: &Resource) -> Result<Self, InvalidRequest> {
        let kind = ResourceType::from_str(&resource.r#type).map_err(|_| {
            InvalidRequest::Argument(format!("unimplemented resource type: {}", resource.r#type))
        })?;
        Ok(Self {
            kind,
            namespace: resource.namespace.clone(),
            name: resource.name.clone(),
        })
    }
}

impl Window {
    /// Reads whole numbers with units, largest first: `30s`, `1h`, `1m30s`.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidRequest> {
        let invalid =
            || InvalidRequest::Argument(format!("{text:?} is not a window of time such as 1m"));
        let mut millis: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let unit = match &rest[..letters] {
                "ms" => 1,
                "s" => 1000,
                "m" => 60 * 1000,
                "h" => 60 * 60 * 1000,
                _ => return Err(invalid()),
            };
            rest = &rest[letters..];
            millis = number
                .checked_mul(unit)
                .and_then(|part| millis.checked_add(part))
                .ok_or_else(invalid)?;
        }
        if millis == 0 || Duration::from_millis(millis) > WINDOW_MAX {
            return Err(invalid());
        }
        Ok(Self {
            text: text.to_owned(),
            length: Duration::from_millis(millis),
        })
    }
}

#[cfg(test)]
mod tests {
    use linkerd_proto::public::{Empty, ResourceSelection};

    use super::*;

    fn resource(kind: &str) -> Resource {
        Resource {
            namespace: "ns".into(),
            r#type: kind.into(),
            name: String::new(),
        }
    }

    fn parse(
        target: &str,
        outbound: stat_summary_request::Outbound,
    ) -> Result<StatRequest, InvalidRequest> {
        StatRequest::parse(&StatSummaryRequest {
            selector: Some(ResourceSelection {
                resource: Some(resource(target)),
                label_selector: String::new(),
            }),
            time_window: "1m".into(),
            outbound: Some(outbound),
            tcp_stats: false,
        })
    }

    fn refusal(target: &str, outbound: stat_summary_request::Outbound) -> String {
        parse(target, outbound).expect_err("refused").to_string()
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        use stat_summary_request::Outbound::{FromResource, None, ToResource};
        let service = "a service receives and never sends: ask for it alone or with 'from', or for \
                       others with 'to' it";
        let all = "resource type 'all' is not supported as a filter";
        assert_eq!(refusal("service", ToResource(resource("pod"))), service);
        assert_eq!(refusal("pod", FromResource(resource("service"))), service);
        assert_eq!(refusal("pod", ToResource(resource("all"))), all);
        assert_eq!(refusal("pod", FromResource(resource("all"))), all);
        assert_eq!(
            refusal("node", None(Empty {})),
            "unimplemented resource type: node"
        );
        assert_eq!(
            StatRequest::parse(&StatSummaryRequest::default())
                .expect_err("empty")
                .to_string(),
            "StatSummary request missing Selector Resource"
        );
    }

    #[test]
    fn labels_select_objects_only() {
        let parse = |kind: &str, text: &str| {
            StatRequest::parse(&StatSummaryRequest {
                selector: Some(ResourceSelection {
                    resource: Some(resource(kind)),
                    label_selector: text.into(),
                }),
                time_window: "1m".into(),
                ..StatSummaryRequest::default()
            })
        };
        assert!(parse("pod", "app=web").is_ok());
        assert!(parse("authority", "app=web").is_err());
        assert!(parse("pod", "app=,").is_err());
    }

    #[test]
    fn services_are_targets_of_from_and_peers_of_to() {
        use stat_summary_request::Outbound::{FromResource, ToResource};
        assert!(parse("service", stat_summary_request::Outbound::None(Empty {})).is_ok());
        assert!(parse("service", FromResource(resource("deployment"))).is_ok());
        assert!(parse("deployment", ToResource(resource("service"))).is_ok());
        assert!(parse("all", FromResource(resource("deployment"))).is_ok());
    }

    #[test]
    fn windows_are_whole_numbers_with_units() {
        for (text, seconds) in [("1m", 60), ("30s", 30), ("1m30s", 90), ("1h", 3600)] {
            let window = Window::parse(text).expect("a window");
            assert_eq!(window.length, Duration::from_secs(seconds));
        }
        for wrong in [
            "",
            "1",
            "m",
            "0s",
            "-1m",
            "1.5m",
            "1d",
            "1m]",
            "1m x",
            "99999999999999h",
        ] {
            assert!(Window::parse(wrong).is_err(), "{wrong}");
        }
    }
}
