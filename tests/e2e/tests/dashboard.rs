//! `linkerd dashboard` on the cluster: the page and its figures by HTTP, and in a browser where there is one.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use e2e::{Cluster, Emojivoto, Namespace, eventually, in_namespace, on_cluster, report, run};
use serde_json::Value;

/// A browser that starts, and thirty pages of it.
const BROWSER_TIMEOUT: Duration = Duration::from_secs(240);

/// The URL is printed before the browser is asked to show it.
const URL_TIMEOUT: Duration = Duration::from_secs(60);

/// A running `linkerd dashboard`; ends with its value.
struct Dashboard {
    program: Child,
    /// `localhost:port`.
    host: String,
}

impl Dashboard {
    fn start(cluster: &Cluster) -> Result<Self> {
        Self::start_with(cluster, &[])
    }

    /// With flags of every command.
    fn start_with(cluster: &Cluster, flags: &[&str]) -> Result<Self> {
        let mut program = Command::new(&cluster.linkerd)
            .env("KUBECONFIG", &cluster.kubeconfig)
            .args(["--linkerd-namespace", &cluster.control_plane_namespace])
            .args(flags)
            .args(["dashboard", "--show", "url", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run linkerd")?;
        let stdout = program.stdout.take().context("stdout is piped")?;
        let mut dashboard = Self {
            program,
            host: String::new(),
        };
        let (found, url) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            // The other end is gone when the URL comes too late.
            drop(found.send(lines.find_map(|it| it.strip_prefix("http://").map(str::to_owned))));
        });
        let host = url.recv_timeout(URL_TIMEOUT).context("it says nothing")?;
        dashboard.host = host.context("linkerd dashboard has printed no URL")?;
        Ok(dashboard)
    }

    /// The connection on which `GET path` was asked for, with these headers.
    fn ask(&self, path: &str, headers: &str) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n"
        )?;
        Ok(stream)
    }

    /// Status and body of the answer to `GET path`, asked for under the name `host`.
    fn get(&self, path: &str, host: &str) -> Result<(u16, String)> {
        self.answer(path, &format!("Host: {host}\r\n"))
    }

    fn answer(&self, path: &str, headers: &str) -> Result<(u16, String)> {
        let mut answer = String::new();
        self.ask(path, headers)?.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, body.to_owned()))
    }

    fn json(&self, path: &str) -> Result<Value> {
        let (status, body) = self.get(path, &self.host)?;
        ensure!(status == 200, "{path}: {status} {body}");
        Ok(serde_json::from_str(&body)?)
    }
}

