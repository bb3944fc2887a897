//! Envoy with a static configuration that does the same work: HTTP/2 between the sidecars, TLS 1.3
//! with a certificate on both sides. No access log, no discovery.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Plane, Setup, ask_admin};
use crate::bench::comparison::identity;
use crate::bench::namespaces::Redirect;
use crate::bench::ports::{GRPC, HTTP};
use crate::bench::side::{SIDES, Side};

const ADMIN: u16 = 9901;
const OUTBOUND: u16 = 15001;
const INBOUND: u16 = 15006;
/// What Envoy's own limits are raised to; they are 1024 unless set.
const LIMIT: u32 = 100_000;
/// The protocol in ALPN of connections that are not parsed.
const OPAQUE_PROTOCOL: &str = "mesh-tcp";

pub(in crate::bench) struct Envoy {
    program: PathBuf,
    redirect: Redirect,
}

impl Envoy {
    pub(in crate::bench) fn new(program: PathBuf) -> Self {
        Self {
            program,
            redirect: Redirect {
                outbound: OUTBOUND,
                inbound: INBOUND,
                inbound_exempt: Vec::new(),
            },
        }
    }
}

impl Plane for Envoy {
    fn name(&self) -> &str {
        "envoy"
    }

    fn note(&self) -> String {
        format!(
            "Envoy {}, static configuration, HTTP/2 between the sidecars, concurrency 1",
            crate::bench::programs::ENVOY_VERSION
        )
    }

    fn redirect(&self) -> Option<&Redirect> {
        Some(&self.redirect)
    }

    fn program(&self) -> Option<&Path> {
        Some(&self.program)
    }

