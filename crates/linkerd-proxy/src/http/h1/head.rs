//! Heads of HTTP/1 messages: what they mean, and how they go on. Entries: [`request`], [`response`]. Pure.
//! What two readers could take for different messages is refused (RFC 9112 sections 6.1 and 6.3).
//! Everything else goes on as it came, line by line, but for what belongs to one connection.

use std::ops::Range;

use http::{StatusCode, header};
use httparse::{EMPTY_HEADER, Header};

use super::super::headers::{ERROR, OWN_PREFIX, PROBE_AGENT};

/// Lines of a head; more are looked at in a second try.
const LINES: usize = 64;
/// A head with more lines is refused; of the shortest ones twice as many would fit into the longest head that is read.
const LINES_MAX: usize = 8 * 1024;

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes; 0 = there is none.
    Length(u64),
    Chunked,
    /// To the end of the connection; responses only.
    UntilEnd,
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// A client's request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Bytes that the head takes.
    pub(super) bytes: usize,
    pub(super) method: Range<usize>,
    pub(super) target: Range<usize>,
    /// The host that the client names, where it names one.
    pub(super) authority: Option<Range<usize>>,
    pub(super) framing: Framing,
    /// `HTTP/1.0`.
    pub(super) is_old: bool,
    /// The client's connection can take another request after this.
    pub(super) keeps: bool,
    pub(super) is_head: bool,
    pub(super) is_connect: bool,
    /// It asks for another protocol.
    pub(super) wants_upgrade: bool,
    pub(super) expects_continue: bool,
    pub(super) is_probe: bool,
    pub(super) is_grpc: bool,
}

impl Request {
    /// Whether its endpoint may expect another request after it; it gets what a client of HTTP/1.0 has said.
    pub(super) fn leaves_open(&self) -> bool {
        !self.is_old || self.keeps
    }
}

/// An endpoint's response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) bytes: usize,
    pub(super) status: StatusCode,
    pub(super) framing: Framing,
    /// The endpoint's connection can take another request after this.
    pub(super) keeps: bool,
    pub(super) grpc_status: Option<u16>,
}

