//! Says how the cluster is. Entry: [`Status::read`].

use std::fmt::{self, Display};
use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::layout::{Layout, node_name};
use super::node::KUBELET;
use super::{control_plane, node, process};
use crate::command;

/// What runs and what does not.
pub(super) struct Status {
    /// Number of nodes that `up` made; none when it never came to its end, or was not called.
    pub(super) nodes: Option<usize>,
    /// Each component and whether it runs.
    pub(super) components: Vec<(String, bool)>,
    /// Names of the nodes that are not ready.
    pub(super) not_ready: Vec<String>,
    /// Whether the API server says that it is ready.
    pub(super) api_ready: bool,
}

impl Status {
    /// Looks at the processes and asks the API server.
    pub(super) fn read(layout: &Layout) -> Result<Self> {
        let nodes = nodes(layout)?;
        let running = process::find(&layout.state)?;
        let mut components = Vec::new();
        for name in control_plane::COMPONENTS {
            let runs = running
                .iter()
                .any(|process| process.is_component(name, &layout.state));
            components.push((name.to_owned(), runs));
        }
        for number in 1..=nodes.unwrap_or_default() {
            for name in node::COMPONENTS {
                let runs = node::component(&running, layout, number, name).is_some();
                components.push((format!("{name} of {}", node_name(number)), runs));
            }
        }
        let api_ready = layout.kubectl().exists() && control_plane::is_ready(layout);
        let not_ready = match (api_ready, nodes) {
            (true, Some(nodes)) => not_ready(layout, nodes)?,
            (false, Some(nodes)) => (1..=nodes).map(node_name).collect(),
            (_, None) => Vec::new(),
        };
        Ok(Self {
            nodes,
            components,
            not_ready,
            api_ready,
        })
    }

    /// Whether all of it works.
    pub(super) fn is_healthy(&self) -> bool {
        self.nodes.is_some()
            && self.api_ready
            && self.not_ready.is_empty()
            && self.components.iter().all(|(_, runs)| *runs)
    }

    /// Whether all processes but kubelets, which are stopped on purpose at times, are there.
    pub(super) fn is_whole(&self) -> bool {
        let mut components = self.components.iter();
        self.nodes.is_some() && components.all(|(name, runs)| *runs || name.starts_with(KUBELET))
    }

    /// Whether nothing of it runs.
    pub(super) fn is_down(&self) -> bool {
        self.components.iter().all(|(_, runs)| !runs)
    }
}

impl Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, runs) in &self.components {
            writeln!(
                f,
                "{name:<28} {}",
                if *runs { "running" } else { "NOT RUNNING" }
            )?;
        }
        writeln!(
            f,
            "{:<28} {}",
            "API server",
            if self.api_ready { "ready" } else { "NOT READY" }
        )?;
        for name in &self.not_ready {
            writeln!(f, "{name:<28} NOT READY")?;
        }
        Ok(())
    }
}

/// Notes that the cluster with this many nodes is complete.
pub(super) fn write_nodes(layout: &Layout, nodes: usize) -> Result<()> {
    let path = layout.state.join("nodes");
    fs::write(&path, format!("{nodes}\n")).with_context(|| format!("cannot write {path:?}"))
}

fn nodes(layout: &Layout) -> Result<Option<usize>> {
    let path = layout.state.join("nodes");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Returns the names of those of the nodes that are not ready, or not there.
pub(super) fn not_ready(layout: &Layout, nodes: usize) -> Result<Vec<String>> {
    let list =
        command::output(control_plane::kubectl(layout).args(["get", "nodes", "-o", "json"]))?;
    let ready = ready_nodes(&list)?;
    Ok((1..=nodes)
        .map(node_name)
        .filter(|name| !ready.contains(name))
        .collect())
}

/// Returns the names of the ready nodes in a list as the API server gives it.
fn ready_nodes(list: &str) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Node>,
    }
    #[derive(Deserialize)]
    struct Node {
        metadata: Metadata,
        status: NodeStatus,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
    }
    #[derive(Deserialize)]
    struct NodeStatus {
        #[serde(default)]
        conditions: Vec<Condition>,
    }
    #[derive(Deserialize)]
    struct Condition {
        r#type: String,
        status: String,
    }
    let list: List = serde_json::from_str(list).context("cannot read the list of nodes")?;
    let ready = |node: &Node| {
        let mut conditions = node.status.conditions.iter();
        conditions.any(|condition| condition.r#type == "Ready" && condition.status == "True")
    };
    Ok(list
        .items
        .into_iter()
        .filter(ready)
        .map(|node| node.metadata.name)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_when_its_condition_says_so() {
        let list = r#"{"items": [
            {"metadata": {"name": "node1"},
             "status": {"conditions": [{"type": "MemoryPressure", "status": "False"},
                                       {"type": "Ready", "status": "True"}]}},
            {"metadata": {"name": "node2"},
             "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
            {"metadata": {"name": "node3"}, "status": {}}]}"#;
        assert_eq!(ready_nodes(list).unwrap(), ["node1"]);
        assert!(ready_nodes("{}").is_err());
    }
}
