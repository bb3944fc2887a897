//! An annotation is enough: pods of a namespace that asks for it come with a proxy, speak mutual TLS, and
//! what asks for a proxy and has none is told of.

use anyhow::{Context as _, Result, ensure};
use e2e::{Metrics, Namespace, Workload, eventually, in_namespace, service};
use serde_json::Value;

const INJECTOR: &str = "deployment/linkerd-injector";
const INJECTOR_PODS: &str = "linkerd.io/control-plane-component=linkerd-injector";

#[test]
fn the_pods_of_an_annotated_namespace_speak_mutual_tls() -> Result<()> {
    in_namespace("injector", |namespace| {
        annotate(namespace)?;
        let image = &namespace.cluster.image;
        let emoji = Workload {
            port: Some(8080),
            ..Workload::new("emoji", image, &["emoji"])
        };
        let server = Workload {
            port: Some(8080),
            ..Workload::new("server", image, &["web", "--emoji-host", "emoji:8080"])
        };
        namespace.apply(&emoji.deployment())?;
        namespace.apply(&server.deployment())?;
        namespace.apply(&service("emoji", "emoji", 8080, 8080))?;
        namespace.apply(&service("server", "server", 8080, 8080))?;
        namespace.wait_until_ready(&["emoji", "server"])?;
        for name in ["emoji", "server"] {
            let pod = pod(namespace, name)?;
            ensure!(has_proxy(&pod), "{pod:#}");
            let labels = &pod["metadata"]["labels"];
            ensure!(labels["linkerd.io/proxy-deployment"] == name, "{labels:#}");
        }

        // It ends only after a request over mutual TLS, and it is a Job: its pod is injected as well.
        let args = ["first-mtls", "http://server:8080/"];
        namespace.apply(&Workload::new("once", image, &args).job())?;
        let patience = std::time::Duration::from_secs(180);
        namespace.wait_for_job("once", "Complete", patience)?;
        ensure!(namespace.logs("once")?.contains("first_mtls_unix_ms"));
        Ok(())
    })
}

#[test]
fn a_pod_that_says_disabled_is_left_and_one_that_cannot_be_meshed_is_told_of() -> Result<()> {
    in_namespace("injector-not", |namespace| {
        annotate(namespace)?;
        let image = &namespace.cluster.image;
        let without = annotated("without", image, "linkerd.io/inject", "disabled")?;
        let refused = annotated("refused", image, "config.linkerd.io/proxy-uid", "root")?;
        namespace.apply(&without)?;
        namespace.apply(&refused)?;
        namespace.wait_until_ready(&["without", "refused"])?;
        for name in ["without", "refused"] {
            let pod = pod(namespace, name)?;
            ensure!(!has_proxy(&pod), "{pod:#}");
        }
        told_of(namespace, "refused", "config.linkerd.io/proxy-uid")?;
        let check = namespace
            .cluster
            .linkerd(&["check", "--output", "json"], "")?;
        let expected = format!("pod {}/refused-", namespace.name);
        ensure!(check.stdout.contains(&expected), "{}", check.stdout);
        let left = format!("pod {}/without-", namespace.name);
        ensure!(!check.stdout.contains(&left), "{}", check.stdout);
        ensure!(
            check
                .stdout
                .contains("the API server trusts linkerd-injector"),
            "{}",
            check.stdout
        );
        Ok(())
    })
}

#[test]
fn pods_about_which_the_injector_was_not_asked_are_told_of_until_they_are_restarted() -> Result<()>
{
    in_namespace("injector-unasked", |namespace| {
        let plane = Namespace {
            cluster: namespace.cluster.clone(),
            name: namespace.cluster.control_plane_namespace.clone(),
        };
        let deployment = plane.get(&[INJECTOR])?;
        let replicas = format!("--replicas={}", deployment["spec"]["replicas"]);
        let created = create_unasked(namespace, &plane);
        plane.kubectl(&["scale", INJECTOR, &replicas])?;
        created?;
        plane.wait_until_ready(&["linkerd-injector"])?;

        // One asks itself, and was created without us; the other one is asked for only now.
        annotate(namespace)?;
        let names = ["missed", "older"];
        for name in names {
            let remedy = format!(
                "kubectl rollout restart deployment/{name} -n {}",
                namespace.name
            );
            told_of(namespace, name, &remedy)?;
        }
        eventually("both are counted", || need_restart(&plane, 2.0))?;
        let mark = format!("pod {}/", namespace.name);
        let check = namespace.cluster.linkerd(&["check"], "")?.stdout;
        ensure!(check.contains(&mark), "{check}");

        for name in names {
            namespace.kubectl(&["rollout", "restart", &format!("deployment/{name}")])?;
        }
        namespace.wait_until_ready(&names)?;
        eventually("none is counted", || need_restart(&plane, 0.0))?;
        for name in names {
            let pod = pod(namespace, name)?;
            ensure!(has_proxy(&pod), "{pod:#}");
        }
        let check = namespace.cluster.linkerd(&["check"], "")?.stdout;
        ensure!(!check.contains(&mark), "{check}");
        Ok(())
    })
}

