//! What people type to see the mesh: `edges`, and every form of `stat`.

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{Emojivoto, Namespace, Workload, beside_others, eventually, service};
use serde_json::Value;

#[test]
fn edges_and_stat_say_who_talks_to_whom() -> Result<()> {
    beside_others("edges", |namespace| {
        Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        edges_of_meshed_deployments(namespace)?;
        every_form_of_stat(namespace)
    })
}

#[test]
fn edges_of_unmeshed_clients_and_servers_have_a_reason() -> Result<()> {
    beside_others("edges-plain", |namespace| {
        Emojivoto::deploy(namespace, &["web", "voting"])?;
        eventually("both reasons", || {
            let edges = edges(namespace, &["deploy"])?;
            let has = |src: &str, dst: &str, reason: &str| {
                edges
                    .iter()
                    .any(|it| it["src"] == src && it["dst"] == dst && it["no_tls_reason"] == reason)
            };
            ensure!(has("", "web", "peer_sent_plaintext"), "{edges:#?}");
            ensure!(has("web", "emoji", "peer_not_meshed"), "{edges:#?}");
            Ok(())
        })?;
        namespace.kubectl(&["scale", "deployment", "vote-bot", "--replicas=0"])?;
        let from_unmeshed = |window: &str| -> Result<Vec<Value>> {
            let mut edges = edges(namespace, &["deploy", "-t", window])?;
            edges.retain(|it| it["src"] == "" && it["dst"] == "web");
            Ok(edges)
        };
        eventually("no plaintext from clients any more", || {
            let edges = from_unmeshed("20s")?;
            ensure!(edges.is_empty(), "{edges:#?}");
            Ok(())
        })?;
        ensure!(!from_unmeshed("10m")?.is_empty(), "it is forgotten");
        Ok(())
    })
}

#[test]
fn connections_without_requests_have_edges_after_they_have_closed() -> Result<()> {
    beside_others("edges-tcp", |namespace| {
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
        // Ends at once and is started again, later each time; its proxy stays.
        let args = ["tcp-client", "server:9000", "--banner", "--count=1"];
        let client = Workload::new("client", image, &args);
        namespace.apply_meshed(&client.deployment())?;
        eventually("an edge without requests", || {
            let edges = edges(namespace, &["deploy/server"])?;
            let mut between = edges
                .iter()
                .filter(|it| it["src"] == "client" && it["dst"] == "server");
            let secured = between.find(|it| it["secured"] == true);
            let edge = secured.with_context(|| format!("{edges:#?}"))?;
            ensure!(edge["responses"] == 0, "{edge:#}");
            ensure!(edge["connections"].as_u64() > Some(0), "{edge:#}");
            ensure!(edge["open_connections"] == 0, "{edge:#}");
            Ok(())
        })
    })
}

fn edges_of_meshed_deployments(namespace: &Namespace) -> Result<()> {
    eventually("three edges", || {
        let edges = edges(namespace, &["deploy"])?;
        for (src, dst) in [("vote-bot", "web"), ("web", "emoji"), ("web", "voting")] {
            let mut between = edges
                .iter()
                .filter(|it| it["src"] == src && it["dst"] == dst);
            let secured = between.find(|it| it["secured"] == true);
            let edge = secured.with_context(|| format!("{src} to {dst}: {edges:#?}"))?;
            for (key, name) in [("client_id", src), ("server_id", dst)] {
                let identity = edge[key].as_str().unwrap_or_default();
                let expected = format!("{name}.deployment.{}.", namespace.name);
                ensure!(identity.starts_with(&expected), "{edge:#}");
            }
            ensure!(edge["connections"].as_u64() > Some(0), "{edge:#}");
        }
        Ok(())
    })?;
    let table = linkerd(namespace, &["edges", "deploy"])?;
    ensure!(table.starts_with("SRC ") && table.contains('√'), "{table}");
    let wide = linkerd(namespace, &["edges", "po", "-o", "wide"])?;
    ensure!(
        wide.contains("CLIENT_ID") && wide.contains("vote-bot.deployment."),
        "{wide}"
    );
    let all = namespace
        .cluster
        .linkerd(&["edges", "ns", "-o", "json"], "")?;
    let all: Vec<Value> = serde_json::from_str(&all.ok()?)?;
    let within = |it: &Value| it["src"] == *namespace.name && it["dst"] == *namespace.name;
    ensure!(all.iter().any(within), "{all:#?}");
    Ok(())
}

fn every_form_of_stat(namespace: &Namespace) -> Result<()> {
    eventually("figures of each form", || {
        let names = |args: &[&str]| -> Result<Vec<String>> {
            let rows = namespace.stat(args)?;
            Ok(rows.into_iter().map(|row| row.name).collect())
        };
        ensure!(names(&["deploy", "web", "emoji"])? == ["emoji", "web"]);
        ensure!(names(&["deploy/web", "svc/web-svc"])? == ["web", "web-svc"]);
        ensure!(names(&["deploy,sts"])?.len() == 4);
        ensure!(names(&["deploy", "-l", "app=voting"])? == ["voting"]);
        ensure!(names(&["deploy", "-l", "app notin (voting,emoji)"])? == ["vote-bot", "web"]);
        for args in [
            &["svc/web-svc"][..],
            &["svc", "--from", "deploy/vote-bot"],
            &["deploy/web", "--to", "deploy/emoji"],
            &["deploy/web", "--to", "svc/emoji-svc"],
            &["deploy/web", "--from", "deploy/vote-bot", "-t", "5m"],
        ] {
            let rows = namespace.stat(args)?;
            let [row] = rows.as_slice() else {
                bail!("{args:?}: {rows:#?}");
            };
            ensure!(row.tls == Some(1.0), "{args:?}: {row:?}");
        }
        let wide = linkerd(
            namespace,
            &["stat", "deploy/web", "--to", "deploy/emoji", "-o", "wide"],
        )?;
        let bytes = wide.lines().last().and_then(|line| {
            let rate = line.split_whitespace().find(|cell| cell.ends_with("B/s"))?;
            rate.strip_suffix("B/s")?.parse::<f64>().ok()
        });
        ensure!(bytes > Some(0.0), "{wide}");
        Ok(())
    })?;
    for (args, words) in [
        (
            &["stat", "all,po"][..],
            "'all' cannot be asked for beside other resources",
        ),
        (
            &["stat", "all", "web"],
            "resource type 'all' has no objects with a name",
        ),
        (&["stat", "po,node"], "friendly name [node]"),
        (
            &["stat", "deploy/nobody"],
            "deployment.apps \"nobody\" not found",
        ),
        (
            &["stat", "deploy", "-l", "a=b c"],
            "is not a label selector",
        ),
        (
            &["edges", "svc"],
            "edges are between workloads, pods or namespaces",
        ),
        (
            &["edges", "deploy/nobody"],
            "deployment.apps \"nobody\" not found",
        ),
    ] {
        let args = [args, &["-n", &namespace.name]].concat();
        let output = namespace.cluster.linkerd(&args, "")?;
        ensure!(output.code == Some(1), "{args:?}: {output:?}");
        ensure!(output.stderr.contains(words), "{args:?}: {output:?}");
    }
    Ok(())
}

fn edges(namespace: &Namespace, args: &[&str]) -> Result<Vec<Value>> {
    let args = [&["edges"], args, &["-o", "json"]].concat();
    Ok(serde_json::from_str(&linkerd(namespace, &args)?)?)
}

fn linkerd(namespace: &Namespace, args: &[&str]) -> Result<String> {
    let args = [args, &["-n", &namespace.name]].concat();
    namespace.cluster.linkerd(&args, "")?.ok()
}
