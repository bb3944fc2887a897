//! Live requests for the page: `GET /api/tap`. Entry: [`answer`].
//! `linkerd-api` cannot know who looks at its page, so this command, which runs with the user's credentials,
//! taps as `linkerd tap` does, with a proof of its own for each stream. The answer is a line of JSON an event
//! (as `linkerd tap -o json` prints them), `{"trouble": ...}` for a pod that cannot be watched, and at the end
//! `{"ended": "why"}`. Empty lines say that the connection lives.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use clap::Parser as _;
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    Method, Response, StatusCode,
    body::Frame,
    header::{CONTENT_TYPE, HOST, HeaderValue, ORIGIN},
    http::request::Parts,
};
use linkerd_names::dashboard::{REFUSAL, TAP_HEADER, is_own_host};
use linkerd_proto::public::{TapByResourceRequest, tap_by_resource_response::Response as Update};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::serve::{Body, Shared, failure};
use crate::tap::{self, Events, Filters, output, request};

/// Where it is.
pub(super) const PATH: &str = "/api/tap";

/// Streams at once: more than the pages that anybody looks at.
pub(super) const TAPS_MAX: usize = 8;

/// As often a silent stream says that it lives; so an end of the page is noticed, too.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// A question of the page, as the flags of `linkerd tap`: what it does not say is as there.
#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    filters: Filters,
}

/// Begins a tap, or says why not.
pub(super) async fn answer(head: &Parts, shared: &Shared) -> Response<Body> {
    if let Some((status, reason)) = refusal(head) {
        return failure(status, reason);
    }
    let request = match question(head.uri.query().unwrap_or_default()) {
        Ok(request) => request,
        Err(reason) => return failure(StatusCode::BAD_REQUEST, &reason),
    };
    let Ok(permit) = shared.taps.clone().try_acquire_owned() else {
        let busy = format!("{TAPS_MAX} pages watch requests already: end one of these taps first");
        return failure(StatusCode::TOO_MANY_REQUESTS, &busy);
    };
    match tap::begin(&shared.global, request).await {
        Ok(events) => {
            let mut response = Response::new(body(events, permit));
            let lines = HeaderValue::from_static("application/x-ndjson");
            response.headers_mut().insert(CONTENT_TYPE, lines);
            response
        }
        Err(error) => failure(StatusCode::BAD_GATEWAY, &format!("{error:#}")),
    }
}

