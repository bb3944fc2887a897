//! A port-forward to a proxy, as the API server makes it: a WebSocket with two channels for the one port, of which
//! the even one carries its bytes. Entries: [`serve`] plays a proxy behind it, [`relay`] leads to a server.

use std::{
    io::{Error, Read as _, Result, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
};

use tungstenite::{Message, WebSocket, handshake::derive_accept_key, protocol::Role};

/// The port of a proxy's metrics.
const PORT: u16 = 4191;

/// Answers the request whose head was read with a WebSocket, and the HTTP request in it with `metrics`.
pub(crate) fn serve(connection: &TcpStream, head: &str, metrics: &str) -> Result<()> {
    let mut socket = accept(connection, head, PORT)?;
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

/// Answers the request whose head was read with a WebSocket, whose other end is at `to`, until either ends.
pub(crate) fn relay(connection: &TcpStream, head: &str, port: u16, to: SocketAddr) -> Result<()> {
    let mut socket = accept(connection, head, port)?;
    let server = TcpStream::connect(to)?;
    let reader = connection.try_clone()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = WebSocket::from_raw_socket(&reader, Role::Server, None);
            while let Ok(message) = socket.read() {
                if let [0, bytes @ ..] = &message.into_data()[..]
                    && (&server).write_all(bytes).is_err()
                {
                    break;
                }
            }
            // Whichever side has ended may have done so already.
            drop(server.shutdown(Shutdown::Both));
        });
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = (&server).read(&mut bytes) {
            if send(&mut socket, 0, &bytes[..count]).is_err() {
                break;
            }
        }
        // The client, which may have gone, ends the connection when it has read what came before.
        drop(socket.close(None).and_then(|()| socket.flush()));
    });
    Ok(())
}

/// The WebSocket for one port, as a client asks for it.
fn accept<'a>(
    mut connection: &'a TcpStream,
    head: &str,
    port: u16,
) -> Result<WebSocket<&'a TcpStream>> {
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
        send(&mut socket, channel, &port.to_le_bytes())?;
    }
    Ok(socket)
}

fn send(socket: &mut WebSocket<&TcpStream>, channel: u8, bytes: &[u8]) -> Result<()> {
    let message = [&[channel], bytes].concat();
    socket.send(Message::binary(message)).map_err(Error::other)
}
