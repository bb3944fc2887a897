//! HTTP/1: versions, connections, heads.

use crate::{
    message::Message,
    talk::{End, OK, Peer, Talk, Way, get, on_each_way, pause},
};

/// Sends a request with `headers`, has it answered, and returns it as the server saw it.
async fn sent((client, server): &mut (Peer, Peer), headers: impl AsRef<[u8]>) -> Message {
    let head = [
        b"GET /a HTTP/1.1\r\nHost: web.ns\r\n",
        headers.as_ref(),
        b"\r\n",
    ]
    .concat();
    client.send(head).await;
    let request = server.request().await;
    server.send(OK).await;
    assert_eq!(client.response("GET").await.body, b"ok");
    request
}

/// Answers a request with `response`, and returns the answer as the client saw it.
async fn answered((client, server): &mut (Peer, Peer), response: impl AsRef<[u8]>) -> Message {
    client.send(get("/")).await;
    server.request().await;
    server.send(response).await;
    client.response("GET").await
}

/// Headers with the repeated ones put together: the order between them is nobody's business.
fn grouped(headers: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let mut grouped: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, value) in headers {
        let same = |other: &(String, _)| other.0.eq_ignore_ascii_case(name);
        let at = grouped.iter().rposition(same);
        grouped.insert(
            at.map_or(grouped.len(), |at| at + 1),
            (name.clone(), value.clone()),
        );
    }
    grouped
}

fn fields(pairs: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
        .collect()
}

#[tokio::test]
async fn http_1_0_needs_no_host_and_ends_with_its_answer() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.open("GET /old HTTP/1.0\r\n\r\n").await;
        let request = server.request().await;
        assert!(request.line.starts_with("GET /old HTTP/1."), "{request:?}");
        server
            .send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        assert_eq!(client.response("GET").await.body, b"ok");
        client.ends().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_ends_after_http_1_0_costs_nobody_a_request() {
    on_each_way(async |mut talk| {
        let (mut old, mut server) = talk.open("GET /old HTTP/1.0\r\n\r\n").await;
        server.request().await;
        // One that does not tell that it will end, as is its right.
        server.send(OK).await;
        assert_eq!(old.response("GET").await.body, b"ok");
        assert_eq!(server.rest().await, (Vec::new(), End::Clean));
        let (_client, mut server) = talk.open(get("/new")).await;
        assert_eq!(server.request().await.line, "GET /new HTTP/1.1");
    })
    .await;
}

#[tokio::test]
async fn http_1_0_with_keep_alive_is_told_whether_its_connection_stays() {
    on_each_way(async |mut talk| {
        let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        let (mut client, mut server) = talk.open(request).await;
        server.request().await;
        // As servers of today answer: only the header says that the connection stays.
        let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
        server.send(head).await;
        let response = client.response("GET").await;
        assert_eq!(response.body, b"ok");
        let connection = response.value("connection").unwrap_or_default();
        if !connection.eq_ignore_ascii_case("keep-alive") {
            return client.ends().await;
        }
        client.send(get("/next")).await;
        let next = talk.request(&mut server).await;
        assert_eq!(next.line, "GET /next HTTP/1.1");
    })
    .await;
}

#[tokio::test]
async fn requests_one_after_the_other_share_both_connections() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.open(get("/1")).await;
        for n in 1..=3 {
            let path = format!("/{n}");
            assert_eq!(server.request().await.line, format!("GET {path} HTTP/1.1"));
            server.send(OK).await;
            assert_eq!(client.response("GET").await.body, b"ok");
            client.send(get(&format!("/{}", n + 1))).await;
        }
    })
    .await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_although_the_first_is_slow() {
    on_each_way(async |mut talk| {
        let pipeline = ["/1", "/2", "/3"].map(get).concat();
        let (mut client, mut server) = talk.open(pipeline).await;
        assert_eq!(server.request().await.line, "GET /1 HTTP/1.1");
        pause().await;
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n/1")
            .await;
        tokio::spawn(server.answer_with_paths());
        for path in ["/1", "/2", "/3"] {
            assert_eq!(client.response("GET").await.body, path.as_bytes());
        }
    })
    .await;
}

