//! Headers that belong to one connection only, and those of the proxies' own.

use http::{HeaderMap, HeaderName, header};

/// Prefix of the proxies' own headers; a client's are not believed.
pub(super) const OWN_PREFIX: &str = "l5d-";
/// Tells the client's user why a proxy could not do what was asked. Stays in responses.
pub(super) const ERROR: HeaderName = HeaderName::from_static("l5d-proxy-error");

/// How the user agent of a kubelet's probe begins.
pub(super) const PROBE_AGENT: &[u8] = b"kube-probe/";

/// Whether kubelet asks how the application is. It says so itself, and nothing but a label of metrics
/// depends on it.
pub(super) fn is_probe(headers: &HeaderMap) -> bool {
    headers
        .get(header::USER_AGENT)
        .is_some_and(|agent| agent.as_bytes().starts_with(PROBE_AGENT))
}

/// Removes what must not go on: headers of the connection, and our own.
pub(super) fn strip_request(headers: &mut HeaderMap) {
    strip_connection(headers);
    strip_own(headers, false);
}

/// As [`strip_request`], for responses: our word about errors stays.
pub(super) fn strip_response(headers: &mut HeaderMap) {
    strip_connection(headers);
    strip_own(headers, true);
}

/// RFC 9110 section 7.6.1.
fn strip_connection(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // Framing, addressing and trailers are never up to the client's Connection header.
            .filter(|name| {
                ![
                    header::HOST,
                    header::CONTENT_LENGTH,
                    header::TRANSFER_ENCODING,
                    header::TE,
                ]
                .contains(name)
            })
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

fn strip_own(headers: &mut HeaderMap, response: bool) {
    let is_own =
        |name: &HeaderName| name.as_str().starts_with(OWN_PREFIX) && !(response && *name == ERROR);
    if headers.keys().any(is_own) {
        let own: Vec<HeaderName> = headers
            .keys()
            .filter(|name| is_own(name))
            .cloned()
            .collect();
        for name in own {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
            .collect()
    }

    #[test]
    fn headers_of_the_connection_and_of_the_proxies_stay_behind() {
        let mut map = headers(&[
            ("connection", "keep-alive, X-Hop, host"),
            ("keep-alive", "timeout=5"),
            ("x-hop", "1"),
            ("host", "web"),
            ("te", "trailers"),
            ("l5d-client-id", "spoofed"),
            ("l5d-proxy-error", "spoofed"),
        ]);
        strip_request(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "te"]);
    }
}
