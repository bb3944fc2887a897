//! Names the protocol of a client's first bytes. Entry: [`detect`]. Pure: bounded in bytes, knows no clock.

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    /// Anything else: bytes.
    Opaque,
}

/// The HTTP/2 client preface, RFC 9113 section 3.4.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Methods that may arrive in pieces. A method that is not listed is HTTP only when its whole request line is there.
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"PATCH ",
    b"OPTIONS ",
    b"CONNECT ",
    b"TRACE ",
];

/// Returns the protocol, or none when more bytes could tell. `bytes_max` bytes are always enough.
pub(crate) fn detect(bytes: &[u8], bytes_max: usize) -> Option<Protocol> {
    if bytes.is_empty() {
        return None;
    }
    if bytes.starts_with(H2_PREFACE) {
        return Some(Protocol::Http2);
    }
    if H2_PREFACE.starts_with(bytes) {
        return None;
    }
    // RFC 9112 section 2.2: a server ignores empty lines before the request line.
    let line = skip_empty_lines(&bytes[..bytes.len().min(bytes_max)]);
    match line.iter().position(|byte| *byte == b'\n') {
        Some(end) if is_request_line(&line[..end]) => Some(Protocol::Http1),
        Some(_) => Some(Protocol::Opaque),
        None if bytes.len() >= bytes_max => Some(Protocol::Opaque),
        None if may_become_request_line(line) => None,
        None => Some(Protocol::Opaque),
    }
}

fn skip_empty_lines(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    start.map_or(&[], |start| &bytes[start..])
}

/// `method SP target SP HTTP/1.x`, the line's CR allowed to be missing.
fn is_request_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    !method.is_empty()
        && method.iter().all(|byte| is_token(*byte))
        && !target.is_empty()
        && matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
}

fn may_become_request_line(line: &[u8]) -> bool {
    METHODS.iter().any(|method| {
        if line.len() < method.len() {
            method.starts_with(line)
        } else {
            line.starts_with(method)
                && line
                    .iter()
                    .all(|b| *b > 0x20 && *b != 0x7f || *b == b' ' || *b == b'\r')
        }
    })
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 64;

    #[test]
    fn requests_are_http() {
        for text in [
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "M-SEARCH * HTTP/1.1\r\n",
            "CONNECT a:443 HTTP/1.1\r\n",
            "GET http://a/b HTTP/1.1\n",
            "\r\nGET / HTTP/1.1\r\n",
        ] {
            assert_eq!(
                detect(text.as_bytes(), MAX),
                Some(Protocol::Http1),
                "{text:?}"
            );
        }
        assert_eq!(detect(H2_PREFACE, MAX), Some(Protocol::Http2));
    }

    #[test]
    fn other_protocols_are_opaque_with_their_first_bytes() {
        for bytes in [
            b"\x16\x03\x01\x02\x00" as &[u8],
            b"PING\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"EHLO a\r\n",
            b"get key\r\n",
            b"GET key\r\n",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"SSH-2.0-x\r\n",
            b"GET / HTTP/2.0\r\n",
            b"GET  / HTTP/1.1\r\n",
            b"X",
            b"GET \0",
        ] {
            assert_eq!(detect(bytes, MAX), Some(Protocol::Opaque), "{bytes:?}");
        }
    }

    #[test]
    fn what_could_become_http_waits_for_more() {
        for bytes in [
            b"" as &[u8],
            b"G",
            b"POST",
            b"GET /a",
            b"GET / HTTP/1.1",
            b"PRI * H",
            b"\r\n",
        ] {
            assert_eq!(detect(bytes, MAX), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_request_line_without_end_is_opaque_at_the_limit() {
        let line = [b"GET /".as_slice(), &[b'a'; MAX]].concat();
        assert_eq!(detect(&line, MAX), Some(Protocol::Opaque));
    }

    #[test]
    fn every_prefix_of_a_request_leads_to_the_same_verdict() {
        let request = b"POST /a?b HTTP/1.1\r\nHost: x\r\n\r\n";
        let verdict = (1..request.len()).find_map(|n| detect(&request[..n], MAX));
        assert_eq!(verdict, Some(Protocol::Http1));
    }
}
