//! Answers that two readers could take for different ones. Each becomes an error, a body that is
//! visibly broken, or one answer to the strictest reader; and the next request gets its own answer.

use tokio::io::AsyncWriteExt;

use crate::{
    message::{self, Message, Stop},
    talk::{End, Peer, Talk, Way, get},
};

/// What may become of a server's bytes. In each case they may become an error or a broken body.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Refused,
    /// One answer with this body.
    One(&'static str),
}
use Fate::{One, Refused};

/// What the bytes do, the method that they answer, the bytes, and their fate. `~` is an end of line,
/// `{S}` an answer for whoever comes next.
#[rustfmt::skip]
const RESPONSES: &[(&str, &str, &str, Fate)] = &[
    ("length and chunks", "GET", "HTTP/1.1 200 OK~Content-Length: 5~Transfer-Encoding: chunked~~0~~{S}", One("")),
    ("chunks and length", "GET", "HTTP/1.1 200 OK~Transfer-Encoding: chunked~Content-Length: 5~~2~ok~0~~", One("ok")),
    ("chunks in HTTP/1.0", "GET", "HTTP/1.0 200 OK~Transfer-Encoding: chunked~~2~ok~0~~", One("ok")),
    ("two equal lengths", "GET", "HTTP/1.1 200 OK~Content-Length: 2~Content-Length: 2~~ok", One("ok")),
    ("two lengths", "GET", "HTTP/1.1 200 OK~Content-Length: 2~Content-Length: 3~~ok!", Refused),
    ("two lengths in one line", "GET", "HTTP/1.1 200 OK~Content-Length: 2, 3~~ok!", Refused),
    ("length +2", "GET", "HTTP/1.1 200 OK~Content-Length: +2~~ok{S}", Refused),
    ("length 0x2", "GET", "HTTP/1.1 200 OK~Content-Length: 0x2~~ok{S}", Refused),
    ("length beyond 64 bits", "GET", "HTTP/1.1 200 OK~Content-Length: 18446744073709551616~~ok", Refused),
    ("length and a space before the colon", "GET", "HTTP/1.1 200 OK~Content-Length : 2~~ok{S}", Refused),
    ("bytes behind the body", "GET", "HTTP/1.1 200 OK~Content-Length: 2~~ok{S}", One("ok")),
    ("bytes behind the last chunk", "GET", "HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2~ok~0~~{S}", One("ok")),
    ("a body of an answer to HEAD", "HEAD", "HTTP/1.1 200 OK~Content-Length: {L}~~{S}", One("")),
    ("a body of 204", "GET", "HTTP/1.1 204 No Content~Content-Length: {L}~~{S}", One("")),
    ("chunks of 204", "GET", "HTTP/1.1 204 No Content~Transfer-Encoding: chunked~~0~~{S}", One("")),
    ("a body of 304", "GET", "HTTP/1.1 304 Not Modified~Content-Length: {L}~~{S}", One("")),
    ("a body of 103", "GET", "HTTP/1.1 103 Early Hints~Content-Length: 2~~HTTP/1.1 200 OK~Content-Length: 2~~ok", One("ok")),
    ("a chunk size of 0x2", "GET", "HTTP/1.1 200 OK~Transfer-Encoding: chunked~~0x2~ok~0~~", Refused),
    ("a chunk size that overflows", "GET", "HTTP/1.1 200 OK~Transfer-Encoding: chunked~~10000000000000002~ok~0~~", Refused),
    ("a chunk longer than its size", "GET", "HTTP/1.1 200 OK~Transfer-Encoding: chunked~~1~ok~0~~", Refused),
    ("a chunk with LF alone", "GET", "HTTP/1.1 200 OK~Transfer-Encoding: chunked~~2~ok\n0~~", Refused),
    ("NUL in a value", "GET", "HTTP/1.1 200 OK~X: a\0b~Content-Length: 2~~ok", Refused),
    ("CR alone in a value", "GET", "HTTP/1.1 200 OK~X: a\rSet-Cookie: b~Content-Length: 2~~ok", Refused),
    ("a folded line", "GET", "HTTP/1.1 200 OK~X: a~ Content-Length: 50~Content-Length: 2~~ok", Refused),
    ("a line without a colon", "GET", "HTTP/1.1 200 OK~X~Content-Length: 2~~ok", Refused),
    ("LF alone", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", One("ok")),
    ("HTTP/2.0", "GET", "HTTP/2.0 200 OK~Content-Length: 2~~ok", Refused),
    ("no version", "GET", "200 OK~Content-Length: 2~~ok", Refused),
    ("two digits", "GET", "HTTP/1.1 20 OK~Content-Length: 2~~ok", Refused),
    ("four digits", "GET", "HTTP/1.1 2000 OK~Content-Length: 2~~ok", Refused),
    ("what is not HTTP", "GET", "hello~~", Refused),
];

const NEXT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX: smuggled\r\n\r\nsmuggled!";

/// What a client gets until it has a final answer: that, or nothing where the answer is broken.
async fn answer(client: &mut Peer, method: &str) -> Result<Option<Message>, String> {
    let mut ended = None;
    loop {
        match message::response(&client.seen, method, ended == Some(End::Clean)) {
            Ok((message, n)) => {
                client.seen.drain(..n);
                if message.status() >= 200 || message.status() == 101 {
                    return Ok(Some(message));
                }
            }
            Err(Stop::Incomplete) if ended.is_some() => return Ok(None),
            Err(Stop::Incomplete) => ended = client.more().await,
            Err(Stop::Wrong(why)) => return Err(why),
        }
    }
}

/// Answers the first request with `bytes`, closes, and answers whatever comes on other connections.
async fn serve(mut server: Peer, bytes: String) {
    server.request().await;
    // The proxy may have enough of it.
    let _ = server.stream.write_all(bytes.as_bytes()).await;
    server.answer_with_paths().await;
}

async fn answer_all(way: Way) {
    let mut faults = Vec::new();
    for (name, method, template, fate) in RESPONSES {
        let mut talk = Talk::start(way).await;
        let mut client = talk.client().await;
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let server = talk.server().await;
        let bytes = template
            .replace('~', "\r\n")
            .replace("{S}", NEXT)
            .replace("{L}", &NEXT.len().to_string());
        let serving = tokio::spawn(serve(server, bytes));
        let first = answer(&mut client, method).await;
        let is_well = match (&first, fate) {
            (Ok(None), _) => true,
            (Ok(Some(message)), _) if message.status() >= 500 => true,
            (Ok(Some(message)), One(body)) => message.body == body.as_bytes(),
            (Ok(Some(_)), Refused) | (Err(_), _) => false,
        };
        // Whoever comes next has an answer of its own.
        let mut other = Peer::connect(talk.entrance).await;
        other.send(get("/next")).await;
        let serving_next = async {
            while let Some(server) = talk.servers.recv().await {
                tokio::spawn(server.answer_with_paths());
            }
        };
        let next = tokio::select! {
            next = answer(&mut other, "GET") => next,
            () = serving_next => Ok(None),
        };
        let is_next = matches!(&next, Ok(Some(next)) if next.body == b"/next");
        let is_alone = !matches!(first, Ok(Some(_))) || client.seen.is_empty();
        if !is_well || !is_alone || !is_next {
            faults.push(format!(
                "{name}: {fate:?}\n  first {first:?}\n  next {next:?}"
            ));
        }
        serving.abort();
    }
    assert!(
        faults.is_empty(),
        "{way:?}: {} faults\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[tokio::test]
async fn no_answer_is_smuggled_through_two_proxies() {
    answer_all(Way::Both).await;
}

#[tokio::test]
async fn no_answer_is_smuggled_through_the_clients_proxy() {
    answer_all(Way::Outbound).await;
}

#[tokio::test]
async fn no_answer_is_smuggled_through_the_servers_proxy() {
    answer_all(Way::Inbound).await;
}
