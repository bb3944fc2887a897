//! Wrong input on a real cluster: clear words on stderr, an exit code that is not 0, and nothing
//! half-done.

use std::{env, fs, path::Path};

use anyhow::{Result, ensure};
use e2e::{Cluster, Output, in_namespace, on_cluster};

#[test]
fn an_unknown_resource_type_is_named() -> Result<()> {
    on_cluster("wrong-type", |cluster| {
        refused(cluster, &["stat", "sandwiches"], "", &["sandwiches"])
    })
}

#[test]
fn a_resource_that_does_not_exist_is_named() -> Result<()> {
    in_namespace("wrong-name", |namespace| {
        let args = ["stat", "deployment/nobody", "-n", &namespace.name];
        refused(&namespace.cluster, &args, "", &["nobody", "not found"])
    })
}

#[test]
fn a_missing_control_plane_is_named() -> Result<()> {
    in_namespace("no-plane", |namespace| {
        let cluster = Cluster {
            control_plane_namespace: namespace.name.clone(),
            ..namespace.cluster.clone()
        };
        let words = [&*namespace.name, "linkerd check"];
        refused(&cluster, &["stat", "authority"], "", &words)
    })
}

#[test]
fn a_missing_cluster_is_named() -> Result<()> {
    on_cluster("no-cluster", |cluster| {
        // Nothing listens on port 1.
        let kubeconfig = kubeconfig("https://127.0.0.1:1", "", "nobody");
        with_kubeconfig(cluster, "no-cluster", &kubeconfig, |cluster| {
            refused(cluster, &["stat", "authority"], "", &["127.0.0.1:1"])?;
            let check = cluster.linkerd(&["check"], "")?;
            ensure!(check.code.is_some_and(|code| code != 0), "{check:?}");
            Ok(())
        })
    })
}

#[test]
fn missing_permission_is_named() -> Result<()> {
    in_namespace("no-permission", |namespace| {
        let cluster = &namespace.cluster;
        namespace.kubectl(&["create", "serviceaccount", "guest"])?;
        let token = namespace.kubectl(&["create", "token", "guest"])?;
        let jsonpath = |what: &str| {
            cluster.kubectl(&[
                "config",
                "view",
                "--minify",
                "--raw",
                "-o",
                &format!("jsonpath={{.clusters[0].cluster.{what}}}"),
            ])
        };
        let server = jsonpath("server")?;
        let authority = jsonpath("certificate-authority-data")?;
        let kubeconfig = kubeconfig(&server, &authority, token.trim());
        with_kubeconfig(cluster, "no-permission", &kubeconfig, |cluster| {
            refused(cluster, &["stat", "authority"], "", &["no permission"])
        })
    })
}

#[test]
fn an_unknown_tls_mode_is_named_and_nothing_is_printed() -> Result<()> {
    on_cluster("wrong-tls", |cluster| {
        refused(
            cluster,
            &["inject", "--tls=sometimes", "-"],
            GOOD,
            &["--tls", "optional"],
        )?;
        refused(
            cluster,
            &["install", "--tls=sometimes"],
            "",
            &["--tls", "optional"],
        )
    })
}

#[test]
fn broken_yaml_in_the_third_document_leaves_nothing_behind() -> Result<()> {
    in_namespace("broken-yaml", |namespace| {
        let documents = [GOOD, GOOD, "kind: Deployment\n  spec: [\n", GOOD, GOOD].join("---\n");
        let args = ["inject", "--tls=optional", "-"];
        refused(&namespace.cluster, &args, &documents, &["document 3"])
    })
}

const GOOD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: good\n";

/// The CLI refuses, says why, and prints nothing that a pipe would take for manifests.
fn refused(cluster: &Cluster, args: &[&str], input: &str, words: &[&str]) -> Result<()> {
    let Output {
        code,
        stdout,
        stderr,
    } = cluster.linkerd(args, input)?;
    ensure!(
        code.is_some_and(|code| code != 0),
        "{args:?} ended with {code:?}: {stderr}"
    );
    ensure!(stdout.is_empty(), "{args:?} printed {stdout}");
    for word in words {
        let said = stderr.to_lowercase().contains(&word.to_lowercase());
        ensure!(said, "{args:?} does not speak of {word:?}: {stderr}");
    }
    ensure!(!stderr.contains("panicked"), "{stderr}");
    Ok(())
}

fn kubeconfig(server: &str, authority: &str, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
         clusters: [{{name: it, cluster: {{server: \"{server}\", \
         certificate-authority-data: \"{authority}\"}}}}]\n\
         users: [{{name: it, user: {{token: \"{token}\"}}}}]\n\
         contexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n"
    )
}

fn with_kubeconfig(
    cluster: &Cluster,
    name: &str,
    text: &str,
    test: impl FnOnce(&Cluster) -> Result<()>,
) -> Result<()> {
    let path = env::temp_dir().join(format!("linkerd-e2e-{name}.kubeconfig"));
    fs::write(&path, text)?;
    let outcome = test(&Cluster {
        kubeconfig: path.clone(),
        ..cluster.clone()
    });
    remove(&path)?;
    outcome
}

fn remove(path: &Path) -> Result<()> {
    Ok(fs::remove_file(path)?)
}