#[tokio::test]
async fn a_pipeline_may_mix_bodies_and_none() {
    on_each_way(async |mut talk| {
        let pipeline = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
            POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n\
            HEAD /3 HTTP/1.1\r\nHost: a\r\n\r\n\
            GET /4 HTTP/1.1\r\nHost: a\r\n\r\n";
        let (mut client, mut server) = talk.open(pipeline).await;
        for (line, body) in [
            ("POST /1", "abc"),
            ("POST /2", "x"),
            ("HEAD /3", ""),
            ("GET /4", ""),
        ] {
            let request = server.request().await;
            assert_eq!(request.line, format!("{line} HTTP/1.1"));
            assert_eq!(request.body, body.as_bytes());
            let body = if line.starts_with("HEAD") { "" } else { "ok" };
            server
                .send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}"
                ))
                .await;
        }
        for (method, body) in [("POST", "ok"), ("POST", "ok"), ("HEAD", ""), ("GET", "ok")] {
            assert_eq!(client.response(method).await.body, body.as_bytes());
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_says_close_is_closed_and_the_server_is_kept() {
    on_each_way(async |mut talk| {
        let close = "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let (mut client, mut server) = talk.open(close).await;
        assert!(!server.request().await.closes());
        server.send(OK).await;
        let response = client.response("GET").await;
        assert!(response.closes(), "{response:?}");
        client.ends().await;
        let mut next = talk.client().await;
        next.send(get("/2")).await;
        assert_eq!(server.request().await.line, "GET /2 HTTP/1.1");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_says_close_is_not_used_again_and_the_client_is_kept() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.open(get("/1")).await;
        server.request().await;
        server
            .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            .await;
        let response = client.response("GET").await;
        assert_eq!((&response.body[..], response.closes()), (&b"ok"[..], false));
        client.send(get("/2")).await;
        let mut other = talk.server().await;
        assert_eq!(other.request().await.line, "GET /2 HTTP/1.1");
        other.send(OK).await;
        assert_eq!(client.response("GET").await.body, b"ok");
    })
    .await;
}

#[tokio::test]
async fn targets_go_on_as_they_are() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.pair().await;
        for line in [
            "OPTIONS * HTTP/1.1",
            "GET http://other.ns:8080/a?b HTTP/1.1",
            "GET /a%2Fb//c/../d;e=f?g=%zz&h=[i] HTTP/1.1",
            "GET /? HTTP/1.1",
            "PURGE /cache HTTP/1.1",
            "M-SEARCH * HTTP/1.1",
            "get /lower HTTP/1.1",
        ] {
            client.send(format!("{line}\r\nHost: web.ns\r\n\r\n")).await;
            let request = server.request().await;
            assert_eq!(request.line, line);
            assert_eq!(request.value("host"), Some("web.ns"));
            server.send(OK).await;
            assert_eq!(client.response("GET").await.status(), 200);
        }
    })
    .await;
}

#[tokio::test]
async fn credentials_and_endless_names_are_no_labels() {
    on_each_way(async |mut talk| {
        let request = "GET http://me:secret@web.ns/ HTTP/1.1\r\nHost: web.ns\r\n\r\n";
        let (mut client, mut server) = talk.open(request).await;
        let (line, _) = request.split_once("\r\n").unwrap();
        assert_eq!(server.request().await.line, line);
        server.send(OK).await;
        client.response("GET").await;
        let long = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(50_000));
        client.send(long).await;
        talk.request(&mut server).await;
        server.send(OK).await;
        client.response("GET").await;
        let proxy = match talk.way {
            Way::Inbound => &talk.mesh.server,
            Way::Both | Way::Outbound => &talk.mesh.client,
        };
        let counted = |authority| ["request_total{", authority];
        proxy
            .metric_reaches(&counted("authority=\"web.ns\""), 1.0)
            .await;
        proxy
            .metric_reaches(&counted("authority=\"other\""), 1.0)
            .await;
    })
    .await;
}

