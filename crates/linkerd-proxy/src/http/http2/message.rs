//! Requests and responses of HTTP/2 as they pass between two of our proxies, each a stream of their shared
//! connection. Entry: [`put_request`], [`put_response`], [`put_trailers`], and the readers beside them. Pure.
//!
//! A message is a row of blocks; the end of the stream is its end. A block has a head of 4 bytes, its
//! kind (1) and the length of what follows (3). All numbers are big-endian. Texts come after their length:
//! 2 bytes, but 4 for paths and the values of fields, which may be long.
//!
//! The first bit of a block's kind says that nothing comes after it, so that the end is known with the
//! last block and not a moment later.
//!
//! | block | content |
//! |---|---|
//! | request | method, scheme, authority, path, protocol (RFC 8441), fields; empty = not there |
//! | response | status (2), fields |
//! | data | bytes |
//! | trailers | fields |
//!
//! A field is a name and a value; the first bit of the value's length says that it is never to be
//! compressed (RFC 7541 section 7.1.3).

use bytes::{Buf, Bytes};
use h2::ext::Protocol;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header,
    uri::{Authority, PathAndQuery, Scheme},
};

/// Bytes of a block's head.
pub(super) const HEAD_BYTES: usize = 4;
/// Largest content of a block.
pub(super) const CONTENT_BYTES_MAX: usize = (1 << 24) - 1;

const SENSITIVE: u32 = 1 << 31;
const LAST: u8 = 1 << 7;

/// RFC 9113 section 8.2.2: HTTP/2 has no such fields, and h2 refuses them when it receives them.
const CONNECTION_FIELDS: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request = 1,
    Response = 2,
    Data = 3,
    Trailers = 4,
}

/// The bytes are no message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message of a proxy: {0}")]
pub(crate) struct Malformed(pub(super) &'static str);

/// What a block's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) is_last: bool,
    /// Of the content.
    pub(super) bytes: usize,
}

/// The head of a block; none while it is not complete.
///
/// # Errors
/// [`Malformed`]: its kind is not known.
pub(super) fn head(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let [kind, a, b, c, ..] = *bytes else {
        return Ok(None);
    };
    let is_last = kind & LAST != 0;
    let kind = match kind & !LAST {
        1 => Kind::Request,
        2 => Kind::Response,
        3 => Kind::Data,
        4 => Kind::Trailers,
        _ => return Err(Malformed("a block of an unknown kind")),
    };
    let bytes = u32::from_be_bytes([0, a, b, c]) as usize;
    Ok(Some(Head {
        kind,
        is_last,
        bytes,
    }))
}

impl Head {
    pub(super) fn written(self) -> [u8; HEAD_BYTES] {
        let Self {
            kind,
            is_last,
            bytes,
        } = self;
        debug_assert!(bytes <= CONTENT_BYTES_MAX);
        let [_, a, b, c] = u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
        let last = if is_last { LAST } else { 0 };
        [kind as u8 | last, a, b, c]
    }
}

/// Appends the head of a request; `is_last`: it has no body.
pub(super) fn put_request(out: &mut Vec<u8>, request: &Request<()>, is_last: bool) {
    put_block(out, Kind::Request, is_last, |out| {
        let uri = request.uri();
        put_short(out, request.method().as_str());
        put_short(out, uri.scheme_str().unwrap_or_default());
        put_short(out, uri.authority().map_or("", Authority::as_str));
        let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
        put_long(out, path.as_bytes(), 0);
        let protocol = request.extensions().get::<Protocol>();
        put_short(out, protocol.map_or("", Protocol::as_str));
        put_fields(out, request.headers());
    });
}

/// Appends the head of a response; `is_last`: it has no body.
pub(super) fn put_response(out: &mut Vec<u8>, response: &Response<()>, is_last: bool) {
    put_block(out, Kind::Response, is_last, |out| {
        out.extend_from_slice(&response.status().as_u16().to_be_bytes());
        put_fields(out, response.headers());
    });
}

/// Appends trailers.
pub(super) fn put_trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    put_block(out, Kind::Trailers, true, |out| put_fields(out, trailers));
}

fn put_block(out: &mut Vec<u8>, kind: Kind, is_last: bool, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    content(out);
    let written = start + HEAD_BYTES;
    let head = Head {
        kind,
        is_last,
        bytes: out.len() - written,
    };
    out[start..written].copy_from_slice(&head.written());
}

