//! An annotation is enough: pods of a namespace that asks for it come with a proxy, speak mutual TLS, and
//! what asks for a proxy and has none is told of.

use anyhow::{Context as _, Result, ensure};
use e2e::{Namespace, Workload, eventually, in_namespace, service};
use serde_json::Value;

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
        let deployment = |name: &str, change: &dyn Fn(&mut Value)| -> Result<String> {
            let workload = Workload::new(name, image, &["emoji"]).deployment();
            let mut object: Value = serde_json::from_str(workload.trim_start_matches("---"))?;
            change(&mut object["spec"]["template"]);
            Ok(object.to_string())
        };
        let without = deployment("without", &|template| {
            template["metadata"]["annotations"] =
                serde_json::json!({"linkerd.io/inject": "disabled"});
        })?;
        let refused = deployment("refused", &|template| {
            template["metadata"]["annotations"] =
                serde_json::json!({"config.linkerd.io/proxy-uid": "root"});
        })?;
        namespace.apply(&without)?;
        namespace.apply(&refused)?;
        namespace.wait_until_ready(&["without", "refused"])?;
        for name in ["without", "refused"] {
            let pod = pod(namespace, name)?;
            ensure!(!has_proxy(&pod), "{pod:#}");
        }
        let regarding = "regarding.kind=Deployment,regarding.name=refused";
        eventually("an Event on the Deployment", || {
            let events = namespace.get(&["events.events.k8s.io", "--field-selector", regarding])?;
            let events = events["items"].as_array().context("a list")?;
            let told = events.iter().find(|event| event["reason"] == "NotMeshed");
            let note = told.context("none yet")?["note"].to_string();
            ensure!(note.contains("config.linkerd.io/proxy-uid"), "{note}");
            Ok(())
        })?;
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
