//! A protocol in which the server speaks first is not held up by protocol detection.

use anyhow::{Context as _, Result, ensure};
use e2e::{Workload, eventually, in_namespace, report, service};
use serde_json::Value;

/// A proxy that waited for the client would wait for seconds; the way itself takes milliseconds.
const BANNER_MS_MAX: u64 = 1000;

#[test]
fn a_banner_comes_through_mutual_tls_at_once() -> Result<()> {
    in_namespace("banner", |namespace| {
        let image = &namespace.cluster.image;
        let args = [
            "tcp-server",
            "--addr",
            "0.0.0.0:9000",
            "--banner",
            "220 ready",
        ];
        let server = Workload {
            port: Some(9000),
            ..Workload::new("server", image, &args)
        };
        namespace.apply(&service("server", "server", 9000, 9000))?;
        namespace.apply_meshed(&server.deployment())?;
        namespace.wait_until_ready(&["server"])?;
        let args = [
            "tcp-client",
            "server:9000",
            "--banner",
            "--retry-for-ms",
            "30000",
        ];
        let client = Workload::new("client", image, &args);
        namespace.apply_meshed(&client.deployment())?;
        let banner: Value = eventually("the banner comes", || {
            let logs = namespace.logs("client")?;
            let line = logs
                .lines()
                .find(|line| line.contains("banner_ms"))
                .context("no banner")?;
            Ok(serde_json::from_str(line)?)
        })?;
        report(&format!("  {banner}"));
        ensure!(banner["banner"] == "220 ready", "{banner}");
        ensure!(
            banner["banner_ms"].as_u64() < Some(BANNER_MS_MAX),
            "{banner}"
        );
        let metrics = namespace.proxy_metrics("server")?;
        let encrypted = metrics.lines().any(|line| {
            line.starts_with("tcp_open_total{")
                && line.contains("peer=\"src\"")
                && line.contains("direction=\"inbound\"")
                && line.contains(",tls=\"true\"")
        });
        ensure!(encrypted, "no connection over TLS:\n{metrics}");
        Ok(())
    })
}
