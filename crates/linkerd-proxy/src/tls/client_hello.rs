//! Reads the server name of a ClientHello without consuming it. Entry: [`server_name`].
//! Whatever is malformed is not TLS to us: it goes to the application as it came.

/// What a connection's first bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// More bytes can tell.
    Incomplete,
    /// No ClientHello, or none with a server name.
    NoName,
    /// A ClientHello for this name, in lower case.
    Name(String),
}

/// The parser ran out of bytes or met something that cannot be.
enum Stop {
    Incomplete,
    Malformed,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// RFC 8446 section 5.1.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// Reads the name; a hello that is not complete after `bytes_max` bytes has none.
pub(crate) fn server_name(bytes: &[u8], bytes_max: usize) -> Hello {
    match hello_name(bytes, bytes_max) {
        Ok(Some(name)) => Hello::Name(name),
        Ok(None) | Err(Stop::Malformed) => Hello::NoName,
        Err(Stop::Incomplete) if bytes.len() >= bytes_max => Hello::NoName,
        Err(Stop::Incomplete) => Hello::Incomplete,
    }
}

fn hello_name(bytes: &[u8], bytes_max: usize) -> Result<Option<String>, Stop> {
    let message = handshake_message(bytes, bytes_max)?;
    // From here on the message is complete: whatever lacks is malformed.
    parse_hello(&message).map_err(|_| Stop::Malformed)
}

/// Joins the records of the first handshake message.
fn handshake_message(mut bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, Stop> {
    let mut message = Vec::new();
    loop {
        match bytes {
            [] => return Err(Stop::Incomplete),
            [HANDSHAKE] | [HANDSHAKE, 3] => return Err(Stop::Incomplete),
            [HANDSHAKE, 3, 0..=4, rest @ ..] => {
                let &[high, low, ref rest @ ..] = rest else {
                    return Err(Stop::Incomplete);
                };
                let length = usize::from(u16::from_be_bytes([high, low]));
                if length == 0 || length > RECORD_BYTES_MAX {
                    return Err(Stop::Malformed);
                }
                message.extend_from_slice(&rest[..length.min(rest.len())]);
                bytes = rest.get(length..).unwrap_or_default();
            }
            _ => return Err(Stop::Malformed),
        }
        match message[..] {
            [] => {}
            [CLIENT_HELLO] | [CLIENT_HELLO, 0] | [CLIENT_HELLO, 0, _] => {}
            [CLIENT_HELLO, 0, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                if length > bytes_max {
                    return Err(Stop::Malformed);
                }
                if message.len() >= 4 + length {
                    message.truncate(4 + length);
                    message.drain(..4);
                    return Ok(message);
                }
            }
            _ => return Err(Stop::Malformed),
        }
    }
}

fn parse_hello(message: &[u8]) -> Result<Option<String>, Stop> {
    let mut hello = Cursor(message);
    hello.take(2 + 32)?;
    hello.vector8()?;
    hello.vector16()?;
    hello.vector8()?;
    if hello.0.is_empty() {
        return Ok(None);
    }
    let mut extensions = Cursor(hello.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let body = extensions.vector16()?;
        if kind == SERVER_NAME {
            return name(body);
        }
    }
    Ok(None)
}

fn name(extension: &[u8]) -> Result<Option<String>, Stop> {
    let mut names = Cursor(Cursor(extension).vector16()?);
    while !names.0.is_empty() {
        let kind = names.take(1)?[0];
        let name = names.vector16()?;
        if kind == HOST_NAME {
            return match std::str::from_utf8(name) {
                Ok(name) if name.is_ascii() => Ok(Some(name.to_ascii_lowercase())),
                _ => Err(Stop::Malformed),
            };
        }
    }
    Ok(None)
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Stop> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Stop::Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    fn u16(&mut self) -> Result<u16, Stop> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Result<&'a [u8], Stop> {
        let n = self.take(1)?[0];
        self.take(n.into())
    }

    fn vector16(&mut self) -> Result<&'a [u8], Stop> {
        let n = self.u16()?;
        self.take(n.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    const MAX: usize = 16 * 1024;

    fn hello(name: &'static str) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_name_is_found_when_the_hello_is_complete_and_not_before() {
        let bytes = hello("Web.Example.com");
        assert!(
            bytes.len() > 1_400,
            "ML-KEM makes it large: {}",
            bytes.len()
        );
        for n in 0..bytes.len() {
            assert_eq!(server_name(&bytes[..n], MAX), Hello::Incomplete, "{n}");
        }
        assert_eq!(
            server_name(&bytes, MAX),
            Hello::Name("web.example.com".into())
        );
    }

    #[test]
    fn a_hello_in_many_records_is_one_hello() {
        let bytes = hello("a.example");
        let mut records = Vec::new();
        for chunk in bytes[5..].chunks(7) {
            records.extend_from_slice(&[22, 3, 1, 0, chunk.len() as u8]);
            records.extend_from_slice(chunk);
        }
        assert_eq!(server_name(&records, MAX), Hello::Name("a.example".into()));
    }

    #[test]
    fn what_is_not_tls_is_told_at_once() {
        for bytes in [
            b"GET / HTTP/1.1\r\n" as &[u8],
            b"\x16\x04",
            b"\x17\x03",
            b"\x16\x03\x01\0\0",
        ] {
            assert_eq!(server_name(bytes, MAX), Hello::NoName, "{bytes:?}");
        }
    }

    #[test]
    fn an_ip_address_is_no_name() {
        assert_eq!(server_name(&hello("10.0.0.1"), MAX), Hello::NoName);
    }

    #[test]
    fn a_hello_that_claims_to_be_endless_is_given_up() {
        let bytes = b"\x16\x03\x01\x40\x00\x01\x00\xff\xff";
        assert_eq!(server_name(bytes, MAX), Hello::NoName);
        let mut records = Vec::new();
        while records.len() < MAX {
            records.extend_from_slice(&[22, 3, 1, 0, 1, 1]);
        }
        assert_eq!(server_name(&records, MAX), Hello::NoName);
    }

    #[test]
    fn lengths_that_overrun_their_container_are_malformed() {
        let mut bytes = hello("a.example");
        // The session id's length.
        bytes[5 + 4 + 2 + 32] = 255;
        assert_eq!(server_name(&bytes, MAX), Hello::NoName);
    }
}
