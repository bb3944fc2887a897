//! Every kind of workload has its figures and its identity, not Deployments alone.

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{Namespace, Workload, beside_others, document, eventually, service};
use serde_json::{Value, json};

/// Long enough that a Job is still there when the last command has looked at it.
const REQUESTS: &str = "--count=3000";

#[test]
fn every_kind_of_workload_is_counted_and_named() -> Result<()> {
    beside_others("kinds", |namespace| {
        let image = &namespace.cluster.image;
        let emoji = Workload {
            port: Some(8080),
            ..Workload::new("emoji", image, &["emoji"])
        };
        let args = ["web", "--emoji-host", "emoji:8080"];
        let web = Workload {
            port: Some(8080),
            ..Workload::new("web", image, &args)
        };
        let load = ["load", "http://web:8080/api/list", "--rate=5", REQUESTS];
        namespace.apply(&service("emoji", "emoji", 8080, 8080))?;
        namespace.apply(&service("web", "web", 8080, 8080))?;
        namespace.apply_meshed(&as_kind("StatefulSet", &emoji, |spec| {
            spec["serviceName"] = json!("emoji");
        })?)?;
        namespace.apply_meshed(&as_kind("DaemonSet", &web, |spec| {
            spec.as_object_mut().map(|spec| spec.remove("replicas"));
        })?)?;
        namespace.kubectl(&["rollout", "status", "--timeout=180s", "statefulset/emoji"])?;
        namespace.kubectl(&["rollout", "status", "--timeout=180s", "daemonset/web"])?;
        let replicas = Workload::new("replicas", image, &load);
        namespace.apply_meshed(&as_kind("ReplicaSet", &replicas, |_| ())?)?;
        namespace.apply_meshed(&Workload::new("once", image, &load).job())?;
        let nightly = Workload::new("nightly", image, &load);
        namespace.apply_meshed(&cron_job(&nightly)?)?;
        namespace.kubectl(&["create", "job", "tonight", "--from=cronjob/nightly"])?;
        figures(namespace)?;
        identities(namespace)
    })
}

/// The Deployment of `workload` as an object of another kind with the same pods.
fn as_kind(kind: &str, workload: &Workload<'_>, change: fn(&mut Value)) -> Result<String> {
    let mut object = parsed(&workload.deployment())?;
    object["kind"] = json!(kind);
    change(&mut object["spec"]);
    Ok(document(&object))
}

/// A CronJob of the pods of `workload`, which begins none of them itself before New Year.
fn cron_job(workload: &Workload<'_>) -> Result<String> {
    let job = parsed(&workload.job())?;
    Ok(document(&json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": job["metadata"],
        "spec": {
            "schedule": "0 0 1 1 *",
            "suspend": true,
            "jobTemplate": { "spec": job["spec"] },
        },
    })))
}

fn parsed(manifest: &str) -> Result<Value> {
    let json = manifest.trim_start_matches("---");
    serde_json::from_str(json).context("a manifest of ours is JSON")
}

fn figures(namespace: &Namespace) -> Result<()> {
    eventually("figures of each kind", || {
        for args in [
            &["sts/emoji"][..],
            &["ds/web"],
            &["sts/emoji", "--from", "ds/web"],
            &["rs/replicas", "--to", "ds/web"],
            &["job/once", "--to", "svc/web"],
            &["cj/nightly", "--to", "ds/web"],
            &["ds", "--from", "cronjob/nightly"],
        ] {
            let rows = namespace.stat(args)?;
            let [row] = rows.as_slice() else {
                bail!("{args:?}: {rows:#?}");
            };
            ensure!(row.tls == Some(1.0), "{args:?}: {row:?}");
            ensure!(row.rps > Some(0.0), "{args:?}: {row:?}");
        }
        // The Job of a CronJob is a part of it, and has no row of its own unless it is named.
        let jobs = namespace.stat(&["jobs"])?;
        ensure!(jobs.len() == 1 && jobs[0].name == "once", "{jobs:#?}");
        Ok(())
    })
}

fn identities(namespace: &Namespace) -> Result<()> {
    eventually("edges of each kind", || {
        let kinds = "sts,ds,rs,job,cj";
        let args = ["edges", kinds, "-o", "json", "-n", &namespace.name];
        let text = namespace.cluster.linkerd(&args, "")?.ok()?;
        let edges: Vec<Value> = serde_json::from_str(&text)?;
        for (source, destination) in [
            ("replicas.replicaset", "web.daemonset"),
            ("once.job", "web.daemonset"),
            ("nightly.cronjob", "web.daemonset"),
            ("web.daemonset", "emoji.statefulset"),
        ] {
            let is = |identity: &Value, workload: &str| {
                let name = format!("{workload}.{}.", namespace.name);
                identity.as_str().is_some_and(|id| id.starts_with(&name))
            };
            let edge = edges
                .iter()
                .find(|it| is(&it["client_id"], source) && is(&it["server_id"], destination));
            let edge = edge.with_context(|| format!("{source} {destination}: {edges:#?}"))?;
            ensure!(edge["secured"] == true, "{edge:#}");
        }
        Ok(())
    })
}
