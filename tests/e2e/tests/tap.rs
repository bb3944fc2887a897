//! `linkerd tap` shows the requests and connections that pass, with what happened to TLS, to whoever has the
//! right.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Context as _, Result, ensure};
use e2e::{Emojivoto, Namespace, Terminal, beside_others, deployment, eventually, find, service};
use serde_json::{Value, json};

/// The bot sends two requests a second through two hops; this many events take some seconds.
const EVENTS: usize = 40;

#[test]
fn requests_are_seen_with_mutual_tls_names_and_filters() -> Result<()> {
    beside_others("tap", |namespace| {
        let app = Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        eventually("TLS between all of them", || {
            let rows = namespace.stat(&["authority"])?;
            for (service, port) in [("emoji-svc", 8080), ("web-svc", 80)] {
                let row = find(&rows, &app.authority(service, port))?;
                ensure!(row.tls > Some(0.9999), "{row:?}");
            }
            Ok(())
        })?;
        let everything = events(namespace, &["deploy/web"], EVENTS)?;
        for direction in ["INBOUND", "OUTBOUND"] {
            let seen = everything
                .iter()
                .filter(|it| it["proxyDirection"] == direction);
            let seen: Vec<&Value> = seen.collect();
            ensure!(!seen.is_empty(), "nothing {direction}: {everything:#?}");
            ensure!(seen.iter().all(|it| it["tls"] == "true"), "{seen:#?}");
        }
        let inbound = everything
            .iter()
            .find(|it| it["proxyDirection"] == "INBOUND")
            .context("checked above")?;
        ensure!(
            inbound["source"]["metadata"]["deployment"] == "vote-bot",
            "{inbound:#}"
        );
        ensure!(
            inbound["destination"]["metadata"]["deployment"] == "web",
            "{inbound:#}"
        );

        let filters = ["deploy/web", "--to", "deploy/voting", "--method", "POST"];
        for event in events(namespace, &filters, 6)? {
            let to = &event["destination"]["metadata"]["deployment"];
            ensure!(
                to == "voting" && event["proxyDirection"] == "OUTBOUND",
                "{event:#}"
            );
        }

        let arguments = ["tap", "deploy/web", "-n", &namespace.name];
        let lines = namespace.cluster.linkerd_lines(&arguments, 6)?.ok()?;
        ensure!(
            lines.contains(" tls=true ") && lines.contains("req id="),
            "{lines}"
        );
        Ok(())
    })
}

/// Real servers: in Redis the client speaks first, in MariaDB the server.
#[test]
fn connections_of_databases_are_seen_by_tap_top_and_edges() -> Result<()> {
    beside_others("tap-tcp", |namespace| {
        deploy_databases(namespace)?;
        eventually("a connection with mutual TLS to each", || {
            for (name, port, protocol) in
                [("redis", 6379, "opaque"), ("mariadb", 3306, "server-first")]
            {
                let filters = [
                    "deploy/client",
                    "--to",
                    &format!("deploy/{name}"),
                    "--protocol=tcp",
                ];
                for event in events(namespace, &filters, 4)? {
                    ensure!(event["proxyDirection"] == "OUTBOUND", "{event:#}");
                    ensure!(event["tls"] == "true", "{event:#}");
                    let dst = &event["destination"];
                    ensure!(
                        dst["port"] == port && dst["metadata"]["deployment"] == name,
                        "{event:#}"
                    );
                    let (open, close) = (
                        &event["connectionOpenEvent"],
                        &event["connectionCloseEvent"],
                    );
                    ensure!(open.is_null() || open["protocol"] == protocol, "{event:#}");
                    ensure!(close.is_null() || close["end"] == "clean", "{event:#}");
                    ensure!(
                        close.is_null() || close["destinationBytes"].as_u64() > Some(4),
                        "{event:#}"
                    );
                }
            }
            Ok(())
        })?;
        each_connection_is_told_once_by_each_proxy(namespace)?;
        top_has_a_row(namespace)?;
        eventually("an edge to each", || {
            let args = ["edges", "deploy/redis", "deploy/mariadb", "-o", "json"];
            let args = [&args[..], &["-n", &namespace.name]].concat();
            let output = namespace.cluster.linkerd(&args, "")?.ok()?;
            let edges: Vec<Value> = serde_json::from_str(&output)?;
            for name in ["redis", "mariadb"] {
                let mut edges = edges.iter();
                let edge = edges.find(|it| it["dst"] == name && it["secured"] == true);
                ensure!(edge.is_some_and(|it| it["src"] == "client"), "{output}");
            }
            Ok(())
        })
    })
}

/// Its connections share one between the two proxies.
fn each_connection_is_told_once_by_each_proxy(namespace: &Namespace) -> Result<()> {
    let pods = ["po", "-l", "app in (client, redis)", "--protocol=tcp"];
    let mut seen = BTreeSet::new();
    for event in events(namespace, &pods, 40)? {
        if event["connectionOpenEvent"].is_null() || event["destination"]["port"] != 6379 {
            continue;
        }
        let direction = event["proxyDirection"].to_string();
        // An inbound proxy knows the client by the address of what carries it.
        if direction.contains("OUTBOUND") {
            let source = event["source"].to_string();
            ensure!(seen.insert((direction, source)), "told twice: {event:#}");
        } else {
            seen.insert((direction, event["connectionOpenEvent"]["id"].to_string()));
        }
    }
    let count = |word: &str| {
        seen.iter()
            .filter(|(direction, _)| direction.contains(word))
            .count()
    };
    let (outbound, inbound) = (count("OUTBOUND"), count("INBOUND"));
    ensure!(
        outbound > 0 && outbound.abs_diff(inbound) <= 2,
        "{outbound} and {inbound}: {seen:#?}"
    );
    Ok(())
}

