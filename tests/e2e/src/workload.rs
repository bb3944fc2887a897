//! Manifests of the sample application's parts, for tests that need them one by one, and of what else has
//! pods. Entries: [`Workload`], [`deployment`], [`service`].

use serde_json::{Value, json};

/// One container of the sample application, as a Deployment or a Job.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// Name of the object, of its container, and of the label `app`.
    pub name: &'a str,
    /// Image of the sample application.
    pub image: &'a str,
    /// Subcommand and its arguments.
    pub args: &'a [&'a str],
    /// Port on which it listens; it is ready when it does.
    pub port: Option<u16>,
    /// Node on which it must run.
    pub node: Option<&'a str>,
    /// How many pods a Deployment has.
    pub replicas: u32,
    /// Arguments of an init container; empty for none.
    pub init_args: &'a [&'a str],
    /// Seconds from the decision to end a pod to SIGTERM; 0 for none.
    pub pre_stop_seconds: u32,
    /// Seconds after which a pod that is to end is killed.
    pub grace_seconds: u32,
}

impl<'a> Workload<'a> {
    /// A workload of one pod that listens nowhere and runs anywhere.
    pub fn new(name: &'a str, image: &'a str, args: &'a [&'a str]) -> Self {
        Self {
            name,
            image,
            args,
            port: None,
            node: None,
            replicas: 1,
            init_args: &[],
            pre_stop_seconds: 0,
            grace_seconds: 10,
        }
    }

    /// The manifest of a Deployment.
    pub fn deployment(&self) -> String {
        deployment(self.name, self.replicas, &self.pod_spec("Always"))
    }

    /// The manifest of a Job that is not tried again.
    pub fn job(&self) -> String {
        let labels = json!({ "app": self.name });
        document(&json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": self.name },
            "spec": {
                "backoffLimit": 0,
                "template": { "metadata": { "labels": labels }, "spec": self.pod_spec("Never") },
            },
        }))
    }

    fn pod_spec(&self, restart_policy: &str) -> Value {
        let mut container = json!({
            "name": self.name,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "args": self.args,
        });
        if let Some(port) = self.port {
            let command = ["/emojivoto", "ready", &format!("127.0.0.1:{port}")];
            container["ports"] = json!([{ "containerPort": port }]);
            container["readinessProbe"] = json!({ "exec": { "command": command } });
        }
        if self.pre_stop_seconds > 0 {
            let sleep = json!({ "seconds": self.pre_stop_seconds });
            container["lifecycle"] = json!({ "preStop": { "sleep": sleep } });
        }
        let mut spec = json!({
            "restartPolicy": restart_policy,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": self.grace_seconds,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 1000 },
            "containers": [container],
        });
        if let Some(node) = self.node {
            spec["nodeSelector"] = json!({ "kubernetes.io/hostname": node });
        }
        if !self.init_args.is_empty() {
            spec["initContainers"] = json!([{
                "name": "init",
                "image": self.image,
                "imagePullPolicy": "IfNotPresent",
                "args": self.init_args,
            }]);
        }
        spec
    }
}

/// The manifest of a Deployment of these pods, which get the label `app: <name>`.
pub fn deployment(name: &str, replicas: u32, pod_spec: &Value) -> String {
    let labels = json!({ "app": name });
    document(&json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod_spec },
        },
    }))
}

/// The manifest of a Service for the pods with label `app: <app>`.
pub fn service(name: &str, app: &str, port: u16, target_port: u16) -> String {
    document(&json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": {
            "selector": { "app": app },
            "ports": [{ "port": port, "targetPort": target_port }],
        },
    }))
}

/// The manifest of an object: JSON is YAML. Manifests may be joined.
pub fn document(object: &Value) -> String {
    format!("---\n{object}\n")
}
