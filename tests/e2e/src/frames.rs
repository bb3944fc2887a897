//! Puts captured frames together to TCP streams. Entry: [`Streams::of`].
//! Only IPv4 over Ethernet, which is what passes between the nodes of the local cluster.

use std::{collections::BTreeMap, net::SocketAddrV4};

/// Both directions of each TCP connection, each on its own.
#[derive(Debug, Default)]
pub struct Streams {
    streams: BTreeMap<(SocketAddrV4, SocketAddrV4), Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    /// Sequence number of the first byte, when the beginning was captured.
    first: Option<u32>,
    /// Payloads by sequence number, in the order of their capture.
    segments: Vec<(u32, Vec<u8>)>,
}

/// What one frame says about its stream.
#[derive(Debug, PartialEq, Eq)]
struct Segment<'a> {
    from: SocketAddrV4,
    to: SocketAddrV4,
    sequence: u32,
    is_first: bool,
    payload: &'a [u8],
}

impl Streams {
    /// Sorts frames into streams; what is no TCP over IPv4 is left out.
    pub fn of<'a>(frames: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut streams = Self::default();
        for frame in frames {
            let Some(Segment {
                from,
                to,
                sequence,
                is_first,
                payload,
            }) = parse(frame)
            else {
                continue;
            };
            let stream = streams.streams.entry((from, to)).or_default();
            if is_first {
                stream.first = Some(sequence.wrapping_add(1));
            }
            if !payload.is_empty() {
                stream.segments.push((sequence, payload.to_vec()));
            }
        }
        streams
    }

    /// The bytes of each stream from or to `port` at the address `ip`, as far as they are without a
    /// gap from the beginning. Streams whose beginning was not captured, or on which nothing was
    /// said, are left out.
    pub fn at(&self, ip: std::net::Ipv4Addr, port: u16) -> Vec<Vec<u8>> {
        let end = SocketAddrV4::new(ip, port);
        self.streams
            .iter()
            .filter(|((from, to), _)| *from == end || *to == end)
            .filter_map(|(_, stream)| stream.bytes())
            .filter(|bytes| !bytes.is_empty())
            .collect()
    }

    /// Whether `marker` occurs in any payload whatsoever, also across two segments.
    pub fn contain(&self, marker: &[u8]) -> bool {
        self.streams.values().any(|stream| {
            let joined: Vec<u8> = stream
                .segments
                .iter()
                .flat_map(|(_, bytes)| bytes.clone())
                .collect();
            joined.windows(marker.len()).any(|window| window == marker)
        })
    }

    /// All payload bytes.
    pub fn len(&self) -> usize {
        let segments = self.streams.values().flat_map(|stream| &stream.segments);
        segments.map(|(_, payload)| payload.len()).sum()
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Stream {
    fn bytes(&self) -> Option<Vec<u8>> {
        let first = self.first?;
        let mut segments: Vec<_> = self
            .segments
            .iter()
            .filter_map(|(sequence, payload)| {
                Some((usize::try_from(sequence.wrapping_sub(first)).ok()?, payload))
            })
            .collect();
        segments.sort_by_key(|(offset, _)| *offset);
        let mut bytes = Vec::new();
        for (offset, payload) in segments {
            let Some(known) = bytes.len().checked_sub(offset) else {
                break;
            };
            bytes.extend(payload.iter().skip(known));
        }
        Some(bytes)
    }
}

/// Whether the bytes are a sequence of TLS records from a handshake on; the last may be cut off.
pub fn is_tls(bytes: &[u8]) -> bool {
    /// `change_cipher_spec`, `alert`, `handshake`, `application_data`.
    const TYPES: std::ops::RangeInclusive<u8> = 20..=23;
    const HANDSHAKE: u8 = 22;
    let mut rest = bytes;
    let mut records = 0;
    while let [kind, 3, 0..=4, high, low, body @ ..] = rest {
        if !TYPES.contains(kind) || (records == 0 && *kind != HANDSHAKE) {
            return false;
        }
        records += 1;
        rest = body
            .get(usize::from(u16::from_be_bytes([*high, *low]))..)
            .unwrap_or_default();
    }
    records > 0 && rest.len() < 5
}

fn parse(frame: &[u8]) -> Option<Segment<'_>> {
    const IPV4: [u8; 2] = [8, 0];
    const TCP: u8 = 6;
    const SYN: u8 = 2;
    if frame.get(12..14)? != IPV4 {
        return None;
    }
    let packet = frame.get(14..)?;
    let header_length = usize::from(packet.first()? & 15) * 4;
    let total_length = usize::from(u16_at(packet, 2)?);
    if *packet.get(9)? != TCP {
        return None;
    }
    let ip = |at: usize| {
        packet
            .get(at..at + 4)
            .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
    };
    // A frame that is split by the network card only may have the length 0.
    let end = if total_length == 0 {
        packet.len()
    } else {
        total_length.min(packet.len())
    };
    let segment = packet.get(header_length..end)?;
    let data_offset = usize::from(segment.get(12)? >> 4) * 4;
    Some(Segment {
        from: SocketAddrV4::new(ip(12)?.into(), u16_at(segment, 0)?),
        to: SocketAddrV4::new(ip(16)?.into(), u16_at(segment, 2)?),
        sequence: u32::from_be_bytes(segment.get(4..8)?.try_into().ok()?),
        is_first: segment.get(13)? & SYN != 0,
        payload: segment.get(data_offset..)?,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame from 10.0.0.1:1 to 10.0.0.2:2, padded as short ones are.
    fn frame(sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
        frame.extend([
            0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2,
        ]);
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame.extend([0; 6]);
        frame
    }

    fn bytes_of(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        Streams::of(frames.iter().map(Vec::as_slice)).at([10, 0, 0, 2].into(), 2)
    }

    #[test]
    fn segments_are_put_in_order_and_repeated_ones_are_dropped() {
        let start = u32::MAX - 2;
        let frames = [
            frame(start, 2, b""),
            frame(start.wrapping_add(4), 16, b"def"),
            frame(start.wrapping_add(1), 16, b"abc"),
            frame(start.wrapping_add(2), 16, b"bcde"),
        ];
        assert_eq!(bytes_of(&frames), [b"abcdef"]);
    }

    #[test]
    fn what_comes_after_a_gap_or_without_a_beginning_is_left_out() {
        assert_eq!(
            bytes_of(&[frame(0, 2, b""), frame(1, 16, b"a"), frame(3, 16, b"c")]),
            [b"a"]
        );
        assert!(bytes_of(&[frame(1, 16, b"a")]).is_empty());
        assert!(bytes_of(&[vec![], vec![0; 20], frame(0, 2, b"")[..30].to_vec()]).is_empty());
    }

    #[test]
    fn a_marker_is_found_across_segments_also_without_a_beginning() {
        let frames = [frame(1, 16, b"mar"), frame(4, 16, b"ker")];
        let streams = Streams::of(frames.iter().map(Vec::as_slice));
        assert!(streams.contain(b"marker"));
        assert!(!streams.contain(b"markers"));
        assert_eq!(streams.len(), 6);
    }

    #[test]
    fn records_are_tls_and_text_is_not() {
        assert!(is_tls(&[22, 3, 1, 0, 2, 9, 9, 23, 3, 3, 0, 1, 9]));
        assert!(is_tls(&[22, 3, 1, 0, 9, 9]), "the last record is cut off");
        assert!(!is_tls(&[23, 3, 3, 0, 1, 9]), "no handshake");
        assert!(!is_tls(&[22, 3, 1, 0, 1, 9, b'G', b'E', b'T', b' ', b'/']));
        assert!(!is_tls(b"GET / HTTP/1.1\r\n"));
        assert!(!is_tls(b""));
    }
}
