//! A namespace of one test: what it holds goes with it. Entry: [`Namespace::create`].

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{Cluster, Row, eventually, eventually_within, stat};

/// Longest log of one container in the description of a failed test.
const LOG_LINES: &str = "--tail=40";

/// A namespace, and the cluster it is in.
#[derive(Debug)]
pub struct Namespace {
    /// Its cluster.
    pub cluster: Cluster,
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Creates the namespace; one of the same name that an earlier run has left is removed first.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn create(cluster: &Cluster, name: &str) -> Result<Self> {
        let namespace = Self {
            cluster: cluster.clone(),
            name: name.to_owned(),
        };
        let args = [
            "delete",
            "namespace",
            name,
            "--ignore-not-found",
            "--timeout=120s",
        ];
        cluster.kubectl(&args)?;
        cluster.kubectl(&["create", "namespace", name])?;
        // Pods are refused before their ServiceAccount is there.
        eventually("the default ServiceAccount", || {
            namespace.kubectl(&["get", "serviceaccount", "default"])
        })?;
        Ok(namespace)
    }

    /// Begins to remove the namespace with all that is in it; the next test need not wait for it.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn delete(&self) -> Result<()> {
        self.cluster
            .kubectl(&["delete", "namespace", &self.name, "--wait=false"])?;
        Ok(())
    }

    /// Runs kubectl in this namespace and returns its stdout.
    ///
    /// # Errors
    /// What it says on stderr.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.cluster
            .kubectl(&[&["--namespace", &self.name], args].concat())
    }

    /// Reads objects as JSON: `get deployment/web`.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn get(&self, what: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], what].concat())?;
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }

    /// Applies manifests as they are.
    ///
    /// # Errors
    /// When kubectl refuses them.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let args = ["--namespace", &self.name, "apply", "-f", "-"];
        self.cluster.kubectl_with(&args, manifests)?;
        Ok(())
    }

    /// Injects the proxy with TLS, and applies.
    ///
    /// # Errors
    /// When `linkerd inject` or kubectl refuses them.
    pub fn apply_meshed(&self, manifests: &str) -> Result<()> {
        self.apply(&self.cluster.inject(manifests)?)
    }

    /// Waits until every pod of each Deployment is ready.
    ///
    /// # Errors
    /// When one is not after three minutes.
    pub fn wait_until_ready(&self, deployments: &[&str]) -> Result<()> {
        for name in deployments {
            let deployment = format!("deployment/{name}");
            self.kubectl(&["rollout", "status", "--timeout=180s", &deployment])?;
        }
        Ok(())
    }

    /// The same for all Deployments of the namespace.
    ///
    /// # Errors
    /// When one is not after three minutes.
    pub fn wait_until_all_ready(&self) -> Result<()> {
        let names = self.kubectl(&[
            "get",
            "deployments",
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ])?;
        self.wait_until_ready(&names.split_whitespace().collect::<Vec<_>>())
    }

    /// Names of the pods with label `app: <app>` that are not going away.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn pods(&self, app: &str) -> Result<Vec<String>> {
        let pods = self.get(&["pods", "-l", &format!("app={app}")])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        Ok(pods
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
            .collect())
    }

    /// The one pod with label `app: <app>`.
    ///
    /// # Errors
    /// When there is none.
    pub fn pod(&self, app: &str) -> Result<String> {
        let pods = self.pods(app)?;
        pods.into_iter()
            .next()
            .with_context(|| format!("no pod of {app}"))
    }

    /// The IPv4 address of the one pod with label `app: <app>`.
    ///
    /// # Errors
    /// When it has none yet.
    pub fn pod_ip(&self, app: &str) -> Result<std::net::Ipv4Addr> {
        let pod = self.get(&["pod", &self.pod(app)?])?;
        let ip = pod["status"]["podIP"]
            .as_str()
            .context("the pod has no address yet")?;
        Ok(ip.parse()?)
    }

    /// What the application's container of a pod has printed on stdout and stderr.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn logs(&self, app: &str) -> Result<String> {
        self.kubectl(&["logs", &self.pod(app)?, "-c", app])
    }

    /// The metrics of a pod's proxy.
    ///
    /// # Errors
    /// When the pod has no proxy.
    pub fn proxy_metrics(&self, app: &str) -> Result<String> {
        self.metrics(&self.pod(app)?, 4191)
    }

    /// What a pod answers at `/metrics` of one of its ports.
    ///
    /// # Errors
    /// When nothing answers there.
    pub fn metrics(&self, pod: &str, port: u16) -> Result<String> {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{pod}:{port}/proxy/metrics",
            self.name
        );
        self.cluster.kubectl(&["get", "--raw", &path])
    }

    /// The name of a pod of a component, in the namespace of a control plane.
    ///
    /// # Errors
    /// When there is none.
    pub fn component(&self, name: &str) -> Result<String> {
        let label = format!("linkerd.io/control-plane-component={name}");
        let running = "--field-selector=status.phase=Running";
        let pods = self.kubectl(&["get", "pods", "-o", "name", running, "-l", &label])?;
        let pod = pods.lines().next().and_then(|it| it.strip_prefix("pod/"));
        pod.map(str::to_owned)
            .with_context(|| format!("no pod of {name}"))
    }

    /// Rows of `linkerd stat <args> -n <this namespace> -o json`.
    ///
    /// # Errors
    /// When the CLI fails.
    pub fn stat(&self, args: &[&str]) -> Result<Vec<Row>> {
        stat::rows(
            &self.cluster,
            &[args, &["--namespace", &self.name]].concat(),
        )
    }

    /// Waits until `condition` is true of the Job.
    ///
    /// # Errors
    /// When it is not within `patience`.
    pub fn wait_for_job(&self, job: &str, condition: &str, patience: Duration) -> Result<()> {
        eventually_within(patience, &format!("job {job} is {condition}"), || {
            let job = self.get(&["job", job])?;
            let conditions = job["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            conditions
                .iter()
                .any(|c| c["type"] == condition && c["status"] == "True")
                .then_some(())
                .with_context(|| job["status"].to_string())
        })
    }

    /// Pods, events and logs, for people who read about a failed test.
    pub fn describe(&self) -> String {
        let say = |args: &[&str]| match self.kubectl(args) {
            Ok(text) => text,
            Err(error) => format!("{error:#}\n"),
        };
        let mut text = format!("--- {} ---\n", self.name);
        text += &say(&["get", "pods,secrets,configmaps", "-o", "wide"]);
        text += &say(&["get", "events", "--sort-by=.lastTimestamp"]);
        let names = say(&["get", "pods", "-o", "jsonpath={.items[*].metadata.name}"]);
        for pod in names.split_whitespace() {
            text += &format!("--- {pod} ---\n");
            text += &say(&["logs", pod, "--all-containers", "--prefix", LOG_LINES]);
        }
        text
    }
}
