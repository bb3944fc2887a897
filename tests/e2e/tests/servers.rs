//! Real servers answer through the mesh as they do without it, whoever speaks first, and nobody has
//! configured anything: Debian's MariaDB, PostgreSQL, Redis and OpenSMTPD with their own clients.

use anyhow::{Context as _, Result, ensure};
use e2e::{
    Certificate, Metrics, Namespace, deployment, document, eventually, in_namespace, percentile,
    report,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Connections to each server, per pair of client and server, of which the first byte is timed.
const ROUNDS: usize = 5;
const CONNECTIONS_PER_ROUND: usize = 10;
/// What no first byte may take: it would be a proxy that waits for the client's words, and gives up some time.
const FIRST_BYTE_BOUND: &str = "--timeout-ms=3000";
/// Clients that say nothing, at once.
const SILENT: usize = 5;

/// One of the containers of a pod of servers.
struct Server {
    name: &'static str,
    /// Of the Service.
    port: u16,
    /// Of the container.
    target_port: u16,
    /// Most servers refuse root; OpenSMTPD asks for it.
    user: u32,
    script: &'static str,
    /// In hexadecimal digits, what a client says first; nothing where the server speaks first.
    request: &'static str,
}

const SERVERS: [Server; 6] = [
    Server {
        name: "mariadb",
        port: 3306,
        target_port: 3306,
        user: 1000,
        // Every connection that ends after the greeting counts as an error of its host.
        script: "exec mariadbd --no-defaults --datadir=/data --skip-grant-tables --skip-name-resolve \
                 --max-connect-errors=1000000 --socket=/tmp/socket --pid-file=/tmp/pid \
                 --innodb-log-file-size=4M --innodb-buffer-pool-size=8M",
        request: "",
    },
    Server {
        name: "postgresql",
        port: 5432,
        target_port: 5432,
        user: 1000,
        script: "initdb -D /data/pg --no-sync --no-locale --username=app --auth=trust && \
                 echo 'host all all all trust' >>/data/pg/pg_hba.conf && \
                 exec postgres -D /data/pg -c listen_addresses='*' -c unix_socket_directories= \
                 -c fsync=off -c ssl=on -c ssl_cert_file=/tls/tls.crt -c ssl_key_file=/tls/tls.key",
        // Asks whether the server speaks TLS: 8 bytes, the number 80877103.
        request: "0000000804d2162f",
    },
    Server {
        name: "redis",
        port: 6379,
        target_port: 6379,
        user: 1000,
        script: "exec redis-server --save '' --protected-mode no",
        // PING
        request: "50494e470d0a",
    },
    Server {
        name: "smtp",
        port: 25,
        target_port: 2525,
        user: 0,
        script: "printf '%s\\n' 'listen on 0.0.0.0 port 2525 hostname mail.test' \
                 'table users { \"@\" = \"root\" }' 'action keep maildir \"/tmp/mail\" virtual <users>' \
                 'match from any for any action keep' >/tmp/smtpd.conf && \
                 exec smtpd -d -f /tmp/smtpd.conf",
        request: "",
    },
    Server {
        name: "silent",
        port: 9000,
        target_port: 9000,
        user: 1000,
        script: "exec /emojivoto tcp-server --addr 0.0.0.0:9000",
        request: "61",
    },
    Server {
        name: "both",
        port: 9001,
        target_port: 9001,
        user: 1000,
        script: "exec /emojivoto tcp-server --addr 0.0.0.0:9001 --banner '220 both' --or-http",
        request: "",
    },
];

/// Client and server: the labels `app` of their pods.
type Pair = (&'static str, &'static str);

const NEITHER: Pair = ("client-plain", "server-plain");
const BOTH: Pair = ("client-meshed", "server-meshed");
const SERVER: Pair = ("client-plain", "server-meshed");
const CLIENT: Pair = ("client-meshed", "server-plain");

#[test]
fn real_servers_answer_at_once_whoever_speaks_first() -> Result<()> {
    in_namespace("servers", |namespace| {
        deploy(namespace)?;
        converse(namespace, NEITHER)?;
        through_mutual_tls(namespace)?;
        in_plaintext(namespace)?;
        first_bytes(namespace)
    })
}

/// Every connection between two meshed pods is mutual TLS, as both sides count it, and none plaintext.
fn through_mutual_tls(namespace: &Namespace) -> Result<()> {
    let before = Counts::read(namespace)?;
    let connections = converse(namespace, BOTH)?;
    let after = Counts::read(namespace)?;
    let [outbound, inbound] = [
        after.outbound_tls - before.outbound_tls,
        after.inbound_tls - before.inbound_tls,
    ];
    ensure!(
        outbound >= connections,
        "{outbound} of {connections}: {after:?}"
    );
    ensure!(
        inbound >= connections,
        "{inbound} of {connections}: {after:?}"
    );
    let plain = after.outbound_plain - before.outbound_plain;
    ensure!(plain <= 0.0, "{plain} in plaintext: {before:?}, {after:?}");
    ensure!(
        after.requests_tls > before.requests_tls,
        "HTTP beside a banner was not seen as HTTP: {after:?}"
    );
    // On a busy machine a proxy's ClientHello may come after the server has spoken; the proxy then
    // shakes hands on a second connection, and the first one was never the application's.
    let late = after.inbound_plain - before.inbound_plain;
    report(&format!(
        "  meshed to meshed: {connections} connections, all of them mutual TLS, {late} at the second try"
    ));
    Ok(())
}

/// With a proxy on one side only, the same goes in plaintext.
fn in_plaintext(namespace: &Namespace) -> Result<()> {
    let before = Counts::read(namespace)?;
    let to_server = converse(namespace, SERVER)?;
    let from_client = converse(namespace, CLIENT)?;
    let after = Counts::read(namespace)?;
    let inbound = after.inbound_plain - before.inbound_plain;
    let outbound = after.outbound_plain - before.outbound_plain;
    ensure!(inbound >= to_server, "{inbound} of {to_server}: {after:?}");
    ensure!(
        outbound >= from_client,
        "{outbound} of {from_client}: {after:?}"
    );
    Ok(())
}

/// Connections and requests that the two proxies have counted.
#[derive(Debug)]
#[expect(
    dead_code,
    reason = "the lines are for people who read about a failed test"
)]
struct Counts {
    lines: Vec<String>,
    outbound_tls: f64,
    outbound_plain: f64,
    inbound_tls: f64,
    inbound_plain: f64,
    requests_tls: f64,
}

