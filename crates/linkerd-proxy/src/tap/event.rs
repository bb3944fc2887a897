//! The parts of events as the wire has them. Pure.
//! Never holds a query, nor the value of a field that carries credentials.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, header};
use linkerd_proto::{
    http_types::{Headers, HttpMethod, Scheme, headers::Header, http_method, scheme},
    tap::tap_event::EndpointMeta,
};

use crate::metrics::TlsLabel;

/// Fields whose values nobody may watch.
const REDACTED: [HeaderName; 4] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
];
/// What stands in for them.
const REDACTION: &[u8] = b"(redacted)";
/// A longer authority or path is cut: events wait in memory.
const TEXT_BYTES_MAX: usize = 4 * 1024;

/// How many header fields one event reports, and how many bytes of names and values.
pub(super) struct HeaderBounds {
    pub(super) fields: usize,
    pub(super) bytes: usize,
}

/// What is known of a request when it comes.
pub(super) struct Head {
    pub(super) method: http::Method,
    /// Lower case.
    pub(super) scheme: String,
    pub(super) authority: String,
    /// Without the query.
    pub(super) path: String,
    pub(super) headers: Option<Headers>,
}

impl Head {
    /// Takes header fields along when there are `bounds`.
    pub(super) fn new<B>(
        request: &Request<B>,
        authority: &str,
        bounds: Option<&HeaderBounds>,
    ) -> Self {
        let uri = request.uri();
        Self {
            method: request.method().clone(),
            scheme: uri.scheme_str().unwrap_or("http").to_ascii_lowercase(),
            authority: cut(authority),
            path: cut(uri.path()),
            headers: bounds.map(|bounds| headers(request.headers(), bounds)),
        }
    }
}

/// The fields in their order, without secrets, as many as the bounds allow.
pub(super) fn headers(map: &HeaderMap, bounds: &HeaderBounds) -> Headers {
    let mut left = bounds.bytes;
    let mut headers = Vec::new();
    for (name, value) in map.iter().take(bounds.fields) {
        let value = if REDACTED.contains(name) {
            REDACTION
        } else {
            value.as_bytes()
        };
        let Some(rest) = left.checked_sub(name.as_str().len() + value.len()) else {
            break;
        };
        left = rest;
        headers.push(Header {
            name: name.as_str().to_owned(),
            value: Bytes::copy_from_slice(value),
        });
    }
    Headers { headers }
}

/// A number for the common methods, the text for all others.
pub(super) fn method(method: &http::Method) -> HttpMethod {
    let name = method.as_str();
    let kind = match http_method::Registered::from_str_name(name) {
        Some(registered) => http_method::Type::Registered(registered as i32),
        None => http_method::Type::Unregistered(cut(name)),
    };
    HttpMethod { r#type: Some(kind) }
}

/// As [`method`], for schemes.
pub(super) fn scheme(name: &str) -> Scheme {
    let kind = match name {
        "http" => scheme::Type::Registered(scheme::Registered::Http as i32),
        "https" => scheme::Type::Registered(scheme::Registered::Https as i32),
        other => scheme::Type::Unregistered(cut(other)),
    };
    Scheme { r#type: Some(kind) }
}

/// Adds the outcome of TLS to an end's labels.
pub(super) fn add_tls(labels: &mut BTreeMap<String, String>, tls: TlsLabel) {
    let mut add = |key: &str, value: &str| labels.insert(key.to_owned(), value.to_owned());
    match tls {
        TlsLabel::On => {
            add("tls", "true");
        }
        TlsLabel::Off(reason) => {
            add("tls", reason.label());
            add("no_tls_reason", reason.as_str());
        }
        TlsLabel::Unknown => {}
    }
}

/// An end of the connection; none when nothing is known of it.
pub(super) fn meta(labels: &BTreeMap<String, String>) -> Option<EndpointMeta> {
    (!labels.is_empty()).then(|| EndpointMeta {
        labels: labels.clone(),
    })
}

/// The beginning of a text that waits in memory.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(headers: &Headers) -> Vec<(&str, &[u8])> {
        let pairs = headers.headers.iter();
        pairs.map(|h| (h.name.as_str(), &h.value[..])).collect()
    }

    #[test]
    fn credentials_are_never_reported() {
        let mut map = HeaderMap::new();
        for name in REDACTED {
            map.append(name, "s3cret".parse().unwrap());
        }
        map.append("x-user", "ann".parse().unwrap());
        let bounds = HeaderBounds {
            fields: 9,
            bytes: 999,
        };
        let headers = headers(&map, &bounds);
        assert_eq!(headers.headers.len(), 5);
        assert!(values(&headers).contains(&("x-user", b"ann")));
        assert!(values(&headers).iter().all(|(_, value)| value != b"s3cret"));
    }

    #[test]
    fn header_fields_are_bounded_in_number_and_bytes() {
        let mut map = HeaderMap::new();
        map.append("a", "1234".parse().unwrap());
        map.append("b", "1234".parse().unwrap());
        map.append("c", "1234".parse().unwrap());
        let count = |fields, bytes| headers(&map, &HeaderBounds { fields, bytes }).headers.len();
        assert_eq!(count(2, 999), 2);
        assert_eq!(count(9, 14), 2);
        assert_eq!(count(9, 15), 3);
    }

    #[test]
    fn long_paths_are_cut_and_queries_left_out() {
        let long = format!("/{}", "a".repeat(2 * TEXT_BYTES_MAX));
        let request = Request::get(format!("{long}?token=1")).body(()).unwrap();
        let head = Head::new(&request, "web", None);
        assert_eq!(head.path, long[..TEXT_BYTES_MAX]);
        assert_eq!(head.scheme, "http");
    }

    #[test]
    fn unusual_methods_are_told_by_name() {
        let purge = http::Method::from_bytes(b"PURGE").unwrap();
        assert_eq!(
            method(&purge).r#type,
            Some(http_method::Type::Unregistered("PURGE".to_owned()))
        );
        let get = Some(http_method::Type::Registered(0));
        assert_eq!(method(&http::Method::GET).r#type, get);
    }
}
