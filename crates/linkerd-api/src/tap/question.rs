//! A TapByResource request, checked, in the words that proxies know. Entry: [`Question::parse`]. Pure.

use linkerd_names::ResourceType;
use linkerd_proto::{
    http_types::{HttpMethod, Scheme, http_method, scheme},
    public::{
        TapByResourceRequest,
        tap_by_resource_request::{
            Match,
            r#match::{Http, Match as Kind, http::Match as HttpKind},
        },
    },
    tap::observe_request::{
        self as proxy, Traffic,
        r#match::{
            self as wanted, Label, Seq,
            http::{self as http_match, StringMatch, string_match},
        },
    },
};

use crate::{
    selected::{self, Selected},
    stat_request::Target,
};

/// Requests and connections a second when nothing is said.
const RPS_DEFAULT: f32 = 100.0;
/// How deep matches may nest; the CLI needs one level.
const DEPTH_MAX: usize = 8;

/// What is to be watched.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// At least one.
    pub(crate) targets: Vec<Selected>,
    pub(crate) wanted: proxy::Match,
    /// What `wanted` names as the end of the way.
    pub(crate) destinations: Vec<Target>,
    pub(crate) traffic: Vec<Traffic>,
    /// Of all pods together.
    pub(crate) max_rps: f32,
}

impl Question {
    /// Checks a request.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub(crate) fn parse(request: TapByResourceRequest) -> Result<Self, String> {
        let TapByResourceRequest {
            target,
            r#match,
            max_rps,
            proof: _,
            other_targets,
            traffic,
        } = request;
        let targets = selected::parse(target, other_targets)?;
        for Selected { target, .. } in &targets {
            if matches!(target.kind, ResourceType::All | ResourceType::Authority) {
                return Err(format!("unsupported resource type [{}]", target.kind));
            }
        }
        let traffic = traffic.into_iter().map(|number| {
            Traffic::try_from(number)
                .map_err(|_| format!("{number} is not the number of a kind of traffic"))
        });
        let traffic = traffic.collect::<Result<Vec<_>, String>>()?;
        let mut destinations = Vec::new();
        let wanted = match r#match {
            Some(one) => translate(one, DEPTH_MAX, &mut destinations)?,
            None => all(Vec::new()),
        };
        let max_rps = match max_rps {
            0.0 => RPS_DEFAULT,
            rps if rps.is_finite() && rps > 0.0 => rps,
            other => return Err(format!("{other} is not a number of requests a second")),
        };
        Ok(Self {
            targets,
            wanted,
            destinations,
            traffic,
            max_rps,
        })
    }
}

/// Adds what is named to `destinations`.
fn translate(
    message: Match,
    depth: usize,
    destinations: &mut Vec<Target>,
) -> Result<proxy::Match, String> {
    let depth = depth.checked_sub(1).ok_or("the match nests too deeply")?;
    match message.r#match.ok_or("a match is empty")? {
        Kind::All(sequence) => {
            let matches = sequence.matches.into_iter();
            let matches: Result<_, String> = matches
                .map(|one| translate(one, depth, destinations))
                .collect();
            Ok(all(matches?))
        }
        Kind::Destination(resource) => {
            let target = Target::parse(&resource).map_err(|error| error.to_string())?;
            let wanted = destination(&target)?;
            destinations.push(target);
            Ok(wanted)
        }
        Kind::Http(http) => Ok(of(wanted::Match::Http(self::http(http)?))),
    }
}

/// Discovery labels each endpoint with what it is.
fn destination(target: &Target) -> Result<proxy::Match, String> {
    let Target {
        kind,
        namespace,
        name,
    } = target;
    if matches!(kind, ResourceType::All | ResourceType::Authority) {
        return Err(format!("unsupported resource type [{kind}] as destination"));
    }
    let label = |key: &str, value: &str| {
        of(wanted::Match::DestinationLabel(Label {
            key: key.to_owned(),
            value: value.to_owned(),
        }))
    };
    let mut labels = Vec::new();
    if !name.is_empty() {
        labels.push(label(kind.metric_label(), name));
    }
    if *kind != ResourceType::Namespace && !namespace.is_empty() {
        labels.push(label("namespace", namespace));
    }
    Ok(all(labels))
}

