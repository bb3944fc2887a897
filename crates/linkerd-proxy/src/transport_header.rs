//! The header in front of a connection that a proxy of Linkerd makes to our inbound port itself
//! instead of the application's: which port it is for, and what its bytes are. Entry: [`read`], and
//! [`opaque`] for those that we make.

use std::{io, time::Duration};

use linkerd_proto::transport;
use prost::Message;
use tokio::{io::AsyncReadExt, time::timeout};

use crate::{detect::Protocol, io::Socket};

/// The ALPN protocol that announces a header.
pub(crate) const ALPN: &[u8] = b"transport.l5d.io/v1";

const PREFACE: &[u8] = b"transport.l5d.io/v1\r\n\r\n";
/// The preface, and the message's length.
const HEAD_BYTES: usize = PREFACE.len() + 4;
/// A message has a port, one word, and at most a name of 253 characters; the rest is for later versions.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Where a connection is to go within the pod, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
}

/// Why a connection that announced a header is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidHeader {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("it took too long")]
    Timeout,
    #[error("other bytes stand in its place")]
    Missing,
    #[error("it has {0} bytes")]
    TooLong(u32),
    #[error("the message cannot be read")]
    Message(#[from] prost::DecodeError),
    #[error("{0} is no port")]
    Port(i32),
    #[error("it is for {0:?}, and this is no gateway")]
    Named(String),
}

/// Takes the header off `client`; what follows it stays.
///
/// # Errors
/// [`InvalidHeader`], also when the header does not come within `bound`.
pub(crate) async fn read(client: &mut Socket, bound: Duration) -> Result<Header, InvalidHeader> {
    let reading = async {
        loop {
            if let Some((header, length)) = parse(client.seen())? {
                let mut taken = [0; HEAD_BYTES + MESSAGE_BYTES_MAX];
                client.read_exact(&mut taken[..length]).await?;
                return Ok(header);
            }
            if client.fill().await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    };
    timeout(bound, reading)
        .await
        .map_err(|_| InvalidHeader::Timeout)?
}

/// A header for bytes that are not to be read, in front of them.
pub(crate) fn opaque(port: u16) -> Vec<u8> {
    let message = transport::Header {
        port: port.into(),
        name: String::new(),
        session_protocol: None,
    };
    let mut bytes = PREFACE.to_vec();
    let length = u32::try_from(message.encoded_len()).expect("a port has few bytes");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes
}

/// Reads a header and its length in bytes; none while more bytes could complete it.
fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, InvalidHeader> {
    let known = bytes.len().min(PREFACE.len());
    if bytes[..known] != PREFACE[..known] {
        return Err(InvalidHeader::Missing);
    }
    let Some((length, rest)) = bytes
        .get(PREFACE.len()..)
        .and_then(<[u8]>::split_first_chunk)
    else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length);
    let message_bytes = match usize::try_from(length) {
        Ok(bytes) if bytes <= MESSAGE_BYTES_MAX => bytes,
        _ => return Err(InvalidHeader::TooLong(length)),
    };
    let Some(message) = rest.get(..message_bytes) else {
        return Ok(None);
    };
    let header = transport::Header::decode(message)?.try_into()?;
    Ok(Some((header, HEAD_BYTES + message_bytes)))
}

impl TryFrom<transport::Header> for Header {
    type Error = InvalidHeader;