fn put_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        put_short(out, name.as_str());
        let flag = if value.is_sensitive() { SENSITIVE } else { 0 };
        put_long(out, value.as_bytes(), flag);
    }
}

/// Names of methods, schemes, hosts and fields: the types that hold them allow no more than 64 KiB.
fn put_short(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

fn put_long(out: &mut Vec<u8>, bytes: &[u8], flag: u32) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&(length | flag).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Reads the content of a request's head.
///
/// # Errors
/// [`Malformed`]: no request that HTTP/2 allows.
pub(super) fn request(mut content: Bytes) -> Result<Request<()>, Malformed> {
    let bytes = &mut content;
    let method = short(bytes)?;
    let mut uri = http::uri::Parts::default();
    let (scheme, authority) = (short(bytes)?, short(bytes)?);
    let (path, _) = long(bytes)?;
    if !scheme.is_empty() {
        let scheme = Scheme::try_from(&*scheme);
        uri.scheme = Some(scheme.map_err(|_| Malformed("a scheme"))?);
    }
    if !authority.is_empty() {
        let authority = Authority::from_maybe_shared(authority);
        uri.authority = Some(authority.map_err(|_| Malformed("an authority"))?);
    }
    if !path.is_empty() {
        let path = PathAndQuery::from_maybe_shared(path);
        uri.path_and_query = Some(path.map_err(|_| Malformed("a path"))?);
    }
    let protocol = short(bytes)?;
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = Method::from_bytes(&method).map_err(|_| Malformed("a method"))?;
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Malformed("a URI"))?;
    if !protocol.is_empty() {
        let protocol = std::str::from_utf8(&protocol).map_err(|_| Malformed("a protocol"))?;
        request.extensions_mut().insert(Protocol::from(protocol));
    }
    *request.headers_mut() = fields(content)?;
    Ok(request)
}

/// Reads the content of a response's head.
///
/// # Errors
/// [`Malformed`]: no response.
pub(super) fn response(mut content: Bytes) -> Result<Response<()>, Malformed> {
    let status = content.try_get_u16().map_err(|_| CUT)?;
    let mut response = Response::new(());
    *response.version_mut() = Version::HTTP_2;
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Malformed("a status"))?;
    *response.headers_mut() = fields(content)?;
    Ok(response)
}

/// Reads the content of trailers, or what is left of a head.
///
/// # Errors
/// [`Malformed`]: no fields.
pub(super) fn fields(mut content: Bytes) -> Result<HeaderMap, Malformed> {
    let mut fields = HeaderMap::new();
    while !content.is_empty() {
        let name = short(&mut content)?;
        let (value, is_sensitive) = long(&mut content)?;
        let name = HeaderName::from_lowercase(&name).map_err(|_| Malformed("a field's name"))?;
        let value = HeaderValue::from_maybe_shared(value);
        let mut value = value.map_err(|_| Malformed("a field's value"))?;
        if CONNECTION_FIELDS.contains(&name) || name == header::TE && value != "trailers" {
            return Err(Malformed("a field of one connection of HTTP/1"));
        }
        value.set_sensitive(is_sensitive);
        let added = fields.try_append(name, value);
        added.map_err(|_| Malformed("too many fields"))?;
    }
    Ok(fields)
}

const CUT: Malformed = Malformed("a block that ends too early");

fn short(content: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = content.try_get_u16().map_err(|_| CUT)?;
    take(content, length.into())
}

fn long(content: &mut Bytes) -> Result<(Bytes, bool), Malformed> {
    let length = content.try_get_u32().map_err(|_| CUT)?;
    let bytes = take(content, (length & !SENSITIVE) as usize)?;
    Ok((bytes, length & SENSITIVE != 0))
}

