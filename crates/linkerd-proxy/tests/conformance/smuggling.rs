//! Smuggling: bytes that two readers could take for different messages.
//! Each is refused, or what arrives is one message to the strictest reader; and whatever was sent,
//! the next client's request and answer are untouched by it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    message::{self, Message, Stop},
    talk::{Peer, Talk, Way},
};

/// What may become of a client's bytes. In each case they may be refused.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Nothing that is a request arrives.
    Refused,
    /// One request arrives, with this body.
    One(&'static str),
    /// They are not HTTP: they arrive as they are, on a connection of their own.
    Opaque,
}
use Fate::{One, Opaque, Refused};

/// What the bytes do, the bytes, and their fate. `~` is an end of line, `{S}` a request to smuggle.
#[rustfmt::skip]
const REQUESTS: &[(&str, &str, Fate)] = &[
    // The length and the chunks contradict each other.
    ("CL.TE", "POST / HTTP/1.1~Host: a~Content-Length: {L+5}~Transfer-Encoding: chunked~~0~~{S}", One("")),
    ("TE.CL", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~Content-Length: 4~~{H}~{S}~0~~", One(SMUGGLED)),
    ("TE: chunked, identity", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked, identity~~0~~{S}", Refused),
    ("TE: gzip, chunked", "POST / HTTP/1.1~Host: a~Transfer-Encoding: gzip, chunked~~1~x~0~~", One("x")),
    ("two TE, the last not chunked", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~Transfer-Encoding: x~~0~~{S}", Refused),
    ("TE: xchunked", "POST / HTTP/1.1~Host: a~Transfer-Encoding: xchunked~~0~~{S}", Refused),
    ("TE: xchunked and a length", "POST / HTTP/1.1~Host: a~Content-Length: 3~Transfer-Encoding: xchunked~~0~~{S}", Refused),
    ("TE: identity, chunked", "POST / HTTP/1.1~Host: a~Transfer-Encoding: identity, chunked~~0~~", Refused),
    ("TE: chunked, chunked", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked, chunked~~0~~", Refused),
    ("two TE", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~Transfer-Encoding: chunked~~0~~", Refused),
    ("TE: identity", "POST / HTTP/1.1~Host: a~Transfer-Encoding: identity~~{S}", Refused),
    ("TE: empty", "POST / HTTP/1.1~Host: a~Transfer-Encoding:~~{S}", Refused),
    ("TE: quoted", "POST / HTTP/1.1~Host: a~Transfer-Encoding: \"chunked\"~~0~~{S}", Refused),
    ("TE: Chunked", "POST / HTTP/1.1~Host: a~Transfer-Encoding: ChunKed~~1~x~0~~", One("x")),
    ("TE behind a tab", "POST / HTTP/1.1~Host: a~Transfer-Encoding:\tchunked~~1~x~0~~", One("x")),
    ("TE and a vertical tab", "POST / HTTP/1.1~Host: a~Transfer-Encoding: \x0bchunked~~0~~{S}", Refused),
    ("TE in a folded line", "POST / HTTP/1.1~Host: a~Transfer-Encoding:~ chunked~~0~~{S}", Refused),
    ("TE behind a folded line", "POST / HTTP/1.1~Host: a~X: y~ Transfer-Encoding: chunked~~{S}", Refused),
    ("TE and a space before the colon", "POST / HTTP/1.1~Host: a~Transfer-Encoding : chunked~~0~~{S}", Refused),
    ("TE and a space before the name", "POST / HTTP/1.1~ Transfer-Encoding: chunked~Host: a~~0~~{S}", Refused),
    ("TE and an underscore", "POST / HTTP/1.1~Host: a~Transfer_Encoding: chunked~Content-Length: 5~~0~~", One("0\r\n\r\n")),
    ("TE in HTTP/1.0", "POST / HTTP/1.0~Host: a~Transfer-Encoding: chunked~~0~~{S}", Refused),
    ("TE in HTTP/1.0 with keep-alive", "POST / HTTP/1.0~Connection: keep-alive~Transfer-Encoding: chunked~~0~~{S}", Refused),
    ("TE named by Connection", "POST / HTTP/1.1~Host: a~Connection: transfer-encoding~Transfer-Encoding: chunked~~1~x~0~~", One("x")),
    // Lengths.
    ("two equal lengths", "POST / HTTP/1.1~Host: a~Content-Length: 5~Content-Length: 5~~hello", One("hello")),
    ("two lengths", "POST / HTTP/1.1~Host: a~Content-Length: 0~Content-Length: {L}~~{S}", Refused),
    ("two lengths in one line", "POST / HTTP/1.1~Host: a~Content-Length: 0, {L}~~{S}", Refused),
    ("two equal lengths in one line", "POST / HTTP/1.1~Host: a~Content-Length: 5, 5~~hello", One("hello")),
    ("length +5", "POST / HTTP/1.1~Host: a~Content-Length: +5~~hello{S}", Refused),
    ("length 0x5", "POST / HTTP/1.1~Host: a~Content-Length: 0x5~~hello{S}", Refused),
    ("length -1", "POST / HTTP/1.1~Host: a~Content-Length: -1~~{S}", Refused),
    ("length 5.0", "POST / HTTP/1.1~Host: a~Content-Length: 5.0~~hello{S}", Refused),
    ("length 1_0", "POST / HTTP/1.1~Host: a~Content-Length: 1_0~~hellohello{S}", Refused),
    ("length 5 5", "POST / HTTP/1.1~Host: a~Content-Length: 5 5~~hello{S}", Refused),
    ("length without digits", "POST / HTTP/1.1~Host: a~Content-Length:~~{S}", Refused),
    ("length beyond 64 bits", "POST / HTTP/1.1~Host: a~Content-Length: 18446744073709551616~~{S}", Refused),
    ("length and a space before the colon", "POST / HTTP/1.1~Host: a~Content-Length : {L}~~{S}", Refused),
    ("length 005", "POST / HTTP/1.1~Host: a~Content-Length: 005~~hello", One("hello")),
    ("length named by Connection", "POST / HTTP/1.1~Host: a~Connection: content-length~Content-Length: 5~~hello", One("hello")),
    ("length of a GET", "GET / HTTP/1.1~Host: a~Content-Length: {L}~~{S}", One(SMUGGLED)),
    ("length of a HEAD", "HEAD / HTTP/1.1~Host: a~Content-Length: {L}~~{S}", One(SMUGGLED)),
    // Chunks.
    ("lines of chunks with LF alone", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~5\nhello\n0\n\n", One("hello")),
    ("a chunk's data with LF alone behind it", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~5~hello\n0~~{S}", Refused),
    ("an extension with LF alone", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~5;a\nhello~0~~", Refused),
    ("an extension with CR alone", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~5;a\rhello~0~~", Refused),
    ("a chunk size of 0x5", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~0x5~hello~0~~{S}", Refused),
    ("a chunk size of +5", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~+5~hello~0~~{S}", Refused),
    ("a chunk size of -1", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~-1~hello~0~~{S}", Refused),
    ("a chunk size that overflows", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~10000000000000005~hello~0~~{S}", Refused),
    ("a chunk size of the largest number", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~ffffffffffffffff~hello~0~~{S}", Refused),
    ("a chunk size behind a space", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~ 5~hello~0~~", One("hello")),
    ("a chunk size before a space", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~5 ~hello~0~~", One("hello")),
    ("no chunk size", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~~hello~0~~{S}", Refused),
    ("a chunk longer than its size", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~4~hello~0~~{S}", Refused),
    ("a trailer that is a length", "POST / HTTP/1.1~Host: a~Trailer: Content-Length~TE: trailers~Transfer-Encoding: chunked~~1~x~0~Content-Length: {L}~~", One("x")),
    ("a trailer with NUL", "POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~1~x~0~X: \0~~", Refused),
    // Lines of the head.
    ("LF alone", "GET / HTTP/1.1\nHost: a\n\n", One("")),
    ("LF alone in one header", "GET / HTTP/1.1~Host: a~X: y\nZ: w~~", One("")),
    ("CR alone in a value", "GET / HTTP/1.1~Host: a~X: y\rTransfer-Encoding: chunked~~0~~{S}", Refused),
    ("CR alone behind a value", "GET / HTTP/1.1~Host: a~X: y\r~~", Refused),
    ("NUL in a value", "GET / HTTP/1.1~Host: a~X: y\0z~~", Refused),
    ("NUL in a name", "GET / HTTP/1.1~Host: a~X\0: y~~", Refused),
    ("DEL in a value", "GET / HTTP/1.1~Host: a~X: y\x7fz~~", Refused),
    ("a name without characters", "GET / HTTP/1.1~Host: a~: y~~", Refused),
    ("a line without a colon", "GET / HTTP/1.1~Host: a~X~~", Refused),
    ("a name with a space", "GET / HTTP/1.1~Host: a~X Y: z~~", Refused),
    ("a name in brackets", "GET / HTTP/1.1~Host: a~(X): z~~", Refused),
    // Who is meant.
    ("two hosts", "GET / HTTP/1.1~Host: a~Host: b~~", Refused),
    ("no host", "GET / HTTP/1.1~X: y~~", One("")),
    ("two hosts in one line", "GET / HTTP/1.1~Host: a, b~~", One("")),
    ("an absolute target and another host", "GET http://b/ HTTP/1.1~Host: a~~", One("")),
    // What follows.
    ("CONNECT with a length", "CONNECT a:1 HTTP/1.1~Host: a:1~Content-Length: {L}~~{S}", One(SMUGGLED)),
    ("an upgrade with a body", "POST / HTTP/1.1~Host: a~Connection: Upgrade~Upgrade: x~Content-Length: {L}~~{S}", One(SMUGGLED)),
    // First lines.
    ("two spaces", "GET  / HTTP/1.1~Host: a~~", Opaque),
    ("a tab", "GET\t/ HTTP/1.1~Host: a~~", Opaque),
    ("no version", "GET /~~", Opaque),
    ("HTTP/1.2", "GET / HTTP/1.2~Host: a~~", Opaque),
    ("HTTP/2.0", "GET / HTTP/2.0~Host: a~~", Opaque),
    ("http/1.1", "GET / http/1.1~Host: a~~", Opaque),
    ("a space behind the version", "GET / HTTP/1.1 ~Host: a~~", Opaque),
    ("two targets", "GET / /b HTTP/1.1~Host: a~~", Opaque),
    ("NUL in the target", "GET /\0 HTTP/1.1~Host: a~~", Opaque),
    ("CR alone in the target", "GET /\ra HTTP/1.1~Host: a~~", Opaque),
];

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
const VICTIM: &str = "GET /victim HTTP/1.1\r\nHost: a\r\n\r\n";

/// What a strict server has heard.
#[derive(Debug)]
enum Heard {
    Request(Message),
    /// Why it is wrong, and all bytes of the connection.
    Wrong(String, String),
}

type Log = Arc<Mutex<Vec<Heard>>>;

/// Answers requests until one is wrong, and writes down all of them.
async fn listen(mut server: Peer, log: Log) {
    let mut all = Vec::new();
    loop {
        match message::request(&server.seen) {
            Ok((message, n)) => {
                all.extend(server.seen.drain(..n));
                let body = if message.line.starts_with("HEAD") {
                    ""
                } else {
                    "ok"
                };
                let status = if message.line.starts_with("CONNECT") {
                    403
                } else {
                    202
                };
                log.lock().push(Heard::Request(message));
                let answer =
                    format!("HTTP/1.1 {status} As Said\r\nContent-Length: 2\r\n\r\n{body}");
                let _ = server.stream.write_all(answer.as_bytes()).await;
            }
            Err(Stop::Incomplete) => {
                if !matches!(server.stream.read_buf(&mut server.seen).await, Ok(1..)) {
                    return;
                }
            }
            Err(Stop::Wrong(why)) => {
                all.append(&mut server.seen);
                log.lock().push(Heard::Wrong(
                    why,
                    String::from_utf8_lossy(&all).into_owned(),
                ));
                let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
                let _ = server.stream.write_all(answer).await;
                return;
            }
        }
    }
}

fn bytes_of(template: &str) -> String {
    let length = SMUGGLED.len();
    template
        .replace('~', "\r\n")
        .replace("{S}", SMUGGLED)
        .replace("{L}", &length.to_string())
        .replace("{L+5}", &(length + 5).to_string())
        .replace("{H}", &format!("{length:x}"))
}

/// Says what is wrong with what was heard and answered, if anything is.
fn judge(bytes: &str, fate: Fate, heard: &[Heard], answer: &[u8]) -> Result<(), String> {
    let answers = answer
        .windows(7)
        .filter(|window| window == b"HTTP/1.")
        .count();
    let is_refusal =
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 5");
    match (fate, heard) {
        (_, []) if is_refusal && answers <= 1 => Ok(()),
        (One(body), [Heard::Request(request)])
            if request.body == body.as_bytes() && answers == 1 =>
        {
            Ok(())
        }
        (Opaque, [Heard::Wrong(_, all)]) if all == bytes => Ok(()),
        (_, [.., Heard::Wrong(why, _)]) => Err(why.clone()),
        _ => Err("neither refused nor as it may be".to_owned()),
    }
}

/// Sends each of [`REQUESTS`] and then another client's request.
async fn send_all(way: Way) {
    let Talk {
        mesh,
        entrance,
        mut servers,
        ..
    } = Talk::start(way).await;
    let log = Log::default();
    let listener = log.clone();
    tokio::spawn(async move {
        while let Some(server) = servers.recv().await {
            tokio::spawn(listen(server, listener.clone()));
        }
    });
    let mut faults = Vec::new();
    for (name, template, fate) in REQUESTS {
        let bytes = bytes_of(template);
        let mut client = Peer::connect(entrance).await;
        client.send_in_vain(&bytes).await;
        let _ = client.stream.shutdown().await;
        let (answer, _) = client.rest().await;
        let mut victim = Peer::connect(entrance).await;
        victim.send(VICTIM).await;
        let after = victim.response("GET").await;
        let mut heard = std::mem::take(&mut *log.lock());
        let last = heard.pop();
        let is_well = matches!(&last, Some(Heard::Request(request)) if request.line == "GET /victim HTTP/1.1");
        let verdict = judge(&bytes, *fate, &heard, &answer);
        if verdict.is_err() || !is_well || after.status() != 202 {
            faults.push(format!(
                "{name}: {fate:?}, {verdict:?}\n  sent {}\n  heard {heard:?}\n  answer {}\n  then {last:?} {after:?}",
                bytes.escape_debug(),
                answer.escape_ascii(),
            ));
        }
    }
    drop(mesh);
    assert!(
        faults.is_empty(),
        "{way:?}: {} faults\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[tokio::test]
async fn no_request_is_smuggled_through_two_proxies() {
    send_all(Way::Both).await;
}

#[tokio::test]
async fn no_request_is_smuggled_through_the_clients_proxy() {
    send_all(Way::Outbound).await;
}

#[tokio::test]
async fn no_request_is_smuggled_through_the_servers_proxy() {
    send_all(Way::Inbound).await;
}
