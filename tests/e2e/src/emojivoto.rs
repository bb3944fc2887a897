//! The sample application in a test's own namespace, with some of its Deployments meshed.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::Namespace;

/// The sample application in one namespace.
#[derive(Debug)]
pub struct Emojivoto<'a> {
    namespace: &'a Namespace,
}

impl<'a> Emojivoto<'a> {
    /// Its Deployments.
    pub const DEPLOYMENTS: [&'static str; 4] = ["emoji", "voting", "web", "vote-bot"];

    /// The manifests of the repository, for `namespace`; none of it is meshed.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn manifests(namespace: &Namespace) -> Result<String> {
        let manifests = manifests(&namespace.name)?;
        Ok(manifests.replace("localhost/linkerd/emojivoto:v1", &namespace.cluster.image))
    }

    /// Applies the application to `namespace`, with a proxy in the Deployments `meshed`, and waits
    /// until it is ready.
    ///
    /// # Errors
    /// When a command fails, or a pod does not become ready.
    pub fn deploy(namespace: &'a Namespace, meshed: &[&str]) -> Result<Self> {
        Self::deploy_text(namespace, meshed, &Self::manifests(namespace)?)
    }

    /// The same with all of it meshed, and with two pods of each Deployment, never on the same node.
    ///
    /// # Errors
    /// When a command fails, or a pod does not become ready, as when there are not two nodes.
    pub fn deploy_twice(namespace: &'a Namespace) -> Result<Self> {
        let manifests = twice(&Self::manifests(namespace)?);
        Self::deploy_text(namespace, &Self::DEPLOYMENTS, &manifests)
    }

    /// The same with all of it meshed, and all of it on one node.
    ///
    /// # Errors
    /// When a command fails, or a pod does not become ready.
    pub fn deploy_on(namespace: &'a Namespace, node: &str) -> Result<Self> {
        let manifests = on_node(&Self::manifests(namespace)?, node);
        Self::deploy_text(namespace, &Self::DEPLOYMENTS, &manifests)
    }

    fn deploy_text(namespace: &'a Namespace, meshed: &[&str], manifests: &str) -> Result<Self> {
        for document in manifests.split("\n---\n") {
            if meshed.iter().any(|name| is_deployment(document, name)) {
                namespace.apply_meshed(document)?;
            } else {
                namespace.apply(document)?;
            }
        }
        namespace.wait_until_ready(&Self::DEPLOYMENTS)?;
        Ok(Self { namespace })
    }

    /// The text of an authority as the application's clients send it, for example
    /// `web-svc.<namespace>:80`.
    pub fn authority(&self, service: &str, port: u16) -> String {
        format!("{service}.{}:{port}", self.namespace.name)
    }
}

/// The manifests of the repository, moved to another namespace.
fn manifests(namespace: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../emojivoto/emojivoto.yml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text
        .replace(
            "namespace: emojivoto\n",
            &format!("namespace: {namespace}\n"),
        )
        .replace("name: emojivoto\n", &format!("name: {namespace}\n"))
        .replace("-svc.emojivoto:", &format!("-svc.{namespace}:")))
}

/// Two pods of each Deployment, which keep away from each other.
fn twice(manifests: &str) -> String {
    let documents = manifests.split("\n---\n").map(|document| {
        let named = |name: &&&str| is_deployment(document, name);
        let Some(name) = Emojivoto::DEPLOYMENTS.iter().find(named) else {
            return document.to_owned();
        };
        let affinity = format!(
            "\n    spec:\n      affinity: {{podAntiAffinity: \
             {{requiredDuringSchedulingIgnoredDuringExecution: \
             [{{topologyKey: kubernetes.io/hostname, \
             labelSelector: {{matchLabels: {{app: {name}}}}}}}]}}}}\n"
        );
        document
            .replace("\n  replicas: 1\n", "\n  replicas: 2\n")
            .replace("\n    spec:\n", &affinity)
    });
    documents.collect::<Vec<_>>().join("\n---\n")
}

/// Every pod on `node`.
fn on_node(manifests: &str, node: &str) -> String {
    let selector = format!("\n    spec:\n      nodeSelector: {{kubernetes.io/hostname: {node}}}\n");
    manifests.replace("\n    spec:\n", &selector)
}

fn is_deployment(document: &str, name: &str) -> bool {
    document.contains("\nkind: Deployment\n") && document.contains(&format!("\n  name: {name}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pods_of_a_deployment_keep_away_from_each_other() {
        let text = twice(&manifests("elsewhere").unwrap());
        assert_eq!(text.matches("\n  replicas: 2\n").count(), 4);
        assert_eq!(text.matches("podAntiAffinity").count(), 4);
        assert!(text.contains("{matchLabels: {app: vote-bot}}"));
    }

    #[test]
    fn every_deployment_can_be_on_one_node() {
        let text = on_node(&manifests("elsewhere").unwrap(), "node2");
        let selectors = text.matches("nodeSelector: {kubernetes.io/hostname: node2}");
        assert_eq!(selectors.count(), Emojivoto::DEPLOYMENTS.len());
    }

    #[test]
    fn nothing_of_the_first_namespace_is_left() {
        let text = manifests("elsewhere").unwrap();
        let left: Vec<_> = text
            .lines()
            .filter(|line| line.contains("emojivoto"))
            .collect();
        assert!(
            left.iter().all(|line| line.contains("/emojivoto")),
            "only the image and the binary keep the name: {left:#?}"
        );
        for name in Emojivoto::DEPLOYMENTS {
            let found = text
                .split("\n---\n")
                .filter(|d| is_deployment(&format!("\n{d}"), name));
            assert_eq!(found.count(), 1, "{name}");
        }
    }
}
