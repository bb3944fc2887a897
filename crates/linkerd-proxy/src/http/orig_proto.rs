//! HTTP/1 that a proxy of Linkerd carries in HTTP/2, marked by the header `l5d-orig-proto`, so that
//! many clients share one connection. Entry: [`unpack`], and [`pack`] for the answer.

use http::{
    HeaderName, HeaderValue, Method, Request, Response, Uri, Version, header,
    uri::{Parts, PathAndQuery},
};

/// What the message was before: `HTTP/1.1`, or `HTTP/1.1; absolute-form`.
const ORIG_PROTO: HeaderName = HeaderName::from_static("l5d-orig-proto");

/// Makes a carried request the HTTP/1 request that its client has sent. False when it is none.
pub(super) fn unpack<B>(request: &mut Request<B>) -> bool {
    if request.version() != Version::HTTP_2 || request.method() == Method::CONNECT {
        return false;
    }
    let original = request.headers().get(ORIG_PROTO);
    let Some((version, form)) = original.and_then(original_form) else {
        return false;
    };
    request.headers_mut().remove(ORIG_PROTO);
    *request.version_mut() = version;
    let authority = request.uri().authority();
    let host = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let (false, Some(host)) = (request.headers().contains_key(header::HOST), host) {
        request.headers_mut().insert(header::HOST, host);
    }
    if form == Form::Origin {
        *request.uri_mut() = origin_form(request.uri());
    }
    true
}

/// Whether an unpacked request names two hosts, which no HTTP/1 request may: RFC 9112 section 3.2.
pub(super) fn has_two_hosts<B>(request: &Request<B>) -> bool {
    request
        .headers()
        .get_all(header::HOST)
        .iter()
        .nth(1)
        .is_some()
}

/// Marks the HTTP/1 answer to an unpacked request. What HTTP/2 has no place for is left out.
pub(super) fn pack<B>(response: &mut Response<B>) {
    let version = match response.version() {
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    };
    let headers = response.headers_mut();
    headers.insert(ORIG_PROTO, HeaderValue::from_static(version));
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::UPGRADE);
    *response.version_mut() = Version::HTTP_2;
}

/// RFC 9112 section 3.2: `/path`, or the whole URI as clients of a proxy send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Origin,
    Absolute,
}

fn original_form(value: &HeaderValue) -> Option<(Version, Form)> {
    let mut parts = value.to_str().ok()?.split(';').map(str::trim);
    let version = match parts.next()? {
        "HTTP/1.1" => Version::HTTP_11,
        "HTTP/1.0" => Version::HTTP_10,
        _ => return None,
    };
    let form = match parts.next() {
        Some("absolute-form") => Form::Absolute,
        _ => Form::Origin,
    };
    Some((version, form))
}

fn origin_form(uri: &Uri) -> Uri {
    let mut parts = Parts::default();
    parts.path_and_query = uri
        .path_and_query()
        .cloned()
        .or_else(|| Some(PathAndQuery::from_static("/")));
    Uri::from_parts(parts).expect("a path alone is a URI")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(uri: &str, original: &str) -> Request<()> {
        Request::builder()
            .version(Version::HTTP_2)
            .uri(uri)
            .header(ORIG_PROTO, original)
            .body(())
            .unwrap()
    }

    #[test]
    fn a_carried_request_becomes_what_it_was() {
        for (original, version, uri) in [
            ("HTTP/1.1", Version::HTTP_11, "/a?b=c"),
            ("HTTP/1.0", Version::HTTP_10, "/a?b=c"),
            (
                "HTTP/1.1; absolute-form",
                Version::HTTP_11,
                "http://web.shop:8080/a?b=c",
            ),
        ] {
            let mut request = carried("http://web.shop:8080/a?b=c", original);
            assert!(unpack(&mut request), "{original}");
            assert_eq!(request.version(), version);
            assert_eq!(request.uri(), uri);
            assert_eq!(request.headers()[header::HOST], "web.shop:8080");
            assert_eq!(request.headers().len(), 1);
        }
    }

    #[test]
    fn the_clients_own_host_stays() {
        let mut request = carried("http://10.1.0.1:80/", "HTTP/1.1");
        let host = HeaderValue::from_static("Web.Shop");
        request.headers_mut().insert(header::HOST, host);
        assert!(unpack(&mut request));
        assert_eq!(request.headers()[header::HOST], "Web.Shop");
    }

    #[test]
    fn a_path_that_is_not_there_is_the_root() {
        let mut request = carried("http://web.shop", "HTTP/1.1");
        assert!(unpack(&mut request));
        assert_eq!(request.uri(), "/");
    }

    #[test]
    fn what_was_not_carried_stays_as_it_is() {
        let mut plain = carried("http://web.shop/", "HTTP/1.1");
        plain.headers_mut().clear();
        let mut http1 = carried("/", "HTTP/1.1");
        *http1.version_mut() = Version::HTTP_11;
        let mut tunnel = carried("web.shop:443", "HTTP/1.1");
        *tunnel.method_mut() = Method::CONNECT;
        let later = ["HTTP/2.0", "HTTP/1.2", "", "HTTP/1.1x"].map(|v| carried("http://a/", v));
        for mut request in [plain, http1, tunnel].into_iter().chain(later) {
            let (version, uri) = (request.version(), request.uri().clone());
            assert!(!unpack(&mut request), "{request:?}");
            assert_eq!((request.version(), request.uri()), (version, &uri));
        }
    }

    #[test]
    fn the_answer_tells_its_version_and_has_no_framing_of_http1() {
        for (version, word) in [
            (Version::HTTP_11, "HTTP/1.1"),
            (Version::HTTP_10, "HTTP/1.0"),
        ] {
            let mut response = Response::builder()
                .version(version)
                .header(header::TRANSFER_ENCODING, "chunked")
                .header(header::UPGRADE, "h2c")
                .body(())
                .unwrap();
            pack(&mut response);
            assert_eq!(response.version(), Version::HTTP_2);
            assert_eq!(response.headers()[ORIG_PROTO], word);
            assert_eq!(response.headers().len(), 1);
        }
    }
}
