//! A port-forward to a proxy, as the API server makes it: a WebSocket with two channels for the one port, of which
//! the even one carries its bytes. Entry: [`serve`].

use std::{
    io::{Error, Result, Write as _},
    net::TcpStream,
};

use tungstenite::{Message, WebSocket, handshake::derive_accept_key, protocol::Role};

/// The port of a proxy's metrics.
const PORT: u16 = 4191;

/// Answers the request whose head was read with a WebSocket, and the HTTP request in it with `metrics`.
pub(crate) fn serve(mut connection: &TcpStream, head: &str, metrics: &str) -> Result<()> {
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key")
            .then(|| value.trim())
    });
    write!(
        connection,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.unwrap_or_default().as_bytes())
    )?;
    let mut socket = WebSocket::from_raw_socket(connection, Role::Server, None);
    for channel in [0, 1] {
        send(&mut socket, channel, &PORT.to_le_bytes())?;
    }
    // A client gives up a server that answers before it was asked.
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let message = socket.read().map_err(Error::other)?;
        if let [0, bytes @ ..] = &message.into_data()[..] {
            request.extend_from_slice(bytes);
        }
    }
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{metrics}",
        metrics.len()
    );
    send(&mut socket, 0, answer.as_bytes())?;
    // It ends when the client has read enough.
    while socket.read().is_ok() {}
    Ok(())
}

fn send(socket: &mut WebSocket<&TcpStream>, channel: u8, bytes: &[u8]) -> Result<()> {
    let message = [&[channel], bytes].concat();
    socket.send(Message::binary(message)).map_err(Error::other)
}