impl Counts {
    fn read(namespace: &Namespace) -> Result<Self> {
        let client = Metrics(namespace.proxy_metrics(BOTH.0)?);
        let server = Metrics(namespace.proxy_metrics(BOTH.1)?);
        let tls = "tls=\"true\"";
        let outbound = ["direction=\"outbound\"", "peer=\"dst\""];
        let inbound = ["direction=\"inbound\"", "peer=\"src\""];
        let opened = |metrics: &Metrics, labels: [&str; 2]| {
            let all = metrics.sum("tcp_open_total", &labels);
            let encrypted = metrics.sum("tcp_open_total", &[labels[0], labels[1], tls]);
            (encrypted, all - encrypted)
        };
        let counted = [&client, &server]
            .into_iter()
            .flat_map(|metrics| metrics.0.lines());
        let lines = counted.filter(|line| line.starts_with("tcp_open_total{"));
        let (outbound_tls, outbound_plain) = opened(&client, outbound);
        let (inbound_tls, inbound_plain) = opened(&server, inbound);
        Ok(Self {
            lines: lines.map(str::to_owned).collect(),
            outbound_tls,
            outbound_plain,
            inbound_tls,
            inbound_plain,
            requests_tls: server.sum("response_total", &[inbound[0], tls]),
        })
    }
}

