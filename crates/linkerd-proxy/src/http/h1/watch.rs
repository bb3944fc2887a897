//! What somebody who watches requests sees of HTTP/1 ones: heads in the types that tap takes.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use httparse::{EMPTY_HEADER, Header};

/// Lines that are looked at.
const LINES: usize = 128;

/// The request whose head is `bytes`.
pub(super) fn request(bytes: &[u8], method: &[u8], target: &[u8]) -> Request<()> {
    let mut lines = [EMPTY_HEADER; LINES];
    let mut head = httparse::Request::new(&mut lines);
    let mut request = Request::new(());
    if head.parse(bytes).is_ok() {
        *request.headers_mut() = map(head.headers);
    }
    *request.method_mut() = Method::from_bytes(method).unwrap_or_default();
    *request.uri_mut() = Uri::try_from(target).unwrap_or_default();
    request
}

/// The headers of the response whose head is `bytes`.
pub(super) fn response_headers(bytes: &[u8]) -> HeaderMap {
    let mut lines = [EMPTY_HEADER; LINES];
    let mut head = httparse::Response::new(&mut lines);
    match head.parse(bytes) {
        Ok(_) => map(head.headers),
        Err(_) => HeaderMap::new(),
    }
}

fn map(headers: &[Header<'_>]) -> HeaderMap {
    headers
        .iter()
        .filter_map(|header| {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(header.value).ok()?))
        })
        .collect()
}
