//! A blocking HTTP/1.1 client that costs little: one connection, one request at a time.
//! Entry: [`Connection::open`], [`get`].

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No healthy answer takes longer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Heads and bodies of the benchmark are far smaller.
const ANSWER_BYTES_MAX: usize = 4096;

/// What becomes of the connection after the answer.
#[derive(Clone, Copy)]
pub(crate) enum After {
    KeepAlive,
    Close,
}

/// A connection to a server.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: [u8; ANSWER_BYTES_MAX],
}

/// The bytes of a GET request.
pub(crate) fn request(server: SocketAddr, after: After) -> Vec<u8> {
    let connection = match after {
        After::KeepAlive => "",
        After::Close => "Connection: close\r\n",
    };
    format!("GET / HTTP/1.1\r\nHost: {server}\r\nUser-Agent: bench\r\n{connection}\r\n").into()
}

impl Connection {
    pub(crate) fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream,
            buffer: [0; ANSWER_BYTES_MAX],
        })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// The socket's, and `InvalidData` when the answer is not `200` with a content-length.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request)?;
        let mut length = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[length..])?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            length += read;
            if answer_length(&self.buffer[..length])?.is_some_and(|whole| length >= whole) {
                return Ok(());
            }
        }
    }

    /// The bare socket, without the buffer.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

/// Opens a connection and makes one request on it.
///
/// # Errors
/// Those of [`Connection::exchange`].
pub(crate) fn get(server: SocketAddr, request: &[u8]) -> Result<Connection> {
    let mut connection = Connection::open(server)?;
    connection.exchange(request)?;
    Ok(connection)
}

/// Bytes of head and body; none while the head is not complete.
fn answer_length(bytes: &[u8]) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let invalid = |text: String| Error::new(ErrorKind::InvalidData, text);
    let parsed = response
        .parse(bytes)
        .map_err(|error| invalid(error.to_string()))?;
    let httparse::Status::Complete(head) = parsed else {
        return Ok(None);
    };
    if response.code != Some(200) {
        return Err(invalid(format!("status {:?}", response.code)));
    }
    let body = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| {
            std::str::from_utf8(header.value)
                .ok()?
                .parse::<usize>()
                .ok()
        })
        .ok_or_else(|| invalid("no content-length".to_owned()))?;
    Ok(Some(head + body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_its_head_and_its_body() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(answer_length(&head[..20]).unwrap(), None);
        assert_eq!(answer_length(head).unwrap(), Some(head.len() + 5));
    }

    #[test]
    fn an_answer_of_a_proxy_that_has_failed_is_an_error() {
        assert!(answer_length(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(answer_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
