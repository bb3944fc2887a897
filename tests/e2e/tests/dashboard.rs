//! `linkerd dashboard` on the cluster: the page and its figures by HTTP, and in a browser where there is one.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use e2e::{Cluster, Emojivoto, eventually, in_namespace, on_cluster, report, run};
use serde_json::Value;

/// A browser that starts, and thirty pages of it.
const BROWSER_TIMEOUT: Duration = Duration::from_secs(240);

/// A running `linkerd dashboard`; ends with its value.
struct Dashboard {
    program: Child,
    /// `localhost:port`.
    host: String,
}

impl Dashboard {
    fn start(cluster: &Cluster) -> Result<Self> {
        let mut program = Command::new(&cluster.linkerd)
            .env("KUBECONFIG", &cluster.kubeconfig)
            .args(["--linkerd-namespace", &cluster.control_plane_namespace])
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
        let lines = BufReader::new(stdout).lines();
        for line in lines {
            if let Some(host) = line?.strip_prefix("http://") {
                dashboard.host = host.to_owned();
                return Ok(dashboard);
            }
        }
        anyhow::bail!("linkerd dashboard has printed no URL")
    }

    /// Status and body of the answer to `GET path`, asked for under the name `host`.
    fn get(&self, path: &str, host: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
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
fn another_pod_serves_the_dashboard_when_one_goes() -> Result<()> {
    on_cluster("dashboard-pods", |cluster| {
        let dashboard = Dashboard::start(cluster)?;
        dashboard.json("/api/version")?;
        let namespace = cluster.control_plane_namespace.as_str();
        let api = "linkerd.io/control-plane-component=api";
        cluster.kubectl(&["-n", namespace, "delete", "pod", "-l", api])?;
        eventually("the next pod's answer", || {
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