/// Lets every client talk with its server; returns how many connections that were.
fn converse(namespace: &Namespace, (client, server): Pair) -> Result<f64> {
    let ask = |words: &[&str], answer: &str| {
        let said = exec(namespace, client, words)?;
        ensure!(
            said.contains(answer),
            "{client} to {server}: {words:?} printed {said:?}"
        );
        Ok(())
    };
    let mariadb = ["mariadb", "--no-defaults", "--user=app", "--host", server];
    ask(
        &[&mariadb[..], &["--execute=SELECT CONCAT('it is ', 40 + 2)"]].concat(),
        "it is 42",
    )?;
    for (mode, is_tls) in [("disable", "f"), ("require", "t")] {
        let connection = format!("host={server} user=app dbname=postgres sslmode={mode}");
        let query = "SELECT 40 + 2, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        ask(
            &["psql", &connection, "-Atc", query],
            &format!("42|{is_tls}"),
        )?;
    }
    ask(&["redis-cli", "-h", server, "PING"], "PONG")?;
    let smtp = ["/emojivoto", "dialogue", &format!("{server}:25")];
    let mail = [
        "<220 ",
        ">EHLO client.test",
        "<250 ",
        ">MAIL FROM:<a@client.test>",
        "<250 ",
        ">RCPT TO:<b@mail.test>",
        "<250 ",
        ">DATA",
        "<354 ",
        ">Subject: hello",
        ">",
        ">.",
        "<250 ",
        ">QUIT",
        "<221 ",
    ];
    ask(&[&smtp[..], &mail].concat(), "Message accepted")?;
    let both = format!("{server}:9001");
    let banner = ["/emojivoto", "tcp-client", &both, "--banner", "--count=1"];
    ask(&banner, "220 both")?;
    ask(
        &["/emojivoto", "http-get", &format!("http://{both}/")],
        "hello over HTTP",
    )?;
    silence(namespace, client, server)?;
    // PostgreSQL was asked twice; the port of both has two connections.
    Ok(7.0 + SILENT as f64)
}

/// Both sides of some connections are silent for a while, and then speak.
fn silence(namespace: &Namespace, client: &str, server: &str) -> Result<()> {
    let script = format!(
        "n=0; while [ $n -lt {SILENT} ]; do n=$((n+1)); \
         /emojivoto tcp-client {server}:9000 --silent-ms 2000 --count 1 & done; wait"
    );
    let said = exec(namespace, client, &["sh", "-c", &script])?;
    let echoes = said
        .lines()
        .filter(|line| line.contains("\"echo\":1"))
        .count();
    ensure!(
        echoes == SILENT,
        "{client} to {server}: {echoes} of {SILENT} went on: {said}"
    );
    Ok(())
}

/// Times until the first byte of each server, with and without the mesh, in turns.
fn first_bytes(namespace: &Namespace) -> Result<()> {
    let pairs = [NEITHER, BOTH, SERVER, CLIENT];
    let timed: Vec<&Server> = SERVERS
        .iter()
        .filter(|server| server.name != "both")
        .collect();
    let mut times = vec![vec![Vec::new(); timed.len()]; pairs.len()];
    for _ in 0..ROUNDS {
        for ((client, server), times) in pairs.into_iter().zip(&mut times) {
            let count = format!("--count={CONNECTIONS_PER_ROUND}");
            let target = |one: &&Server| format!("{server}:{}/{}", one.port, one.request);
            let targets: Vec<String> = timed.iter().map(target).collect();
            let mut words = vec!["/emojivoto", "first-byte", &count, FIRST_BYTE_BOUND];
            words.extend(targets.iter().map(String::as_str));
            let said = exec(namespace, client, &words)?;
            let lines = said.lines().count();
            ensure!(lines == targets.len(), "{lines} servers answered: {said}");
            for (line, times) in said.lines().zip(times) {
                #[derive(Deserialize)]
                struct Line {
                    us: Vec<u64>,
                }
                let Line { us } = serde_json::from_str(line).with_context(|| line.to_owned())?;
                times.extend(us);
            }
        }
    }
    let names = [
        "meshed to meshed",
        "to a meshed server",
        "from a meshed client",
    ];
    for (at, server) in timed.iter().enumerate() {
        let figures = |pair: usize| -> Result<[f64; 2]> {
            let of = |percent| percentile(&times[pair][at], percent).context("nothing timed");
            Ok([of(50)? as f64 / 1e3, of(99)? as f64 / 1e3])
        };
        let [p50, p99] = figures(0)?;
        let mut line = format!(
            "  first byte, {:<10} unproxied {p50:.1}/{p99:.1} ms",
            server.name
        );
        for (pair, name) in (1..).zip(names) {
            let [with_p50, with_p99] = figures(pair)?;
            line += &format!("; {name} {:+.1}/{:+.1}", with_p50 - p50, with_p99 - p99);
        }
        report(&(line + &format!(" (p50/p99, n = {})", times[0][at].len())));
    }
    Ok(())
}