/// Takes the injector away, and creates two Deployments meanwhile.
fn create_unasked(namespace: &Namespace, plane: &Namespace) -> Result<()> {
    plane.kubectl(&["scale", INJECTOR, "--replicas=0"])?;
    eventually("the injector is away", || {
        let pods = plane.get(&["pods", "-l", INJECTOR_PODS])?;
        ensure!(pods["items"] == serde_json::json!([]), "{pods:#}");
        Ok(())
    })?;
    let image = &namespace.cluster.image;
    namespace.apply(&annotated("missed", image, "linkerd.io/inject", "enabled")?)?;
    namespace.apply(&Workload::new("older", image, &["emoji"]).deployment())?;
    namespace.wait_until_ready(&["missed", "older"])
}

/// Every replica of the injector counts so many pods that need a restart.
fn need_restart(plane: &Namespace, expected: f64) -> Result<()> {
    let pods = plane.get(&["pods", "-l", INJECTOR_PODS])?;
    let pods = pods["items"].as_array().context("a list")?;
    ensure!(!pods.is_empty(), "no replica");
    for pod in pods {
        let pod = pod["metadata"]["name"].as_str().context("a name")?;
        let path = format!(
            "/api/v1/namespaces/{}/pods/{pod}:9993/proxy/metrics",
            plane.name
        );
        let metrics = Metrics(plane.kubectl(&["get", "--raw", &path])?);
        let labels = ["reason=\"needs_restart\""];
        let found = metrics.sum("linkerd_injector_pods_without_proxy", &labels);
        ensure!((found - expected).abs() < f64::EPSILON, "{pod}: {found}");
    }
    Ok(())
}

/// Waits for an Event on the Deployment that says this.
fn told_of(namespace: &Namespace, deployment: &str, part: &str) -> Result<()> {
    let regarding = format!("regarding.kind=Deployment,regarding.name={deployment}");
    eventually("an Event on the Deployment", || {
        let events = namespace.get(&["events.events.k8s.io", "--field-selector", &regarding])?;
        let events = events["items"].as_array().context("a list")?;
        let told = events.iter().find(|event| event["reason"] == "NotMeshed");
        let note = told.context("none yet")?["note"].to_string();
        ensure!(note.contains(part), "{note}");
        Ok(())
    })
}

/// A Deployment whose pod template has one annotation.
fn annotated(name: &str, image: &str, annotation: &str, word: &str) -> Result<String> {
    let deployment = Workload::new(name, image, &["emoji"]).deployment();
    let mut object: Value = serde_json::from_str(deployment.trim_start_matches("---"))?;
    object["spec"]["template"]["metadata"]["annotations"] = serde_json::json!({ annotation: word });
    Ok(object.to_string())
}

fn annotate(namespace: &Namespace) -> Result<()> {
    let name = &namespace.name;
    let args = ["annotate", "namespace", name, "linkerd.io/inject=enabled"];
    namespace.cluster.kubectl(&args)?;
    Ok(())
}

/// The one pod with label `app: <app>`.
fn pod(namespace: &Namespace, app: &str) -> Result<Value> {
    let name = namespace.pod(app)?;
    namespace.get(&["pod", &name])
}

fn has_proxy(pod: &Value) -> bool {
    let containers = pod["spec"]["initContainers"].as_array();
    let mut containers = containers.into_iter().flatten();
    containers.any(|container| container["name"] == "linkerd-proxy")
}
