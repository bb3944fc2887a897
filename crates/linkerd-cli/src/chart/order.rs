//! The order in which objects are applied: what others need comes first, as Helm does it.
//! Entry: [`documents`] takes a rendered template apart, [`sorted`] puts all of them together.

/// Kinds in the order in which they are applied; others come last.
const KINDS: [&str; 13] = [
    "Namespace",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Service",
    "DaemonSet",
    "Deployment",
];

/// The documents of a rendered template; those without content are left out.
pub(super) fn documents(rendered: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in rendered.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let mut documents: Vec<String> = documents
        .iter()
        .map(|document| format!("{}\n", document.trim()))
        .collect();
    documents.retain(|document| {
        document
            .lines()
            .any(|line| !line.trim().is_empty() && !line.trim().starts_with('#'))
    });
    documents
}

/// The documents in the order of their kinds, each after a `---`.
pub(super) fn sorted(mut documents: Vec<String>) -> String {
    documents.sort_by_key(|document| rank(document));
    documents
        .iter()
        .map(|document| format!("---\n{document}"))
        .collect()
}

fn rank(document: &str) -> usize {
    let kind = document
        .lines()
        .find_map(|line| line.strip_prefix("kind:"))
        .map(str::trim);
    KINDS
        .iter()
        .position(|known| Some(*known) == kind)
        .unwrap_or(KINDS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_need_comes_first() {
        let rendered =
            "\nkind: Deployment\n---\n# nothing\n---\nkind: Widget\n---\nkind: Service\n";
        let text = sorted(documents(rendered));
        assert_eq!(
            text,
            "---\nkind: Service\n---\nkind: Deployment\n---\nkind: Widget\n"
        );
    }
}
