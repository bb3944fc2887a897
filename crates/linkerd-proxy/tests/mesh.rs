//! Two proxies of the mesh: every protocol arrives, encrypted, and is counted as it was.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::let_underscore_must_use,
    reason = "a peer may close at any time"
)]

mod common;

use bytes::Bytes;
use common::{Endpoint, PATIENCE, SERVICE, app, identity, mesh, wire};
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const SECRET: &str = "attack at dawn";

#[tokio::test]
async fn http1_goes_through_mutual_tls() {
    let app = app::http1(|_| async { Response::new(app::full(SECRET)) }).await;
    let mesh = mesh(app).await;
    let wire = wire::to(mesh.server.inbound).await;
    mesh.destination.set(
        SERVICE,
        &[Endpoint::meshed(wire.address, &identity("server"))],
    );

    let (status, body) = common::get(mesh.client.outbound, "/a").await;

    assert_eq!((status, body.as_str()), (200, SECRET));
    assert!(wire.bytes() > 1_000, "it went over the wire");
    assert!(
        !wire.carried(SECRET) && !wire.carried("GET /a"),
        "in the clear"
    );
    let outbound = [
        "response_total{authority=\"web.ns\",direction=\"outbound\",dst_namespace=\"ns\",dst_pod=",
        "dst_service=\"web\",tls=\"true\",classification=\"success\",status_code=\"200\"}",
    ];
    mesh.client.metric_reaches(&outbound, 1.0).await;
    let inbound = [
        "response_total{authority=\"web.ns\",direction=\"inbound\",tls=\"true\",classification=\"success\"",
    ];
    mesh.server.metric_reaches(&inbound, 1.0).await;
    mesh.server
        .metric_reaches(
            &["tcp_open_total{direction=\"inbound\",peer=\"src\",tls=\"true\"}"],
            1.0,
        )
        .await;
}

#[tokio::test]
async fn grpc_goes_through_mutual_tls_with_its_trailers() {
    let app = app::http2(|request: Request<hyper::body::Incoming>| async move {
        let sent = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(sent, Bytes::from_static(SECRET.as_bytes()));
        let mut response = Response::new(app::frames(&[SECRET, "second"], &[("grpc-status", "7")]));
        response
            .headers_mut()
            .insert("content-type", "application/grpc".parse().unwrap());
        response
    })
    .await;
    let mesh = mesh(app).await;
    let wire = wire::to(mesh.server.inbound).await;
    mesh.destination.set(
        SERVICE,
        &[Endpoint::meshed(wire.address, &identity("server"))],
    );

    let mut client = app::http2_client(mesh.client.outbound).await;
    let request = Request::post("http://voting.ns:8080/Vote")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(app::full(SECRET))
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "7");
    assert_eq!(collected.to_bytes(), format!("{SECRET}second"));
    assert!(wire.bytes() > 1_000 && !wire.carried(SECRET));
    let parts = [
        "response_total{authority=\"voting.ns:8080\"",
        "tls=\"true\",classification=\"failure\",status_code=\"200\",grpc_status_code=\"7\"}",
    ];
    mesh.client.metric_reaches(&parts, 1.0).await;
    mesh.server.metric_reaches(&parts, 1.0).await;
}

#[tokio::test]
async fn other_protocols_go_through_mutual_tls_byte_by_byte() {
    let mesh = mesh(app::echo().await).await;
    let wire = wire::to(mesh.server.inbound).await;
    mesh.destination.set(
        SERVICE,
        &[Endpoint::meshed(wire.address, &identity("server"))],
    );

    let mut client = TcpStream::connect(mesh.client.outbound).await.unwrap();
    let sent: Vec<u8> = SECRET.bytes().cycle().take(300_000).collect();
    let (mut read, mut write) = client.split();
    let exchange = async {
        let mut answer = Vec::new();
        let (written, received) = tokio::join!(
            async {
                write.write_all(b"\0\x01").await?;
                write.write_all(&sent).await?;
                write.shutdown().await
            },
            read.read_to_end(&mut answer)
        );
        written.unwrap();
        received.unwrap();
        answer
    };
    let answer = timeout(PATIENCE, exchange).await.unwrap();
    assert_eq!(answer.len(), sent.len() + 2);
    assert_eq!(answer[2..], sent);
    assert!(wire.bytes() > sent.len() && !wire.carried(SECRET));
    let parts = [
        "tcp_write_bytes_total{direction=\"outbound\"",
        "peer=\"dst\",tls=\"true\"}",
    ];
    mesh.client.metric_reaches(&parts, 300_002.0).await;
}
