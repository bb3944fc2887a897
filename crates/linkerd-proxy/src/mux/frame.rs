//! The frames of a multiplexed connection. Entry: [`put`], [`Parser`]. Pure.
//!
//! A header of 8 bytes, all numbers big-endian: stream (4), kind (1), length of what follows (3).

use std::io;

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 8;
/// What follows the header of any frame but Data.
const SHORT_BYTES_MAX: usize = 16;
/// Largest content of a Data frame; one TLS record with its header.
pub(super) const DATA_BYTES_MAX: usize = 16 * 1024 - HEADER_BYTES;

/// What a frame says. Unknown kinds are skipped, so that later versions can add some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Begins a stream; one byte: what the client's proxy knows of it.
    Open = 1,
    /// Bytes of a stream.
    Data = 2,
    /// The sender has no more bytes for this stream.
    End = 3,
    /// The sender has given the stream up: [`Reason`] (1), and what HTTP/2 calls it, RFC 9113 section 7 (4).
    Reset = 4,
    /// The sender takes so many more bytes of this stream (4).
    Window = 5,
    /// The sender wants no more streams (of its peer).
    GoAway = 6,
    /// Asks whether somebody is there.
    Ping = 7,
    /// Somebody is.
    Pong = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Open,
            Self::Data,
            Self::End,
            Self::Reset,
            Self::Window,
            Self::GoAway,
            Self::Ping,
            Self::Pong,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Why a stream was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its connection broke, or nobody wants the rest.
    Aborted = 1,
    /// There are too many streams, or nobody to whom it leads: nothing of it was taken.
    Refused = 2,
}

/// How a peer has given a stream up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reset {
    pub(crate) reason: Reason,
    /// An error code of HTTP/2; only streams that carry its requests look at it.
    pub(crate) code: u32,
}

/// CANCEL, RFC 9113 section 7: what a stream ends with of which nobody says more.
const CANCEL: u32 = 8;

impl Reset {
    pub(super) const ABORTED: Self = Self {
        reason: Reason::Aborted,
        code: CANCEL,
    };
    pub(super) const REFUSED: Self = Self {
        reason: Reason::Refused,
        code: CANCEL,
    };

    pub(super) fn content(self) -> [u8; 5] {
        let [a, b, c, d] = self.code.to_be_bytes();
        [self.reason as u8, a, b, c, d]
    }

    /// What a frame says; earlier versions told no code.
    pub(super) fn from_content(content: &[u8]) -> Self {
        let (reason, code) = content.split_first().unwrap_or((&0, &[]));
        let reason = match *reason == Reason::Refused as u8 {
            true => Reason::Refused,
            false => Reason::Aborted,
        };
        let code = code.try_into().map_or(CANCEL, u32::from_be_bytes);
        Self { reason, code }
    }
}

/// Appends one frame.
pub(super) fn put(out: &mut Vec<u8>, stream: u32, kind: Kind, content: &[u8]) {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    debug_assert!(content.len() <= DATA_BYTES_MAX);
    out.reserve(HEADER_BYTES + content.len());
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&((kind as u32) << 24 | length).to_be_bytes());
    out.extend_from_slice(content);
}