impl Response {
    /// An answer before the answer: 1xx, but not the switch to another protocol.
    pub(super) fn is_informational(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// What the lines of any head say about its connection and its body.
#[derive(Default)]
struct Lines {
    length: Option<u64>,
    chunked: bool,
    closes: bool,
    keep_alive: bool,
    /// There is a Connection header: its names are looked for.
    has_connection: bool,
    has_upgrade: bool,
}

impl Lines {
    fn read(headers: &[Header<'_>]) -> Result<Self, Malformed> {
        let mut lines = Self::default();
        for header in headers {
            let name = header.name;
            match name.len() {
                7 if is(name, "upgrade") => lines.has_upgrade = true,
                10 if is(name, "connection") => {
                    lines.has_connection = true;
                    for option in options(header.value) {
                        lines.closes |= option.eq_ignore_ascii_case(b"close");
                        lines.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if is(name, "content-length") => {
                    let length = length(header.value)?;
                    if lines.length.is_some_and(|other| other != length) {
                        return Err(Malformed("two different content lengths"));
                    }
                    lines.length = Some(length);
                }
                17 if is(name, "transfer-encoding") => {
                    if lines.chunked {
                        return Err(Malformed("two transfer encodings"));
                    }
                    chunked_last(header.value)?;
                    lines.chunked = true;
                }
                _ => {}
            }
        }
        if lines.chunked && lines.length.is_some() {
            return Err(Malformed("a transfer encoding and a content length"));
        }
        Ok(lines)
    }
}

/// Reads the request that `buffer` begins with and appends its head as it goes on to `out`. None
/// while it is incomplete.
///
/// # Errors
/// [`Malformed`]; nothing was appended.
pub(super) fn request(buffer: &[u8], out: &mut Vec<u8>) -> Result<Option<Request>, Malformed> {
    let mut few = [EMPTY_HEADER; LINES];
    let mut head = httparse::Request::new(&mut few);
    match head.parse(buffer) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![EMPTY_HEADER; LINES_MAX];
            let mut head = httparse::Request::new(&mut many);
            let parsed = head.parse(buffer);
            understand_request(buffer, parsed, &head, out)
        }
        parsed => understand_request(buffer, parsed, &head, out),
    }
}

fn understand_request(
    buffer: &[u8],
    parsed: httparse::Result<usize>,
    head: &httparse::Request<'_, '_>,
    out: &mut Vec<u8>,
) -> Result<Option<Request>, Malformed> {
    let bytes = match parsed {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed("the head is not HTTP/1")),
    };
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Err(Malformed("the head is not HTTP/1"));
    };
    let lines = Lines::read(head.headers)?;
    let is_old = version == 0;
    let is_connect = method == "CONNECT";
    if lines.chunked && is_old {
        return Err(Malformed("a transfer encoding in HTTP/1.0"));
    }
    if is_connect && (lines.chunked || lines.length.is_some_and(|length| length > 0)) {
        return Err(Malformed("CONNECT with a body"));
    }
    let mut host = None;
    let mut expects_continue = false;
    let mut is_probe = false;
    let mut is_grpc = false;
    for header in head.headers.iter() {
        match header.name.len() {
            4 if is(header.name, "host") && host.replace(header.value).is_some() => {
                return Err(Malformed("two hosts"));
            }
            6 if is(header.name, "expect") => {
                expects_continue |= header.value.eq_ignore_ascii_case(b"100-continue");
            }
            10 if is(header.name, "user-agent") => is_probe = header.value.starts_with(PROBE_AGENT),
            12 if is(header.name, "content-type") => {
                is_grpc = header.value.starts_with(b"application/grpc");
            }
            _ => {}
        }
    }
    let authority = authority(method, target)
        .or(host.filter(|host| !host.is_empty() && host.iter().all(u8::is_ascii_graphic)));
    let wants_upgrade = lines.has_upgrade && !is_old;

    out.reserve(bytes + 32);
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(if is_old {
        b" HTTP/1.0\r\n"
    } else {
        b" HTTP/1.1\r\n"
    });
    pass_on(head.headers, &lines, wants_upgrade, false, out);
    if is_old && lines.keep_alive {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(Some(Request {
        bytes,
        method: range(buffer, method.as_bytes()),
        target: range(buffer, target.as_bytes()),
        authority: authority.map(|authority| range(buffer, authority)),
        framing: if lines.chunked {
            Framing::Chunked
        } else {
            Framing::Length(lines.length.unwrap_or(0))
        },
        is_old,
        keeps: !lines.closes && (!is_old || lines.keep_alive),
        is_head: method == "HEAD",
        is_connect,
        wants_upgrade,
        expects_continue: expects_continue && !is_old,
        is_probe,
        is_grpc,
    }))
}

/// Reads the response to `request` that `buffer` begins with and appends its head as it goes on to
/// `out`. `may_keep` says whether the client's connection can stay for what is up to us.
///
/// # Errors
/// [`Malformed`]; nothing was appended.
pub(super) fn response(
    buffer: &[u8],
    request: &Request,
    may_keep: bool,
    out: &mut Vec<u8>,
) -> Result<Option<Response>, Malformed> {
    let mut few = [EMPTY_HEADER; LINES];
    let mut head = httparse::Response::new(&mut few);
    match head.parse(buffer) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![EMPTY_HEADER; LINES_MAX];
            let mut head = httparse::Response::new(&mut many);
            let parsed = head.parse(buffer);
            understand_response(parsed, &head, request, may_keep, out)
        }
        parsed => understand_response(parsed, &head, request, may_keep, out),
    }
}