fn http(message: Http) -> Result<wanted::Http, String> {
    let text = |kind| StringMatch {
        r#match: Some(kind),
    };
    let kind = match message.r#match.ok_or("an HTTP match is empty")? {
        HttpKind::Scheme(name) => http_match::Match::Scheme(Scheme {
            r#type: Some(scheme::Type::Unregistered(name)),
        }),
        HttpKind::Method(name) => http_match::Match::Method(HttpMethod {
            r#type: Some(http_method::Type::Unregistered(name.to_ascii_uppercase())),
        }),
        HttpKind::Authority(exact) => {
            http_match::Match::Authority(text(string_match::Match::Exact(exact)))
        }
        HttpKind::Path(prefix) => {
            http_match::Match::Path(text(string_match::Match::Prefix(prefix)))
        }
    };
    Ok(wanted::Http {
        r#match: Some(kind),
    })
}

fn all(matches: Vec<proxy::Match>) -> proxy::Match {
    of(wanted::Match::All(Seq { matches }))
}

fn of(kind: wanted::Match) -> proxy::Match {
    proxy::Match {
        r#match: Some(kind),
    }
}

#[cfg(test)]
mod tests {
    use linkerd_proto::public::{Resource, ResourceSelection};

    use super::*;

    fn request(kind: &str, max_rps: f32) -> TapByResourceRequest {
        TapByResourceRequest {
            target: Some(ResourceSelection {
                resource: Some(Resource {
                    namespace: "ns".into(),
                    r#type: kind.into(),
                    name: "web".into(),
                }),
                label_selector: String::new(),
            }),
            max_rps,
            ..TapByResourceRequest::default()
        }
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        let refusal = |request| Question::parse(request).expect_err("refused");
        assert_eq!(
            refusal(TapByResourceRequest::default()),
            "no resource is named"
        );
        assert_eq!(
            refusal(request("authority", 0.0)),
            "unsupported resource type [authority]"
        );
        assert_eq!(
            refusal(request("node", 0.0)),
            "unimplemented resource type: node"
        );
        assert_eq!(
            refusal(request("pod", -1.0)),
            "-1 is not a number of requests a second"
        );
        let deep = (0..20).fold(Match::default(), |inner, _| Match {
            r#match: Some(Kind::All(
                linkerd_proto::public::tap_by_resource_request::r#match::Seq {
                    matches: vec![inner],
                },
            )),
        });
        let mut nested = request("pod", 0.0);
        nested.r#match = Some(deep);
        assert_eq!(refusal(nested), "the match nests too deeply");
        let mut unknown = request("pod", 0.0);
        unknown.traffic = vec![1, 7];
        assert_eq!(refusal(unknown), "7 is not the number of a kind of traffic");
    }

    #[test]
    fn a_destination_is_known_by_its_labels() {
        let target = Target {
            kind: "job".parse().expect("a type"),
            namespace: "ns".into(),
            name: "tick".into(),
        };
        let Some(wanted::Match::All(Seq { matches })) = destination(&target).expect("fine").r#match
        else {
            panic!("a list")
        };
        let labels: Vec<_> = matches
            .into_iter()
            .map(|one| match one.r#match {
                Some(wanted::Match::DestinationLabel(label)) => (label.key, label.value),
                other => panic!("{other:?}"),
            })
            .collect();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(labels, [pair("k8s_job", "tick"), pair("namespace", "ns")]);
    }

    #[test]
    fn a_hundred_requests_a_second_are_meant_when_nothing_is_said() {
        let rps = |max_rps| {
            Question::parse(request("pod", max_rps))
                .expect("fine")
                .max_rps
        };
        assert_eq!((rps(0.0), rps(2.5)), (RPS_DEFAULT, 2.5));
    }
}