/// Starts two pods of servers on one node, and two of clients on another: one of each is meshed.
fn deploy(namespace: &Namespace) -> Result<()> {
    let nodes = namespace.cluster.nodes()?;
    let client_node = nodes.first().context("no node")?;
    let server_node = nodes.last().context("no node")?;
    namespace.apply(&Certificate::new("postgresql.test")?.secret("tls"))?;
    for name in [NEITHER.1, BOTH.1] {
        namespace.apply(&servers_service(name))?;
    }
    let [plain_server, meshed_server] = [NEITHER.1, BOTH.1].map(|name| {
        on_node(
            name,
            server_node,
            servers_spec(&namespace.cluster.servers_image),
        )
    });
    let [plain_client, meshed_client] = [NEITHER.0, BOTH.0].map(|name| {
        on_node(
            name,
            client_node,
            client_spec(&namespace.cluster.servers_image),
        )
    });
    namespace.apply(&(plain_server + &plain_client))?;
    namespace.apply_meshed(&(meshed_server + &meshed_client))?;
    namespace.wait_until_ready(&[NEITHER.0, NEITHER.1, BOTH.0, BOTH.1])?;
    // The nodes' rules know a Service some moments later than its pods are ready.
    for (client, server) in [NEITHER, BOTH, SERVER, CLIENT] {
        eventually("the Services lead to the pods", || {
            let smtp = format!("{server}:25");
            exec(
                namespace,
                client,
                &["/emojivoto", "dialogue", &smtp, "<220 "],
            )
        })?;
    }
    Ok(())
}

fn servers_spec(image: &str) -> Value {
    let container = |server: &Server| {
        let address = format!("127.0.0.1:{}", server.target_port);
        json!({
            "name": server.name,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", server.script],
            "securityContext": { "runAsUser": server.user, "runAsGroup": server.user },
            "startupProbe": {
                "exec": { "command": ["/emojivoto", "ready", address] },
                "periodSeconds": 1,
                "failureThreshold": 120,
            },
            "volumeMounts": [{ "name": "tls", "mountPath": "/tls", "readOnly": true }],
        })
    };
    json!({
        "containers": SERVERS.iter().map(container).collect::<Vec<_>>(),
        "securityContext": { "fsGroup": 1000 },
        // PostgreSQL takes no key that others can read.
        "volumes": [{ "name": "tls", "secret": { "secretName": "tls", "defaultMode": 0o440 } }],
    })
}

/// A container in which clients are started by `kubectl exec`.
fn client_spec(image: &str) -> Value {
    json!({
        "containers": [{
            "name": "clients",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "args": ["tcp-server", "--addr", "127.0.0.1:1024"],
            "securityContext": { "runAsUser": 1000 },
        }],
    })
}

fn on_node(name: &str, node: &str, mut spec: Value) -> String {
    spec["automountServiceAccountToken"] = false.into();
    spec["terminationGracePeriodSeconds"] = 1.into();
    spec["nodeSelector"] = json!({ "kubernetes.io/hostname": node });
    deployment(name, 1, &spec)
}

fn servers_service(name: &str) -> String {
    let port = |server: &Server| json!({ "name": server.name, "port": server.port, "targetPort": server.target_port });
    document(&json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": {
            "selector": { "app": name },
            "ports": SERVERS.iter().map(port).collect::<Vec<_>>(),
        },
    }))
}

fn exec(namespace: &Namespace, client: &str, words: &[&str]) -> Result<String> {
    let pod = namespace.pod(client)?;
    namespace.kubectl(&[&["exec", &pod, "-c", "clients", "--"], words].concat())
}