fn take(content: &mut Bytes, length: usize) -> Result<Bytes, Malformed> {
    match length <= content.len() {
        true => Ok(content.split_to(length)),
        false => Err(CUT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only block of `out`.
    fn content(out: Vec<u8>) -> Bytes {
        let head = head(&out).unwrap().unwrap();
        assert_eq!(head.bytes, out.len() - HEAD_BYTES);
        Bytes::from(out).split_off(HEAD_BYTES)
    }

    fn written(request: &Request<()>) -> Bytes {
        let mut out = Vec::new();
        put_request(&mut out, request, false);
        content(out)
    }

    #[test]
    fn requests_are_read_as_they_were_written() {
        let builder = || Request::builder().version(Version::HTTP_2);
        let mut secret = HeaderValue::from_static("basic 1234");
        secret.set_sensitive(true);
        let call = builder()
            .method("POST")
            .uri("http://web.ns:80/a.B/c?d=e")
            .header("te", "trailers")
            .header("x-two", "1")
            .header("x-two", "")
            .header("authorization", secret)
            .body(());
        let connect = builder().method("CONNECT").uri("db.ns:5432").body(());
        let asterisk = builder().method("OPTIONS").uri("*").body(());
        let chat = builder()
            .method("CONNECT")
            .uri("http://web.ns/chat")
            .extension(Protocol::from("websocket"))
            .body(());
        for request in [call, connect, asterisk, chat] {
            let request = request.unwrap();
            let read = super::request(written(&request)).unwrap();
            assert_eq!(read.method(), request.method());
            assert_eq!(read.uri(), request.uri());
            assert_eq!(read.headers(), request.headers());
            assert_eq!(read.version(), Version::HTTP_2);
            let protocol = |r: &Request<()>| {
                let protocol = r.extensions().get::<Protocol>();
                protocol.map(|protocol| protocol.as_str().to_owned())
            };
            assert_eq!(protocol(&read), protocol(&request));
            for (name, value) in request.headers() {
                let is_sensitive = read.headers()[name].is_sensitive();
                assert_eq!(
                    is_sensitive,
                    value.is_sensitive() && name == "authorization"
                );
            }
        }
    }

    #[test]
    fn responses_and_trailers_are_read_as_they_were_written() {
        let response = Response::builder()
            .status(418)
            .header("x-long", "v".repeat(70_000))
            .body(())
            .unwrap();
        let mut out = Vec::new();
        put_response(&mut out, &response, true);
        let read = super::response(content(out)).unwrap();
        assert_eq!(read.status(), 418);
        assert_eq!(read.headers(), response.headers());

        let mut out = Vec::new();
        put_trailers(&mut out, response.headers());
        assert_eq!(fields(content(out)).unwrap(), *response.headers());
    }

    #[test]
    fn heads_of_blocks_are_read_as_they_were_written() {
        for kind in [Kind::Request, Kind::Response, Kind::Data, Kind::Trailers] {
            for is_last in [false, true] {
                let written = Head {
                    kind,
                    is_last,
                    bytes: CONTENT_BYTES_MAX,
                };
                let out = written.written();
                assert_eq!(head(&out), Ok(Some(written)));
                assert_eq!(head(&out[..3]), Ok(None));
            }
        }
        assert!(head(&[5, 0, 0, 0]).is_err());
    }

    #[test]
    fn fields_of_one_connection_are_refused() {
        for (name, value, is_refused) in [
            ("connection", "close", true),
            ("transfer-encoding", "chunked", true),
            ("upgrade", "h2c", true),
            ("keep-alive", "timeout=5", true),
            ("proxy-connection", "keep-alive", true),
            ("te", "gzip", true),
            ("te", "trailers", false),
        ] {
            let trailers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            let mut out = Vec::new();
            put_trailers(&mut out, &trailers);
            assert_eq!(fields(content(out)).is_err(), is_refused, "{name}: {value}");
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_no_request() {
        let request = Request::post("http://web.ns/path")
            .header("x-name", "value")
            .body(())
            .unwrap();
        let whole = written(&request);
        let before_fields = whole.len() - "x-name".len() - "value".len() - 2 - 4;
        for cut in (0..whole.len()).filter(|cut| *cut != before_fields) {
            assert!(super::request(whole.slice(..cut)).is_err(), "{cut}");
        }
        // No byte makes it panic, and none smuggles in what a field may not have.
        for at in 0..whole.len() {
            for byte in [0, b'\r', b'\n', b' ', 0xff] {
                let mut changed = whole.to_vec();
                changed[at] = byte;
                if let Ok(read) = super::request(changed.into()) {
                    let bad = |v: &HeaderValue| v.as_bytes().iter().any(|b| b"\r\n\0".contains(b));
                    assert!(!read.headers().values().any(bad), "{read:?}");
                }
            }
        }
    }
}
