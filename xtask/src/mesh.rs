//! Brings the mesh and the sample app to a cluster, as a person would: by piping the CLI's output
//! to kubectl. Entries: [`Mesh::install`], [`Mesh::inject_sample_app`], [`Mesh::tls_table`].

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{command, workspace};

/// The rows that the sample app must show.
const AUTHORITIES: [&str; 3] = [
    "emoji-svc.emojivoto:8080",
    "voting-svc.emojivoto:8080",
    "web-svc.emojivoto:80",
];

/// The window of `stat`. Figures of a younger app are true, but count the time before it as idle.
const WINDOW: Duration = Duration::from_secs(60);

/// How long the sample app may take until a whole window of figures is there: pods start in seconds,
/// Prometheus scrapes every 10 s and the window is a minute.
const TABLE_TIMEOUT: Duration = Duration::from_secs(180);

/// A cluster, and the tools to talk to it.
pub(crate) struct Mesh {
    /// The kubectl to use.
    pub(crate) kubectl: PathBuf,
    /// The CLI that was built.
    pub(crate) linkerd: PathBuf,
    /// Kubeconfig; none for the user's own.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig; none for the current one.
    pub(crate) context: Option<String>,
    /// What stands before every image name.
    pub(crate) registry: String,
    /// Image of Prometheus; none for the chart's default.
    pub(crate) prometheus_image: Option<String>,
}

/// One row of `linkerd stat -o json`, as far as we look at it.
#[derive(Deserialize)]
struct Row {
    name: String,
    rps: Option<f64>,
    tls: Option<f64>,
}

/// Whether the bot's two requests a second fill the whole window.
fn is_steady(row: &Row) -> bool {
    row.name == "web-svc.emojivoto:80" && row.rps.is_some_and(|rps| rps >= 1.9)
}

impl Mesh {
    /// Installs the control plane and waits until `linkerd check` has nothing to say.
    ///
    /// # Errors
    /// When a command fails; its own words are in the error.
    pub(crate) fn install(&self) -> Result<()> {
        let mut install = self.offline_linkerd(&["install", "--tls=optional"]);
        if let Some(image) = &self.prometheus_image {
            install.args(["--prometheus-image", image]);
        }
        self.apply(&command::output(&mut install)?)?;
        command::run(&mut self.linkerd(&["check", "--wait"]))
    }

    /// Injects the sample app and waits until all of its pods are ready.
    ///
    /// # Errors
    /// When a command fails; its own words are in the error.
    pub(crate) fn inject_sample_app(&self) -> Result<()> {
        let manifest = workspace::root().join("tests/emojivoto/emojivoto.yml");
        let mut inject = self.offline_linkerd(&["inject", "--tls=optional"]);
        inject.arg(&manifest);
        let injected = command::output(&mut inject)?;
        // The sample app's own image comes from the same registry as ours.
        self.apply(&injected.replace(linkerd_names::REGISTRY_DEFAULT, &self.registry))?;
        let mut wait = self.kubectl(&["rollout", "status", "--timeout=120s", "-n", "emojivoto"]);
        for name in ["emoji", "voting", "web", "vote-bot"] {
            wait.arg(format!("deployment/{name}"));
        }
        command::run(&mut wait)
    }

    /// Waits until every row of the sample app says TLS 100 %, for a whole window of figures unless
    /// there already is one, and returns the table.
    ///
    /// # Errors
    /// When that is not so in time: the last table is in the error.
    pub(crate) fn tls_table(&self) -> Result<String> {
        let started = Instant::now();
        let stat = ["stat", "authority", "-n", "emojivoto"];
        loop {
            let rows = command::output(self.linkerd(&stat).args(["-o", "json"]))?;
            let rows: Vec<Row> =
                serde_json::from_str(if rows.trim().is_empty() { "[]" } else { &rows })
                    .context("linkerd stat -o json printed something unexpected")?;
            let encrypted = |name: &str| {
                rows.iter().any(|row| {
                    row.name == name && row.tls == Some(1.0) && row.rps.is_some_and(|rps| rps > 0.5)
                })
            };
            let whole_window = started.elapsed() > WINDOW || rows.iter().any(is_steady);
            if whole_window && AUTHORITIES.iter().all(|name| encrypted(name)) {
                return command::output(&mut self.linkerd(&stat));
            }
            if started.elapsed() > TABLE_TIMEOUT {
                let table = command::output(&mut self.linkerd(&stat))?;
                bail!(
                    "not every row says TLS 100% after {} s:\n{table}",
                    TABLE_TIMEOUT.as_secs()
                );
            }
            std::thread::sleep(Duration::from_secs(2));
        }
    }

    /// Returns kubectl with `args`, for this cluster.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Command {
        self.for_cluster(&self.kubectl, args)
    }

    /// Returns the CLI with `args`, for this cluster.
    pub(crate) fn linkerd(&self, args: &[&str]) -> Command {
        self.for_cluster(&self.linkerd, args)
    }

    fn for_cluster(&self, program: &PathBuf, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args);
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        command
    }

    /// The CLI for what it does without a cluster.
    fn offline_linkerd(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.linkerd);
        command.args(args).args(["--registry", &self.registry]);
        command
    }

    fn apply(&self, manifests: &str) -> Result<()> {
        let applied = command::feed(
            &mut self.kubectl(&["apply", "-f", "-"]),
            manifests.as_bytes(),
        )?;
        anstream::eprint!("{applied}");
        Ok(())
    }
}