/// What the page asks for when somebody watches the requests of `web`.
fn tap(namespace: &Namespace) -> String {
    let namespace = &namespace.name;
    format!("/api/tap?namespace={namespace}&kind=deployment&name=web&method=&path=%2Fapi%2F")
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        // Either may fail only when it has ended by itself.
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

#[test]
fn figures_edges_and_pods_are_answered_through_the_port_forward() -> Result<()> {
    in_namespace("dashboard", |namespace| {
        Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        let dashboard = Dashboard::start(&namespace.cluster)?;
        eventually("figures of all that serve", || {
            let overview = dashboard.json("/api/overview")?;
            let workloads = overview["workloads"].as_array().context("a list")?;
            for name in ["web", "emoji", "voting"] {
                let row = workloads
                    .iter()
                    .find(|it| it["namespace"] == *namespace.name && it["name"] == name);
                let row = row.with_context(|| format!("no {name}"))?;
                let requests = &row["requests"];
                let all = [&requests["success"], &requests["failure"]];
                let all: u64 = all.into_iter().filter_map(Value::as_u64).sum();
                ensure!(all > 0 && requests["tls"] == all, "{row:#}");
            }
            Ok(())
        })?;
        eventually("the edge from the bot to its server", || {
            let graph = dashboard.json("/api/edges")?;
            let edges = graph["edges"].as_array().context("a list")?;
            let edge = edges.iter().find(|it| {
                it["dst"]["namespace"] == *namespace.name
                    && it["src"]["name"] == "vote-bot"
                    && it["secured"] == true
            });
            let edge = edge.with_context(|| format!("{edges:#?}"))?;
            ensure!(edge["dst"]["kind"] == "deployment" && edge["dst"]["name"] == "web");
            Ok(())
        })?;
        let pods = dashboard.json(&format!("/api/pods/{}", namespace.name))?;
        let pods = pods.as_array().context("a list")?;
        ensure!(
            pods.iter()
                .any(|it| it["owner_name"] == "web" && it["meshed"] == true)
        );
        let (status, _) = dashboard.get("/api/overview", "evil.example")?;
        ensure!(status == 421, "another name was answered with {status}");
        Ok(())
    })
}

#[test]
fn certificates_the_past_and_live_requests_are_on_the_page_of_a_workload() -> Result<()> {
    in_namespace("dashboard-live", |namespace| {
        Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        let dashboard = Dashboard::start(&namespace.cluster)?;
        let own = format!("Host: {}\r\nlinkerd-dashboard-tap: 1\r\n", dashboard.host);
        let path = tap(namespace);
        // More than may be open at once: each ends with its connection.
        for _ in 0..9 {
            eventually("a request of the bot, over mutual TLS", || {
                let stream = dashboard.ask(&path, &own)?;
                let line = BufReader::new(stream)
                    .lines()
                    .map_while(Result::ok)
                    .find(|line| line.contains("requestInitEvent"));
                let event: Value = serde_json::from_str(&line.context("no request")?)?;
                let to = &event["destination"]["metadata"]["deployment"];
                ensure!(to == "web" && event["tls"] == "true", "{event:#}");
                let asked = event["requestInitEvent"]["path"].as_str();
                ensure!(asked.is_some_and(|it| it.starts_with("/api/")), "{event:#}");
                Ok(())
            })?;
        }
        let elsewhere = "Origin: http://evil.example\r\n";
        for headers in [
            format!("Host: {}\r\n", dashboard.host),
            format!("{own}{elsewhere}"),
            format!("{own}Sec-Fetch-Site: cross-site\r\n"),
        ] {
            let (status, body) = dashboard.answer(&path, &headers)?;
            ensure!(status == 403, "{headers}: {status} {body}");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        eventually("a certificate of each pod", || {
            let certificates = dashboard.json(&format!("/api/certificates/{}", namespace.name))?;
            let pods = dashboard.json(&format!("/api/pods/{}", namespace.name))?;
            for pod in pods.as_array().context("a list")? {
                let name = pod["name"].as_str().context("a name")?;
                let certificate = &certificates[name];
                let [ends, renewal, anchor] = [
                    &certificate["ends_at"],
                    &certificate["renewal_at"],
                    &certificate["trust_anchor"]["ends_at"],
                ]
                .map(|it| it.as_u64().unwrap_or_default());
                ensure!(
                    now < renewal && renewal < ends && ends <= anchor,
                    "{name}: {certificate:#}"
                );
                ensure!(
                    certificate["trust_anchor"]["serial"] != "",
                    "{certificate:#}"
                );
            }
            Ok(())
        })?;
        for path in [
            format!("/api/history/{}/deployment/web", namespace.name),
            "/api/history".to_owned(),
        ] {
            eventually("the past of web", || {
                let past = dashboard.json(&path)?;
                let rows = past["rows"].as_array().context("a list")?;
                let web = rows
                    .iter()
                    .find(|it| it["namespace"] == *namespace.name && it["name"] == "web");
                let web = web.with_context(|| format!("{path}: {rows:#?}"))?;
                let last = |name: &str| -> Result<Option<u64>> {
                    let points = web[name].as_array().context("a list")?;
                    Ok(points.last().and_then(Value::as_u64))
                };
                let (success, failure) = (last("success")?, last("failure")?);
                let answered = success.zip(failure).map(|(good, bad)| good + bad);
                ensure!(success > Some(0) && last("tls")? == answered, "{web:#}");
                Ok(())
            })?;
        }
        Ok(())
    })
}

#[test]
fn who_may_not_tap_reads_on_the_page_which_right_is_missing() -> Result<()> {
    in_namespace("dashboard-rights", |namespace| {
        let cluster = &namespace.cluster;
        let control_plane = cluster.control_plane_namespace.as_str();
        let user = format!("{}-jane", namespace.name);
        let roles = format!(
            "{{kind: Role, apiVersion: rbac.authorization.k8s.io/v1, metadata: {{name: {user}, namespace: \
             {control_plane}}}, rules: [{{apiGroups: [''], resources: [pods, pods/portforward], verbs: [list, get, \
             create]}}]}}\n---\n\
             {{kind: RoleBinding, apiVersion: rbac.authorization.k8s.io/v1, metadata: {{name: {user}, namespace: \
             {control_plane}}}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {user}}}, subjects: \
             [{{kind: User, name: {user}, apiGroup: rbac.authorization.k8s.io}}]}}\n---\n\
             {{kind: ClusterRoleBinding, apiVersion: rbac.authorization.k8s.io/v1, metadata: {{name: {user}}}, \
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: \
             linkerd-{control_plane}-tap-proof}}, subjects: [{{kind: User, name: {user}, apiGroup: \
             rbac.authorization.k8s.io}}]}}\n"
        );
        cluster.kubectl_with(&["apply", "-f", "-"], &roles)?;
        let refused = || -> Result<()> {
            let dashboard = Dashboard::start_with(cluster, &["--as", &user])?;
            let own = format!("Host: {}\r\nlinkerd-dashboard-tap: 1\r\n", dashboard.host);
            let (status, body) = dashboard.answer(&tap(namespace), &own)?;
            ensure!(status == 502, "{status} {body}");
            for word in [&user, "deployments/tap", "tap.linkerd.io", &namespace.name] {
                ensure!(body.contains(word), "{word}: {body}");
            }
            Ok(())
        };
        let outcome = eventually("the refusal", refused);
        cluster.kubectl_with(&["delete", "--ignore-not-found", "-f", "-"], &roles)?;
        outcome
    })
}

#[test]
fn another_pod_serves_the_dashboard_when_one_goes() -> Result<()> {
    on_cluster("dashboard-pods", |cluster| {
        let dashboard = Dashboard::start(cluster)?;
        dashboard.json("/api/version")?;
        let namespace = cluster.control_plane_namespace.as_str();
        let api = "linkerd.io/control-plane-component=linkerd-api";
        let pods = || cluster.kubectl(&["-n", namespace, "get", "pods", "-l", api, "-o", "name"]);
        let before = pods()?;
        ensure!(!before.is_empty(), "no pod of linkerd-api");
        cluster.kubectl(&["-n", namespace, "delete", "pod", "-l", api])?;
        eventually("the next pod's answer", || {
            let now = pods()?;
            let left = before.lines().find(|pod| now.contains(pod));
            ensure!(left.is_none(), "{left:?} is still there");
            dashboard.json("/api/version").map(drop)
        })?;
        cluster.kubectl(&[
            "-n",
            namespace,
            "rollout",
            "status",
            "deployment/linkerd-api",
            "--timeout=120s",
        ])?;
        Ok(())
    })
}

#[test]
fn the_pages_work_in_a_browser() -> Result<()> {
    on_cluster("dashboard-browser", |cluster| {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dashboard");
        let app = ["-n", "emojivoto", "get", "deployment", "web"];
        for (what, there) in [
            ("the page's packages", page.join("node_modules").exists()),
            ("a browser", Path::new("/usr/bin/chromium").exists()),
            ("emojivoto", cluster.kubectl(&app).is_ok()),
        ] {
            if !there {
                report(&format!("skipped: dashboard-browser: there is not {what}"));
                return Ok(());
            }
        }
        let dashboard = Dashboard::start(cluster)?;
        eventually("figures of emojivoto", || {
            let graph = dashboard.json("/api/edges")?;
            let edges = graph["edges"].as_array().context("a list")?;
            let seen = edges
                .iter()
                .any(|it| it["dst"]["namespace"] == "emojivoto" && it["src"]["name"] == "web");
            ensure!(seen, "{edges:#?}");
            Ok(())
        })?;
        let mut browser = Command::new("node");
        browser.arg("browser/run.mjs").current_dir(page);
        browser.env("DASHBOARD_URL", format!("http://{}", dashboard.host));
        run(&mut browser, "", BROWSER_TIMEOUT)?.ok()?;
        Ok(())
    })
}
