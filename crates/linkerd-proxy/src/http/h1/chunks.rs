//! Finds the end of a chunked body (RFC 9112 section 7.1). Entry: [`Chunks::scan`]. Pure.
//! The bytes go on as they are, so nothing is accepted that another reader could understand in
//! another way: no LF without CR, no sign, no size beyond 60 bits.

use super::head::Malformed;

/// Bytes of all extensions of one body.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// Digits of a chunk's size.
const DIGITS_MAX: u8 = 15;

/// How far a chunked body was read.
#[derive(Debug)]
pub(super) struct Chunks {
    is_response: bool,
    state: State,
    extension_bytes: usize,
    /// Bytes of the body itself.
    pub(super) data_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So far, and its digits.
    Size(u64, u8),
    /// White space behind the size.
    Space(u64),
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// The last chunk is behind; trailers and an empty line follow.
    Trailers,
}

impl Chunks {
    pub(super) fn new(is_response: bool) -> Self {
        Self {
            is_response,
            state: State::Size(0, 0),
            extension_bytes: 0,
            data_bytes: 0,
        }
    }

    /// Whether only trailers are left.
    pub(super) fn is_at_trailers(&self) -> bool {
        self.state == State::Trailers
    }

    /// Reads on; returns how many bytes belong to the chunks.
    ///
    /// # Errors
    /// [`Malformed`] at the first byte that does not belong there.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let fault = Err(Malformed("a chunk is not as it should be"));
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            self.state = match self.state {
                State::Size(size, digits) => match (char::from(byte).to_digit(16), byte) {
                    (Some(digit), _) if digits < DIGITS_MAX => {
                        State::Size(size << 4 | u64::from(digit), digits + 1)
                    }
                    (None, b'\r') if digits > 0 => State::SizeEnd(size),
                    (None, b';') if digits > 0 => State::Extension(size),
                    (None, b' ' | b'\t') if digits > 0 => State::Space(size),
                    _ => return fault,
                },
                State::Space(size) => {
                    self.extension_bytes += 1;
                    match byte {
                        b' ' | b'\t' => State::Space(size),
                        b';' => State::Extension(size),
                        // Some servers write sizes into a field of fixed width.
                        b'\r' if self.is_response => State::SizeEnd(size),
                        _ => return fault,
                    }
                }
                State::Extension(size) => {
                    self.extension_bytes += 1;
                    match byte {
                        b'\r' => State::SizeEnd(size),
                        b'\t' | b' '..=b'~' | 0x80.. => State::Extension(size),
                        _ => return fault,
                    }
                }
                State::SizeEnd(0) if byte == b'\n' => State::Trailers,
                State::SizeEnd(size) if byte == b'\n' => State::Data(size),
                State::Data(left) => {
                    let here = usize::try_from(left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len() - at);
                    at += here;
                    self.data_bytes += here as u64;
                    self.state = match left - here as u64 {
                        0 => State::DataCr,
                        left => State::Data(left),
                    };
                    continue;
                }
                State::DataCr if byte == b'\r' => State::DataLf,
                State::DataLf if byte == b'\n' => State::Size(0, 0),
                State::Trailers => return Ok(at),
                State::SizeEnd(_) | State::DataCr | State::DataLf => return fault,
            };
            if self.extension_bytes > EXTENSION_BYTES_MAX {
                return fault;
            }
            at += 1;
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(pieces: &[&[u8]]) -> Result<(usize, bool), Malformed> {
        let mut chunks = Chunks::new(false);
        let mut all = 0;
        for piece in pieces {
            all += chunks.scan(piece)?;
        }
        Ok((all, chunks.is_at_trailers()))
    }

    #[test]
    fn the_end_is_found_wherever_the_bytes_are_cut() {
        let body = b"5;a=b\r\nhello\r\n00a ;c\r\n0123456789\r\n0\r\n";
        let whole = [&body[..], b"X: y\r\n\r\n"].concat();
        assert_eq!(scan(&[&whole]), Ok((body.len(), true)));
        for cut in 0..body.len() {
            assert_eq!(scan(&[&body[..cut], &body[cut..]]), Ok((body.len(), true)));
        }
        assert_eq!(scan(&[&body[..20]]), Ok((20, false)));
    }

    #[test]
    fn what_could_be_understood_in_two_ways_is_refused() {
        for bad in [
            "5\nhello",
            "5;a\nhello",
            "0x5\r\n",
            "+5\r\n",
            "-1\r\n",
            "\r\n",
            ";a\r\n",
            " 5\r\n",
            "5 \r\n",
            "4\r\nhello",
            "1000000000000000\r\n",
            "5\r\nhello\n",
        ] {
            assert!(scan(&[bad.as_bytes()]).is_err(), "{bad:?}");
        }
    }
}