#[tokio::test]
async fn case_and_order_and_unusual_bytes_of_headers_are_kept() {
    let wanted: [(&str, &[u8]); 10] = [
        ("Host", b"web.ns"),
        ("X-CaSe", b"KePt"),
        ("x-lower", b"1"),
        ("X-UPPER", b"2"),
        ("Z-First", b"z"),
        ("A-Second", b"a"),
        ("!#$%&'*+-.^_`|~", b"every character of a token"),
        ("X-Empty", b""),
        ("X-Tab", b"a\tb"),
        ("X-Octets", b"\xe4\xff\x80 caf\xc3\xa9"),
    ];
    let lines: Vec<u8> = wanted[1..]
        .iter()
        .flat_map(|(name, value)| [name.as_bytes(), b": ", value, b"\r\n"].concat())
        .collect();
    on_each_way(async |mut talk| {
        let mut pair = talk.pair().await;
        let request = sent(&mut pair, &lines).await;
        assert_eq!(request.headers, fields(&wanted));
        let head = [
            b"HTTP/1.1 200 OK\r\n",
            &lines[..],
            b"Content-Length: 0\r\n\r\n",
        ]
        .concat();
        let response = answered(&mut pair, head).await;
        assert_eq!(response.headers[..9], fields(&wanted)[1..]);
    })
    .await;
}

#[tokio::test]
async fn repeated_headers_stay_separate_and_in_order() {
    on_each_way(async |mut talk| {
        let mut pair = talk.pair().await;
        let lines = "Cookie: a=1\r\nX-Id: 7\r\nCookie: b=2\r\nAccept: x, y\r\nAccept: z\r\nCookie: a=3\r\n";
        let request = sent(&mut pair, lines).await;
        let expected = fields(&[
            ("Host", b"web.ns"),
            ("Cookie", b"a=1"),
            ("Cookie", b"b=2"),
            ("Cookie", b"a=3"),
            ("X-Id", b"7"),
            ("Accept", b"x, y"),
            ("Accept", b"z"),
        ]);
        assert_eq!(grouped(&request.headers), expected);
        let head = "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nContent-Length: 0\r\nSet-Cookie: b=2, c\r\n\r\n";
        let response = answered(&mut pair, head).await;
        let cookies: Vec<_> = response.values("set-cookie").collect();
        assert_eq!(cookies, [&b"a=1; Path=/"[..], b"b=2, c"]);
    })
    .await;
}

#[tokio::test]
async fn what_belongs_to_one_connection_or_to_the_proxies_stays_behind() {
    on_each_way(async |mut talk| {
        let mut pair = talk.pair().await;
        let lines = "Connection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
            Proxy-Connection: keep-alive\r\nl5d-client-id: somebody\r\nX-Kept: 2\r\n";
        let request = sent(&mut pair, lines).await;
        assert_eq!(
            request.headers,
            fields(&[("Host", b"web.ns"), ("X-Kept", b"2")])
        );
        let head = "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
            l5d-server-id: somebody\r\nX-Kept: 2\r\nContent-Length: 0\r\n\r\n";
        let response = answered(&mut pair, head).await;
        let kept = fields(&[("X-Kept", b"2"), ("Content-Length", b"0")]);
        assert_eq!(response.headers, kept);
    })
    .await;
}

#[tokio::test]
async fn white_space_around_values_is_not_part_of_them() {
    on_each_way(async |mut talk| {
        let mut pair = talk.pair().await;
        let request = sent(&mut pair, "X-A:1\r\nX-B:  2 \t \r\nX-C:\t\r\n").await;
        let expected = [
            ("Host", &b"web.ns"[..]),
            ("X-A", b"1"),
            ("X-B", b"2"),
            ("X-C", b""),
        ];
        assert_eq!(request.headers, fields(&expected));
    })
    .await;
}