fn understand_response(
    parsed: httparse::Result<usize>,
    head: &httparse::Response<'_, '_>,
    request: &Request,
    may_keep: bool,
    out: &mut Vec<u8>,
) -> Result<Option<Response>, Malformed> {
    let bytes = match parsed {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed("the response is not HTTP/1")),
    };
    let (Some(code), Some(version)) = (head.code, head.version) else {
        return Err(Malformed("the response is not HTTP/1"));
    };
    let status = StatusCode::from_u16(code).map_err(|_| Malformed("the status is no number"))?;
    let lines = Lines::read(head.headers)?;
    if lines.chunked && version == 0 {
        return Err(Malformed("a transfer encoding in HTTP/1.0"));
    }
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    if switches && !request.wants_upgrade {
        return Err(Malformed("another protocol, which nobody has asked for"));
    }
    let tunnels = switches || request.is_connect && status.is_success();
    let without_body = request.is_head
        || tunnels
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match (without_body, lines.chunked, lines.length) {
        (true, ..) => Framing::Length(0),
        (false, true, _) => Framing::Chunked,
        (false, false, Some(length)) => Framing::Length(length),
        (false, false, None) => Framing::UntilEnd,
    };
    let mut grpc_status = None;
    if request.is_grpc {
        let line = head.headers.iter().find(|h| is(h.name, "grpc-status"));
        grpc_status = line.and_then(|h| std::str::from_utf8(h.value).ok()?.parse().ok());
    }

    out.reserve(bytes + 32);
    // Our own version, but for clients that know only the old one.
    let old = request.is_old && framing != Framing::Chunked;
    out.extend_from_slice(if old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    pass_on(head.headers, &lines, switches, true, out);
    let stays = may_keep && request.keeps && framing != Framing::UntilEnd;
    if !(status.is_informational() || tunnels) {
        if !stays {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if request.is_old {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(Some(Response {
        bytes,
        status,
        framing,
        keeps: !lines.closes && (version == 1 || lines.keep_alive) && framing != Framing::UntilEnd,
        grpc_status,
    }))
}

/// Appends the lines that go on; with `upgrade` also those that ask for or grant another protocol.
fn pass_on(
    headers: &[Header<'_>],
    lines: &Lines,
    upgrade: bool,
    is_response: bool,
    out: &mut Vec<u8>,
) {
    let mut has_length = false;
    for header in headers {
        let name = header.name;
        let stays_behind = match name.len() {
            10 => !upgrade && (is(name, "connection") || is(name, "keep-alive")),
            // Equal lengths go on as one.
            14 if is(name, "content-length") => std::mem::replace(&mut has_length, true),
            16 => is(name, "proxy-connection") && !upgrade,
            _ => false,
        };
        let is_own = name.len() > OWN_PREFIX.len()
            && name.as_bytes()[..OWN_PREFIX.len()].eq_ignore_ascii_case(OWN_PREFIX.as_bytes())
            && !(is_response && is(name, ERROR.as_str()));
        if stays_behind
            || is_own
            || lines.has_connection && !upgrade && is_named(headers, name.as_bytes())
        {
            continue;
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(header.value);
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a Connection header names the header `name`. Framing, addressing and trailers are never up
/// to it.
fn is_named(headers: &[Header<'_>], name: &[u8]) -> bool {
    const NEVER: [header::HeaderName; 4] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TE,
    ];
    let mut named = headers
        .iter()
        .filter(|header| is(header.name, "connection"))
        .flat_map(|header| options(header.value));
    named.any(|option| option.eq_ignore_ascii_case(name))
        && !NEVER
            .iter()
            .any(|never| name.eq_ignore_ascii_case(never.as_str().as_bytes()))
}

/// A body's trailers, at the beginning of `buffer`; what goes on of them is appended to `out`, the
/// empty line at their end included. Returns their bytes, none while they are incomplete.
pub(super) fn trailers(
    buffer: &[u8],
    is_response: bool,
    out: &mut Vec<u8>,
) -> Result<Option<(usize, Option<u16>)>, Malformed> {
    let mut few = [EMPTY_HEADER; LINES];
    match httparse::parse_headers(buffer, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![EMPTY_HEADER; LINES_MAX];
            let parsed = httparse::parse_headers(buffer, &mut many);
            understand_trailers(parsed, is_response, out)
        }
        parsed => understand_trailers(parsed, is_response, out),
    }
}

fn understand_trailers(
    parsed: httparse::Result<(usize, &[Header<'_>])>,
    is_response: bool,
    out: &mut Vec<u8>,
) -> Result<Option<(usize, Option<u16>)>, Malformed> {
    match parsed {
        Ok(httparse::Status::Complete((bytes, headers))) => {
            let forbidden = |name: &str| {
                is(name, "content-length") || is(name, "transfer-encoding") || is(name, "host")
            };
            if headers.iter().any(|header| forbidden(header.name)) {
                return Err(Malformed("a trailer that belongs into the head"));
            }
            pass_on(headers, &Lines::default(), false, is_response, out);
            out.extend_from_slice(b"\r\n");
            let line = headers.iter().find(|h| is(h.name, "grpc-status"));
            let grpc_status = line.and_then(|h| std::str::from_utf8(h.value).ok()?.parse().ok());
            Ok(Some((bytes, grpc_status)))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(Malformed("the trailers are not HTTP/1")),
    }
}

/// The host in a request's target, if it is there: `http://host/path`, and CONNECT's `host:port`.
fn authority<'a>(method: &str, target: &'a str) -> Option<&'a [u8]> {
    if method == "CONNECT" {
        return Some(target.as_bytes());
    }
    let (scheme, rest) = target.split_once("://")?;
    if target.starts_with('/') || !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some(&rest.as_bytes()[..end])
}

fn is(name: &str, lower: &str) -> bool {
    name.eq_ignore_ascii_case(lower)
}

/// The members of a comma-separated list.
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed("a content length that is no number"));
    }
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Malformed("a content length that is too large"))
}

/// Checks that the last coding is `chunked`, and no other is that or none at all.
fn chunked_last(value: &[u8]) -> Result<(), Malformed> {
    let fault = Err(Malformed("a transfer encoding whose end is not known"));
    let mut codings = options(value).peekable();
    while let Some(coding) = codings.next() {
        let is_last = codings.peek().is_none();
        let is_token = !coding.is_empty() && coding.iter().all(|b| is_token(*b));
        if !is_token
            || coding.eq_ignore_ascii_case(b"identity")
            || coding.eq_ignore_ascii_case(b"chunked") != is_last
        {
            return fault;
        }
    }
    Ok(())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Where `part`, a piece of `whole`, lies in it.
fn range(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Request, String), Malformed> {
        let mut out = Vec::new();
        let request = request(text.as_bytes(), &mut out)?.expect("a whole head");
        Ok((request, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn a_request_goes_on_as_it_came_but_for_what_belongs_to_the_connection() {
        let text = "GET /a HTTP/1.1\r\nHOST: web\r\nl5d-client-id: spoofed\r\nX-Hop: 1\r\n\
            Connection: close, X-Hop, host\r\nKeep-Alive: 5\r\nTE: trailers\r\n\r\nrest";
        let (request, out) = read(text).unwrap();
        assert_eq!(out, "GET /a HTTP/1.1\r\nHOST: web\r\nTE: trailers\r\n\r\n");
        assert_eq!(request.bytes, text.len() - "rest".len());
        assert_eq!(&text[request.authority.unwrap()], "web");
        assert!(!request.keeps);
    }

    #[test]
    fn the_target_names_the_host_before_the_header_does() {
        let host = |text: &str| {
            let (request, _) = read(text).unwrap();
            text[request.authority.unwrap()].to_owned()
        };
        assert_eq!(host("GET http://a:1/b HTTP/1.1\r\nHost: c\r\n\r\n"), "a:1");
        assert_eq!(host("CONNECT a:1 HTTP/1.1\r\nHost: c\r\n\r\n"), "a:1");
        assert_eq!(host("GET /http://a/ HTTP/1.1\r\nHost: c\r\n\r\n"), "c");
    }

    #[test]
    fn an_old_client_keeps_its_connection_when_it_says_so() {
        let (request, out) = read("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
        assert!(request.keeps && request.is_old);
        assert!(out.ends_with("Connection: keep-alive\r\n\r\n"), "{out}");
        assert!(!read("GET / HTTP/1.0\r\n\r\n").unwrap().0.keeps);
    }

    #[test]
    fn a_head_of_many_lines_is_read() {
        let lines: String = (0..500).map(|i| format!("x-{i}: y\r\n")).collect();
        let (_, out) = read(&format!("GET / HTTP/1.1\r\n{lines}\r\n")).unwrap();
        assert!(out.contains("x-499: y"));
    }

    fn answer(text: &str, request: &str) -> Result<(Response, String), Malformed> {
        let (request, _) = read(request).unwrap();
        let mut out = Vec::new();
        let response = response(text.as_bytes(), &request, true, &mut out)?.expect("a whole head");
        Ok((response, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn the_body_of_an_answer_is_as_long_as_rfc_9112_says() {
        let framing = |text, request| answer(text, request).unwrap().0.framing;
        let get = "GET / HTTP/1.1\r\n\r\n";
        assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n", get), Framing::UntilEnd);
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(framing(length, get), Framing::Length(5));
        assert_eq!(
            framing(length, "HEAD / HTTP/1.1\r\n\r\n"),
            Framing::Length(0)
        );
        let none = "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n";
        let (response, out) = answer(none, get).unwrap();
        assert_eq!(response.framing, Framing::Length(0));
        assert!(out.contains("Content-Length: 5\r\n"));
        let connect = "CONNECT a:1 HTTP/1.1\r\n\r\n";
        assert_eq!(
            framing("HTTP/1.1 200 OK\r\n\r\n", connect),
            Framing::Length(0)
        );
    }

    #[test]
    fn only_who_asked_for_another_protocol_gets_one() {
        let text = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
        assert!(answer(text, "GET / HTTP/1.1\r\n\r\n").is_err());
        let asked = "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
        assert_eq!(answer(text, asked).unwrap().1, text);
    }
}
