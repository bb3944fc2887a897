//! What passes between two nodes is TLS and holds nothing of the application; without the mesh it
//! does, which shows that the capture would have seen it.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{
    Namespace, Sniffer, Streams, Workload, beside_others, eventually, eventually_within, is_tls,
    report, service,
};

/// Which side of the pair has a proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mesh {
    Both,
    Neither,
}

/// A client on one node that says `marker` to a server on another, or is told it.
struct Conversation<'a> {
    server_args: &'a [&'a str],
    port: u16,
    client_args: &'a [&'a str],
    /// What the application says in plaintext.
    marker: &'a str,
}

const HTTP_MARKER: &str = "marker-of-an-http-header-5c9e71";
const TCP_MARKER: &str = "marker-of-a-line-over-tcp-f03b2a";
/// Within the list of emoji, which is a gRPC answer.
const GRPC_MARKER: &str = ":doughnut:";

#[test]
fn http_between_nodes_is_tls() -> Result<()> {
    beside_others("wire-http", |namespace| encrypted(namespace, &http()))
}

#[test]
fn http_without_the_mesh_is_readable() -> Result<()> {
    beside_others("wire-http-plain", |namespace| readable(namespace, &http()))
}

#[test]
fn grpc_between_nodes_is_tls() -> Result<()> {
    beside_others("wire-grpc", |namespace| encrypted(namespace, &grpc()))
}

#[test]
fn grpc_without_the_mesh_is_readable() -> Result<()> {
    beside_others("wire-grpc-plain", |namespace| readable(namespace, &grpc()))
}

#[test]
fn raw_tcp_between_nodes_is_tls() -> Result<()> {
    beside_others("wire-tcp", |namespace| encrypted(namespace, &tcp()))
}

#[test]
fn raw_tcp_without_the_mesh_is_readable() -> Result<()> {
    beside_others("wire-tcp-plain", |namespace| readable(namespace, &tcp()))
}

fn http() -> Conversation<'static> {
    Conversation {
        // Without its services it answers 503, which is HTTP as well.
        server_args: &[
            "web",
            "--emoji-host",
            "127.0.0.1:1",
            "--voting-host",
            "127.0.0.1:1",
        ],
        port: 8080,
        client_args: &[
            "load",
            "http://server:8080/api/list",
            "--header",
            "x-marker: marker-of-an-http-header-5c9e71",
        ],
        marker: HTTP_MARKER,
    }
}

fn grpc() -> Conversation<'static> {
    Conversation {
        server_args: &["emoji"],
        port: 8080,
        client_args: &[
            "web",
            "--emoji-host",
            "server:8080",
            "--voting-host",
            "server:8080",
        ],
        marker: GRPC_MARKER,
    }
}

fn tcp() -> Conversation<'static> {
    Conversation {
        server_args: &["tcp-server", "--addr", "0.0.0.0:9000"],
        port: 9000,
        client_args: &[
            "tcp-client",
            "server:9000",
            "--send",
            TCP_MARKER,
            "--retry-for-ms",
            "30000",
        ],
        marker: TCP_MARKER,
    }
}

fn encrypted(namespace: &Namespace, conversation: &Conversation<'_>) -> Result<()> {
    let Some(streams) = captured(namespace, conversation, Mesh::Both)? else {
        return Ok(());
    };
    ensure!(
        !streams.contain(conversation.marker.as_bytes()),
        "the marker was readable"
    );
    let server = streams.at(namespace.pod_ip("server")?, conversation.port);
    ensure!(server.len() >= 2, "no whole connection was captured");
    for bytes in &server {
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
        ensure!(is_tls(bytes), "not TLS: {head:?}");
    }
    let bytes: usize = server.iter().map(Vec::len).sum();
    report(&format!(
        "  {} streams, {bytes} bytes, all of them TLS records",
        server.len()
    ));
    Ok(())
}

fn readable(namespace: &Namespace, conversation: &Conversation<'_>) -> Result<()> {
    let Some(streams) = captured(namespace, conversation, Mesh::Neither)? else {
        return Ok(());
    };
    ensure!(
        streams.contain(conversation.marker.as_bytes()),
        "the marker was not captured"
    );
    Ok(())
}

/// What passed between the nodes from before the client's start until it was answered often enough.
fn captured(
    namespace: &Namespace,
    conversation: &Conversation<'_>,
    mesh: Mesh,
) -> Result<Option<Streams>> {
    let Conversation {
        server_args,
        port,
        client_args,
        marker: _,
    } = *conversation;
    let Some([client_node, server_node]) = namespace.cluster.two_local_nodes()? else {
        report("skipped: the cluster has no two nodes on this machine");
        return Ok(None);
    };
    let image = &namespace.cluster.image;
    let apply = |manifest: &str| match mesh {
        Mesh::Both => namespace.apply_meshed(manifest),
        Mesh::Neither => namespace.apply(manifest),
    };
    namespace.apply(&service("server", "server", port, port))?;
    let server = Workload {
        port: Some(port),
        node: Some(&server_node),
        ..Workload::new("server", image, server_args)
    };
    apply(&server.deployment())?;
    namespace.wait_until_ready(&["server"])?;
    let sniffer = Sniffer::start(env!("CARGO_BIN_EXE_capture"), namespace.pod_ip("server")?)?;
    let client = Workload {
        node: Some(&client_node),
        ..Workload::new("client", image, client_args)
    };
    apply(&client.deployment())?;
    namespace.wait_until_ready(&["client"])?;
    converse(namespace, client_args)?;
    sniffer.finish().map(Some)
}

/// Waits until client and server have talked for a while.
fn converse(namespace: &Namespace, client_args: &[&str]) -> Result<()> {
    if client_args.first() == Some(&"web") {
        // The front end asks only when it is asked; the API server does it, not a pod.
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}:8080/proxy/api/list",
            namespace.name,
            namespace.pod("client")?
        );
        for _ in 0..20 {
            let list = eventually_within(Duration::from_secs(20), "the list comes", || {
                namespace.cluster.kubectl(&["get", "--raw", &path])
            })?;
            ensure!(list.contains(GRPC_MARKER), "{list}");
        }
        return Ok(());
    }
    eventually("the client has had answers", || {
        let lines = namespace
            .logs("client")?
            .lines()
            .filter(|line| line.starts_with('{'))
            .count();
        ensure!(lines > 5, "{lines} lines");
        Ok(())
    })
}