#[tokio::test]
async fn a_status_goes_on_with_its_words() {
    on_each_way(async |mut talk| {
        let mut pair = talk.pair().await;
        for line in ["200 Fine, thanks", "299 Odd", "404 Not Found", "599 Beyond"] {
            let response = format!("HTTP/1.1 {line}\r\nContent-Length: 1\r\n\r\nx");
            let seen = answered(&mut pair, response).await;
            assert_eq!(seen.line, format!("HTTP/1.1 {line}"));
        }
        let seen = answered(&mut pair, "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(seen.status(), 200);
    })
    .await;
}

#[tokio::test]
async fn empty_lines_before_a_request_are_skipped() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.open(["\r\n", &get("/1")].concat()).await;
        tokio::spawn(async move {
            server.request().await;
            server.send(OK).await;
            server.answer_with_paths().await
        });
        assert_eq!(client.response("GET").await.body, b"ok");
        client.send(["\r\n\r\n", &get("/2")].concat()).await;
        assert_eq!(client.response("GET").await.body, b"/2");
        for byte in ["\r\n\n\r\n", &get("/3")].concat().bytes() {
            client.send([byte]).await;
        }
        assert_eq!(client.response("GET").await.body, b"/3");
    })
    .await;
}

#[tokio::test]
async fn heads_may_be_long_and_have_many_lines() {
    on_each_way(async |mut talk| {
        let mut pair = talk.pair().await;
        let cookie = "c".repeat(60_000);
        let request = sent(&mut pair, format!("Cookie: {cookie}\r\n")).await;
        assert_eq!(request.value("cookie"), Some(&*cookie));
        let head = format!("HTTP/1.1 200 OK\r\nX-Long: {cookie}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(
            answered(&mut pair, head).await.value("x-long"),
            Some(&*cookie)
        );

        let lines: String = (0..90).map(|n| format!("X-{n}: {n}\r\n")).collect();
        assert_eq!(sent(&mut pair, &lines).await.headers.len(), 91);
        let head = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
        assert_eq!(answered(&mut pair, head).await.headers.len(), 91);
    })
    .await;
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_refused_and_goes_nowhere() {
    on_each_way(async |talk| {
        let mut client = talk.client().await;
        let long = "c".repeat(200_000);
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {long}\r\n\r\n");
        client.send_in_vain(head).await;
        let response = client.response("GET").await;
        assert_eq!(response.status(), 431, "{response:?}");
        let (rest, _) = client.rest().await;
        assert!(rest.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_response_head_beyond_the_limit_becomes_an_error() {
    on_each_way(async |mut talk| {
        let (mut client, mut server) = talk.open(get("/")).await;
        server.request().await;
        let long = "c".repeat(200_000);
        server
            .send_in_vain(format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n"))
            .await;
        let response = client.response("GET").await;
        assert_eq!(response.status(), 502, "{:?}", response.line);
    })
    .await;
}

#[tokio::test]
async fn a_first_line_longer_than_detection_reads_arrives_as_it_is() {
    for way in [Way::Both, Way::Outbound, Way::Inbound] {
        let mut talk = Talk::start(way).await;
        let path = "/".repeat(20_000);
        let (mut client, mut server) = talk.open(get(&path)).await;
        server.expect(get(&path)).await;
        server.send(OK).await;
        client.expect(OK).await;
        client.finish().await;
        assert_eq!(server.rest().await, (Vec::new(), End::Clean));
    }
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte() {
    on_each_way(async |mut talk| {
        let mut client = talk.client().await;
        for byte in "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi".bytes() {
            client.send([byte]).await;
        }
        let mut server = talk.server().await;
        assert_eq!(server.request().await.body, b"hi");
        for byte in OK.bytes() {
            server.send([byte]).await;
        }
        assert_eq!(client.response("POST").await.body, b"ok");
    })
    .await;
}