    fn prepare(&self, setup: &Setup) -> Result<()> {
        for side in SIDES {
            let path = config_path(side, setup);
            let config = match side {
                Side::Client => outbound(setup),
                Side::Server => inbound(setup),
            };
            fs::write(&path, serde_json::to_vec_pretty(&config)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn control(&self, _: Side, _: &Setup) -> Option<Command> {
        None
    }

    fn sidecar(&self, side: Side, setup: &Setup) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.env_clear().arg("-c").arg(config_path(side, setup));
        command.args(["--concurrency", "1", "-l", "error", "--disable-hot-restart"]);
        Ok(command)
    }

    fn is_ready(&self, side: Side, _: &Setup) -> Result<bool> {
        Ok(ask_admin(side, ADMIN, "/ready")?.is_some())
    }

    fn evidence(&self, side: Side, _: &Setup) -> Result<String> {
        let stats = ask_admin(side, ADMIN, "/stats?filter=ssl&usedonly")?;
        let stats = stats.context("/stats does not answer")?;
        let kinds = ["handshake", "versions", "ciphers", "curves"];
        let lines = stats.lines().filter(|line| {
            kinds
                .iter()
                .any(|kind| line.contains(&format!(".ssl.{kind}")))
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }
}

fn config_path(side: Side, setup: &Setup) -> PathBuf {
    setup.folder.join(format!("envoy-{}.json", side.name()))
}

/// The client's side: plaintext in, TLS out. Ports choose the protocol, as a control plane would.
fn outbound(setup: &Setup) -> Value {
    let tls = |protocol| client_tls(setup, protocol);
    config(
        "127.0.0.1",
        OUTBOUND,
        [
            (Some(HTTP), http("http"), None),
            (Some(GRPC), http("http"), None),
            (None, tcp("tcp"), None),
        ],
        vec![
            cluster("http", http2(), Some(tls("h2"))),
            cluster("tcp", None, Some(tls(OPAQUE_PROTOCOL))),
        ],
    )
}

/// The server's side: TLS in, plaintext out.
fn inbound(setup: &Setup) -> Value {
    let tls = |protocol| Some(server_tls(setup, protocol));
    config(
        "0.0.0.0",
        INBOUND,
        [
            (Some(HTTP), http("http1"), tls("h2")),
            (Some(GRPC), http("http2"), tls("h2")),
            (None, tcp("tcp"), tls(OPAQUE_PROTOCOL)),
        ],
        vec![
            cluster("http1", http1(), None),
            cluster("http2", http2(), None),
            cluster("tcp", None, None),
        ],
    )
}

type Chain = (Option<u16>, Value, Option<Value>);

fn config(address: &str, port: u16, chains: [Chain; 3], clusters: Vec<Value>) -> Value {
    let chains = chains.map(|(port, filter, tls)| {
        let mut chain = json!({ "filters": [filter] });
        if let Some(port) = port {
            chain["filter_chain_match"] = json!({ "destination_port": port });
        }
        if let Some(tls) = tls {
            chain["transport_socket"] = tls;
        }
        chain
    });
    let original_destination = typed(
        "envoy.filters.listener.original_dst",
        "extensions.filters.listener.original_dst.v3.OriginalDst",
        json!({}),
    );
    json!({
        "admin": { "address": socket_address("127.0.0.1", ADMIN) },
        "static_resources": {
            "listeners": [{
                "name": "main",
                "address": socket_address(address, port),
                "listener_filters": [original_destination],
                "filter_chains": chains,
            }],
            "clusters": clusters,
        },
    })
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.{kind}"));
    json!({ "name": name, "typed_config": config })
}

fn http(cluster: &str) -> Value {
    let router = typed(
        "envoy.filters.http.router",
        "extensions.filters.http.router.v3.Router",
        json!({}),
    );
    let route =
        json!({ "match": { "prefix": "/" }, "route": { "cluster": cluster, "timeout": "0s" } });
    typed(
        "http",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "http",
            "codec_type": "AUTO",
            "route_config": {
                "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }],
            },
            "http_filters": [router],
        }),
    )
}

fn tcp(cluster: &str) -> Value {
    typed(
        "tcp",
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({ "stat_prefix": "tcp", "cluster": cluster }),
    )
}

fn cluster(name: &str, protocol: Option<Value>, tls: Option<Value>) -> Value {
    let limits = json!({
        "max_connections": LIMIT, "max_pending_requests": LIMIT, "max_requests": LIMIT,
    });
    let mut cluster = json!({
        "name": name,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "1s",
        "circuit_breakers": { "thresholds": [limits] },
    });
    if let Some(protocol) = protocol {
        const OPTIONS: &str = "extensions.upstreams.http.v3.HttpProtocolOptions";
        let options = typed("", OPTIONS, json!({ "explicit_http_config": protocol }));
        cluster["typed_extension_protocol_options"] =
            json!({ format!("envoy.{OPTIONS}"): options["typed_config"] });
    }
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls;
    }
    cluster
}

fn http1() -> Option<Value> {
    Some(json!({ "http_protocol_options": {} }))
}

fn http2() -> Option<Value> {
    Some(json!({ "http2_protocol_options": {} }))
}

fn client_tls(setup: &Setup, protocol: &str) -> Value {
    typed(
        "tls",
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        json!({
            "sni": identity(Side::Server).as_str(),
            "common_tls_context": tls_context(setup, Side::Client, protocol),
        }),
    )
}

fn server_tls(setup: &Setup, protocol: &str) -> Value {
    typed(
        "tls",
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        json!({
            "require_client_certificate": true,
            "common_tls_context": tls_context(setup, Side::Server, protocol),
        }),
    )
}

fn tls_context(setup: &Setup, side: Side, protocol: &str) -> Value {
    let peer = match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    };
    json!({
        "alpn_protocols": [protocol],
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [{
            "certificate_chain": { "filename": setup.certificate_file(side, "tls.crt") },
            "private_key": { "filename": setup.certificate_file(side, "tls.key") },
        }],
        "validation_context": {
            "trusted_ca": { "filename": setup.trust_anchors() },
            "match_typed_subject_alt_names": [
                { "san_type": "DNS", "matcher": { "exact": identity(peer).as_str() } },
            ],
        },
    })
}