    fn try_from(message: transport::Header) -> Result<Self, InvalidHeader> {
        use transport::session_protocol::Kind;
        let transport::Header {
            port,
            name,
            session_protocol,
        } = message;
        if !name.is_empty() {
            return Err(InvalidHeader::Named(name));
        }
        let port = match u16::try_from(port) {
            Ok(number) if number != 0 => number,
            _ => return Err(InvalidHeader::Port(port)),
        };
        let protocol = match session_protocol.and_then(|protocol| protocol.kind) {
            None => Protocol::Opaque,
            Some(Kind::Http1(_)) => Protocol::Http1,
            Some(Kind::Http2(_)) => Protocol::Http2,
        };
        Ok(Self { port, protocol })
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    fn encoded(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [PREFACE, &length, message].concat()
    }

    /// Port 8080, and each protocol as the wire has it.
    const MESSAGES: [(&[u8], Protocol); 4] = [
        (b"\x08\x90\x3f", Protocol::Opaque),
        (b"\x08\x90\x3f\x1a\x00", Protocol::Opaque),
        (b"\x08\x90\x3f\x1a\x02\x0a\x00", Protocol::Http1),
        (b"\x08\x90\x3f\x1a\x02\x12\x00", Protocol::Http2),
    ];

    #[test]
    fn a_header_tells_port_and_protocol_and_leaves_what_follows() {
        for (message, protocol) in MESSAGES {
            let header = encoded(message);
            let bytes = [&header[..], b"GET /"].concat();
            let (parsed, length) = parse(&bytes).unwrap().unwrap();
            assert_eq!(
                parsed,
                Header {
                    port: 8080,
                    protocol
                }
            );
            assert_eq!(length, header.len());
        }
    }

    #[test]
    fn what_we_write_is_what_we_read() {
        assert_eq!(opaque(8080), encoded(MESSAGES[0].0));
        for port in [1, 80, 127, 128, 65_535] {
            let (header, _) = parse(&opaque(port)).unwrap().unwrap();
            let protocol = Protocol::Opaque;
            assert_eq!(header, Header { port, protocol });
        }
    }

    #[test]
    fn every_part_of_a_header_waits_for_the_rest() {
        for (message, _) in MESSAGES {
            let bytes = encoded(message);
            for end in 0..bytes.len() {
                assert!(parse(&bytes[..end]).unwrap().is_none(), "{end}");
            }
        }
    }

    #[test]
    fn other_bytes_are_no_header_from_the_first_that_differs() {
        for place in 0..PREFACE.len() {
            let mut bytes = encoded(MESSAGES[0].0);
            bytes[place] ^= 1;
            assert!(parse(&bytes[..place]).unwrap().is_none());
            let error = parse(&bytes[..=place]).unwrap_err();
            assert!(matches!(error, InvalidHeader::Missing), "{error}");
        }
    }

    #[test]
    fn a_length_that_lies_is_found_out() {
        let (message, _) = MESSAGES[3];
        let with_length = |length: u32| [PREFACE, &length.to_be_bytes(), message].concat();
        let whole = u32::try_from(message.len()).unwrap();
        assert!(parse(&with_length(whole + 1)).unwrap().is_none());
        for length in [whole - 1, whole - 3] {
            let error = parse(&with_length(length)).unwrap_err();
            assert!(matches!(error, InvalidHeader::Message(_)), "{error}");
        }
        // Nothing is set, so there is no port.
        let error = parse(&with_length(0)).unwrap_err();
        assert!(matches!(error, InvalidHeader::Port(0)), "{error}");
        for length in [MESSAGE_BYTES_MAX as u32 + 1, 1 << 24, u32::MAX] {
            let head = [PREFACE, &length.to_be_bytes()].concat();
            let error = parse(&head).unwrap_err();
            assert!(
                matches!(error, InvalidHeader::TooLong(n) if n == length),
                "{error}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_target_is_refused() {
        let message = |port, name: &str| {
            let header = transport::Header {
                port,
                name: name.to_owned(),
                session_protocol: None,
            };
            encoded(&header.encode_to_vec())
        };
        for port in [0, -1, 65_536, i32::MIN, i32::MAX] {
            let error = parse(&message(port, "")).unwrap_err();
            assert!(
                matches!(error, InvalidHeader::Port(n) if n == port),
                "{error}"
            );
        }
        let error = parse(&message(80, "web.shop.svc.cluster.local")).unwrap_err();
        assert!(matches!(error, InvalidHeader::Named(_)), "{error}");
        assert!(parse(&message(65_535, "")).unwrap().is_some());
    }

    #[test]
    fn fields_of_later_versions_are_skipped() {
        let bytes = encoded(b"\x08\x90\x3f\x7a\x03new\x1a\x02\x12\x00");
        let (header, _) = parse(&bytes).unwrap().unwrap();
        assert_eq!(header.protocol, Protocol::Http2);
    }

    #[test]
    fn no_bytes_do_harm() {
        let mut random = StdRng::seed_from_u64(4143);
        for _ in 0..100_000 {
            let length = random.random_range(0..40);
            let message: Vec<u8> = (0..length).map(|_| random.random()).collect();
            let mut bytes = encoded(&message);
            for _ in 0..random.random_range(0..3) {
                let place = random.random_range(0..bytes.len());
                bytes[place] = random.random();
            }
            if let Ok(Some((header, length))) = parse(&bytes) {
                assert!(header.port != 0 && length <= bytes.len());
            }
        }
    }
}