fn top_has_a_row(namespace: &Namespace) -> Result<()> {
    let cluster = &namespace.cluster;
    let mut top = Command::new(&cluster.linkerd);
    top.env("KUBECONFIG", &cluster.kubeconfig);
    top.args(["--linkerd-namespace", &cluster.control_plane_namespace]);
    top.args([
        "top",
        "deploy/client",
        "deploy/redis",
        "-n",
        &namespace.name,
    ]);
    let mut terminal = Terminal::start(120, 20, &top)?;
    eventually("a row of connections to Redis", || {
        let text = terminal.text();
        let row = text
            .lines()
            .find(|line| line.contains(":6379"))
            .with_context(|| text.clone())?;
        ensure!(
            row.contains("TCP") && row.contains("100.00%") && row.contains('√'),
            "{text}"
        );
        ensure!(row.starts_with("client") && row.contains("redis"), "{text}");
        Ok(())
    })?;
    terminal.press("q")?;
    let ended = terminal.end()?;
    ensure!(ended.code == Some(0) && ended.restored, "{ended:?}");
    Ok(())
}

/// Redis, MariaDB, and a client that asks both several times a second.
fn deploy_databases(namespace: &Namespace) -> Result<()> {
    let image = &namespace.cluster.servers_image;
    let server = |name: &str, script: &str, port: Option<u16>| {
        let mut container = json!({
            "name": name,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
            "securityContext": { "runAsUser": 1000, "runAsGroup": 1000 },
        });
        if let Some(port) = port {
            let command = ["/emojivoto", "ready", &format!("127.0.0.1:{port}")];
            container["readinessProbe"] =
                json!({ "exec": { "command": command }, "periodSeconds": 1 });
        }
        let spec = json!({ "containers": [container], "terminationGracePeriodSeconds": 1 });
        deployment(name, 1, &spec)
    };
    let redis = "exec redis-server --save '' --protected-mode no";
    let mariadb = "exec mariadbd --no-defaults --datadir=/data --skip-grant-tables --skip-name-resolve \
                   --socket=/tmp/socket --pid-file=/tmp/pid --innodb-log-file-size=4M \
                   --innodb-buffer-pool-size=8M";
    let client = "while :; do redis-cli -h redis PING; mariadb --no-defaults --user=app --host=mariadb \
                  --execute='SELECT 42'; sleep 0.3; done";
    let mut manifests = server("redis", redis, Some(6379));
    manifests += &server("mariadb", mariadb, Some(3306));
    manifests += &server("client", client, None);
    namespace.apply(&service("redis", "redis", 6379, 6379))?;
    namespace.apply(&service("mariadb", "mariadb", 3306, 3306))?;
    namespace.apply_meshed(&manifests)?;
    namespace.wait_until_ready(&["redis", "mariadb", "client"])
}

#[test]
fn who_lacks_the_right_is_told_which_and_who_has_it_watches() -> Result<()> {
    beside_others("tap-rights", |namespace| {
        Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        let user = format!("{}-jane", namespace.name);
        let outcome = rights(namespace, &user);
        // These are in no namespace, or in another one.
        let control_plane = &namespace.cluster.control_plane_namespace;
        let cluster = &namespace.cluster;
        cluster.kubectl(&["delete", "clusterrolebinding", &user, "--ignore-not-found"])?;
        for kind in ["rolebinding", "role"] {
            let args = [
                "-n",
                control_plane,
                "delete",
                kind,
                &user,
                "--ignore-not-found",
            ];
            cluster.kubectl(&args)?;
        }
        outcome
    })
}

fn rights(namespace: &Namespace, user: &str) -> Result<()> {
    let cluster = &namespace.cluster;
    let control_plane = cluster.control_plane_namespace.as_str();
    let as_user = format!("--user={user}");
    let role = |of: &str| format!("--clusterrole=linkerd-{control_plane}-{of}");
    let in_control_plane =
        |args: &[&str]| cluster.kubectl(&[&["-n", control_plane], args].concat());
    in_control_plane(&[
        "create",
        "role",
        user,
        "--verb=list,get,create",
        "--resource=pods,pods/portforward",
    ])?;
    in_control_plane(&[
        "create",
        "rolebinding",
        user,
        &format!("--role={user}"),
        &as_user,
    ])?;
    cluster.kubectl(&[
        "create",
        "clusterrolebinding",
        user,
        &role("tap-proof"),
        &as_user,
    ])?;
    let arguments = ["--as", user, "tap", "deploy/web", "-n", &namespace.name];
    let refused = cluster.linkerd(&arguments, "")?;
    ensure!(
        refused.code == Some(1) && refused.stdout.is_empty(),
        "{refused:?}"
    );
    for word in [
        user,
        "deployments/tap",
        "tap.linkerd.io",
        namespace.name.as_str(),
    ] {
        ensure!(refused.stderr.contains(word), "{word}: {refused:?}");
    }
    namespace.kubectl(&["create", "rolebinding", "tap", &role("tap"), &as_user])?;
    eventually("the right takes effect", || {
        let output = cluster.linkerd_lines(&arguments, 3)?;
        ensure!(output.stdout.contains("proxy="), "{output:?}");
        Ok(())
    })
}

/// The first events of `linkerd tap <args> -o json`.
fn events(namespace: &Namespace, args: &[&str], count: usize) -> Result<Vec<Value>> {
    let args = [&["tap"], args, &["-n", &namespace.name, "-o", "json"]].concat();
    let output = namespace.cluster.linkerd_lines(&args, count)?;
    let lines = output.stdout.lines().map(serde_json::from_str);
    let events: Vec<Value> = lines.collect::<Result<_, _>>()?;
    ensure!(events.len() == count, "{output:?}");
    Ok(events)
}