/// What the parser has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// Some bytes of a stream; a frame may come in several pieces.
    Data(u32, &'a [u8]),
    /// A whole frame of another kind.
    Frame(u32, Kind, &'a [u8]),
}

/// Finds frames in bytes that come in pieces of any size.
#[derive(Default)]
pub(super) struct Parser {
    /// An incomplete header, or a complete one with the incomplete content of a short frame.
    held: [u8; HEADER_BYTES + SHORT_BYTES_MAX],
    held_bytes: usize,
    /// The Data frame under way: stream, bytes to come.
    data: Option<(u32, usize)>,
    /// Bytes to come of a frame of unknown kind.
    skip: usize,
}

impl Parser {
    /// Reads `bytes` and tells `event` what they hold.
    ///
    /// # Errors
    /// `InvalidData` when they are no frames; `event`'s own errors.
    pub(super) fn read(
        &mut self,
        mut bytes: &[u8],
        mut event: impl FnMut(Event<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len());
                self.skip -= n;
                bytes = &bytes[n..];
                continue;
            }
            if let Some((stream, left)) = self.data {
                let n = left.min(bytes.len());
                event(Event::Data(stream, &bytes[..n]))?;
                self.data = (left > n).then_some((stream, left - n));
                bytes = &bytes[n..];
                continue;
            }
            bytes = self.hold(bytes, HEADER_BYTES);
            if self.held_bytes < HEADER_BYTES {
                return Ok(());
            }
            let (stream, kind, length) = self.header();
            match Kind::from_byte(kind) {
                Some(Kind::Data) => {
                    if length > DATA_BYTES_MAX {
                        return Err(invalid("a frame is too long"));
                    }
                    self.held_bytes = 0;
                    self.data = (length > 0).then_some((stream, length));
                }
                Some(kind) => {
                    if length > SHORT_BYTES_MAX {
                        return Err(invalid("a frame is too long"));
                    }
                    bytes = self.hold(bytes, HEADER_BYTES + length);
                    if self.held_bytes < HEADER_BYTES + length {
                        return Ok(());
                    }
                    self.held_bytes = 0;
                    let content = &self.held[HEADER_BYTES..HEADER_BYTES + length];
                    event(Event::Frame(stream, kind, content))?;
                }
                None => {
                    self.held_bytes = 0;
                    self.skip = length;
                }
            }
        }
        Ok(())
    }

    /// Holds up to `wanted` bytes; returns the rest.
    fn hold<'a>(&mut self, bytes: &'a [u8], wanted: usize) -> &'a [u8] {
        let n = wanted.saturating_sub(self.held_bytes).min(bytes.len());
        self.held[self.held_bytes..self.held_bytes + n].copy_from_slice(&bytes[..n]);
        self.held_bytes += n;
        &bytes[n..]
    }

    fn header(&self) -> (u32, u8, usize) {
        let [s0, s1, s2, s3, kind, l0, l1, l2, ..] = self.held;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        (u32::from_be_bytes([s0, s1, s2, s3]), kind, length)
    }
}

pub(super) fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Seen {
        Data(u32, Vec<u8>),
        Frame(u32, Kind, Vec<u8>),
    }

    fn read(pieces: &[&[u8]]) -> io::Result<Vec<Seen>> {
        let mut parser = Parser::default();
        let mut seen: Vec<Seen> = Vec::new();
        for piece in pieces {
            parser.read(piece, |event| {
                match (event, seen.last_mut()) {
                    (Event::Data(stream, bytes), Some(Seen::Data(last, all)))
                        if *last == stream =>
                    {
                        all.extend_from_slice(bytes);
                    }
                    (Event::Data(stream, bytes), _) => seen.push(Seen::Data(stream, bytes.into())),
                    (Event::Frame(stream, kind, content), _) => {
                        seen.push(Seen::Frame(stream, kind, content.into()));
                    }
                }
                Ok(())
            })?;
        }
        Ok(seen)
    }

    #[test]
    fn frames_are_found_wherever_the_bytes_are_cut() {
        let mut wire = Vec::new();
        put(&mut wire, 1, Kind::Open, &[2]);
        put(&mut wire, 1, Kind::Data, b"hello");
        put(&mut wire, 7, Kind::Window, &9_u32.to_be_bytes());
        wire.extend_from_slice(&[0, 0, 0, 7, 99, 0, 0, 2, 1, 2]);
        put(&mut wire, 1, Kind::Data, b"");
        put(&mut wire, 1, Kind::End, b"");
        let expected = vec![
            Seen::Frame(1, Kind::Open, vec![2]),
            Seen::Data(1, b"hello".to_vec()),
            Seen::Frame(7, Kind::Window, vec![0, 0, 0, 9]),
            Seen::Frame(1, Kind::End, vec![]),
        ];
        for cut in 0..=wire.len() {
            assert_eq!(read(&[&wire[..cut], &wire[cut..]]).unwrap(), expected);
        }
        let single: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(read(&single).unwrap(), expected);
    }

    #[test]
    fn a_reset_is_read_as_it_was_written() {
        let reset = Reset {
            reason: Reason::Refused,
            code: 0x0102_0304,
        };
        assert_eq!(Reset::from_content(&reset.content()), reset);
        let of_an_earlier_version = [Reason::Aborted as u8];
        assert_eq!(Reset::from_content(&of_an_earlier_version), Reset::ABORTED);
        assert_eq!(Reset::from_content(&[]), Reset::ABORTED);
    }

    #[test]
    fn lengths_beyond_the_limit_are_refused() {
        assert!(read(&[&[0, 0, 0, 1, 2, 0, 0x40, 0]]).is_err());
        assert!(read(&[&[0, 0, 0, 1, 5, 0, 0, 17]]).is_err());
    }
}