/// Why a request may not begin a tap; none when it comes from our own page.
fn refusal(head: &Parts) -> Option<(StatusCode, &'static str)> {
    let header = |name: &str| {
        let value = head.headers.get(name)?;
        Some(value.to_str().unwrap_or_default())
    };
    let host = header(HOST.as_str()).unwrap_or_default();
    if !is_own_host(host) {
        return Some((StatusCode::MISDIRECTED_REQUEST, REFUSAL.trim_end()));
    }
    if head.method != Method::GET {
        let text = "a tap is asked for by GET";
        return Some((StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let same_site = header("sec-fetch-site").is_none_or(|it| it == "same-origin");
    let same_origin = header(ORIGIN.as_str()).is_none_or(|it| it == format!("http://{host}"));
    if !same_site || !same_origin || header(TAP_HEADER).is_none() {
        let text = "only the dashboard's own page begins a tap";
        return Some((StatusCode::FORBIDDEN, text));
    }
    None
}

/// Reads `namespace=…&kind=…&name=…`, and `method=…`, `path=…` when given and not empty.
fn question(query: &str) -> Result<TapByResourceRequest, String> {
    let (mut namespace, mut kind, mut name) = (String::new(), String::new(), String::new());
    let (mut method, mut path) = (None, None);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        match &*key {
            "namespace" => namespace = value,
            "kind" => kind = value,
            "name" => name = value,
            "method" => method = Some(value).filter(|it| !it.is_empty()),
            "path" => path = Some(value).filter(|it| !it.is_empty()),
            _ => return Err(format!("{key:?} is not known here")),
        }
    }
    for (key, value) in [("namespace", &namespace), ("kind", &kind), ("name", &name)] {
        if value.is_empty() {
            return Err(format!("{key:?} is missing"));
        }
    }
    let mut words = vec!["tap".to_owned(), format!("--namespace={namespace}")];
    words.extend(method.map(|method| format!("--method={method}")));
    words.extend(path.map(|path| format!("--path={path}")));
    // Whatever it begins with, it is no flag.
    words.extend(["--".to_owned(), format!("{kind}/{name}")]);
    let Flags { filters } = Flags::try_parse_from(words).map_err(|error| error.to_string())?;
    let question = request::build(&filters, &namespace).map_err(|error| error.to_string())?;
    Ok(question.request)
}

/// The events as they come. The tap ends when the body is dropped, because the page has gone.
fn body(events: Events, permit: OwnedSemaphorePermit) -> Body {
    let lines = stream::unfold(Some((events, permit)), |tap| async {
        let (mut events, permit) = tap?;
        let next = tokio::time::timeout(SIGN_OF_LIFE, events.next()).await;
        let (line, goes_on) = match next {
            Err(_) => ("\n".to_owned(), true),
            Ok(Ok(Some(Update::Event(event)))) => (output::json(&event), true),
            Ok(Ok(Some(Update::Trouble(trouble)))) => {
                let trouble = json!({"pod": trouble.pod, "error": trouble.error});
                (format!("{}\n", json!({ "trouble": trouble })), true)
            }
            Ok(Ok(None)) => {
                let why = "the control plane has ended the tap";
                (format!("{}\n", json!({ "ended": why })), false)
            }
            Ok(Err(error)) => {
                let why = format!("{error:#}");
                (format!("{}\n", json!({ "ended": why })), false)
            }
        };
        let frame = Ok::<_, Infallible>(Frame::data(Bytes::from(line)));
        Some((frame, goes_on.then_some((events, permit))))
    });
    let body = StreamBody::new(lines);
    body.map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn status(method: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::builder().method(method).uri(PATH);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("valid").into_parts();
        refusal(&head).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_our_own_page_begins_a_tap() {
        let host = ("host", "localhost:50750");
        let mark = (TAP_HEADER, "1");
        let own = [
            host,
            mark,
            ("sec-fetch-site", "same-origin"),
            ("origin", "http://localhost:50750"),
        ];
        assert_eq!(status("GET", &own), None);
        assert_eq!(status("GET", &[host, mark]), None, "an older browser");
        for (method, headers, expected) in [
            ("POST", &own[..], 405),
            ("HEAD", &own, 405),
            ("OPTIONS", &own, 405),
            ("GET", &[("host", "evil.example:50750"), mark], 421),
            ("GET", &[mark], 421),
            ("GET", &[host], 403),
            ("GET", &[host, mark, ("sec-fetch-site", "cross-site")], 403),
            ("GET", &[host, mark, ("sec-fetch-site", "same-site")], 403),
            ("GET", &[host, mark, ("sec-fetch-site", "none")], 403),
            ("GET", &[host, mark, ("origin", "http://evil.example")], 403),
            (
                "GET",
                &[host, mark, ("origin", "http://localhost:8080")],
                403,
            ),
            ("GET", &[host, mark, ("origin", "null")], 403),
        ] {
            assert_eq!(status(method, headers), Some(expected), "{headers:?}");
        }
    }

    #[test]
    fn a_question_names_a_workload_and_may_filter() {
        let all = question("namespace=shop&kind=deployment&name=web&method=&path=").expect("fine");
        let same = question("namespace=shop&kind=deployment&name=web").expect("fine");
        assert_eq!(all, same);
        let some = question("namespace=shop&kind=deployment&name=web&method=GET&path=%2Fapi%2F");
        assert_ne!(some.expect("fine"), all);
        for (query, error) in [
            ("", "\"namespace\" is missing"),
            ("namespace=shop&kind=deployment", "\"name\" is missing"),
            (
                "namespace=shop&kind=deployment&name=web&a=b",
                "\"a\" is not known here",
            ),
            (
                "namespace=shop&kind=node&name=web",
                "target resource invalid: cannot find Kubernetes canonical name from friendly name [node]",
            ),
        ] {
            let said = question(query).expect_err(query);
            assert_eq!(said.split(": types are").next(), Some(error), "{query}");
        }
    }
}
