//! What the cluster could leave behind on the machine, as it is now. Entry: [`MachineState::read`].

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::machine::{OWN_FOLDERS, SETTINGS};
use crate::command;

/// The machine's mounts, namespaces, links, routes, packet rules, cgroups, settings and folders: one
/// line for each.
pub(super) struct MachineState(BTreeSet<String>);

impl MachineState {
    /// Reads it from the kernel.
    pub(super) fn read() -> Result<Self> {
        let mut lines = BTreeSet::new();
        for mount in read("/proc/self/mountinfo")?.lines() {
            let point = mount
                .split_whitespace()
                .nth(4)
                .context("a mount has a mount point")?;
            lines.insert(format!("mount {point}"));
        }
        for kind in ["net", "mnt", "pid"] {
            for namespace in namespaces(kind)? {
                lines.insert(format!("namespace {namespace}"));
            }
        }
        for entry in fs::read_dir("/sys/class/net")? {
            lines.insert(format!("link {}", entry?.file_name().display()));
        }
        for words in [
            &["ip", "route"][..],
            &["iptables-save"],
            &["ip", "netns", "list"],
        ] {
            for line in command::output(Command::new(words[0]).args(&words[1..]))?.lines() {
                // Dates and counters differ without any change.
                if !line.starts_with('#') {
                    let line = line.split(" [").next().unwrap_or(line);
                    lines.insert(format!("{}: {line}", words.join(" ")));
                }
            }
        }
        for hierarchy in super::cgroups::hierarchies()? {
            for entry in fs::read_dir(&hierarchy)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    lines.insert(format!("cgroup {}", entry.path().display()));
                }
            }
        }
        for setting in SETTINGS.into_iter().chain(["net/ipv4/ip_forward"]) {
            let value = fs::read_to_string(Path::new("/proc/sys").join(setting));
            lines.insert(format!(
                "setting {setting} {}",
                value.unwrap_or_default().trim()
            ));
        }
        let elsewhere = [
            "/run/containerd",
            "/var/lib/containerd",
            "/opt/containerd",
            "/usr/libexec/kubernetes",
        ];
        for folder in OWN_FOLDERS.into_iter().chain(elsewhere) {
            if Path::new(folder).exists() {
                lines.insert(format!("folder {folder}"));
            }
        }
        Ok(Self(lines))
    }

    /// Returns what `after` has more, and what it lacks.
    pub(super) fn changes(&self, after: &Self) -> Vec<String> {
        let more = after.0.difference(&self.0).map(|line| format!("+ {line}"));
        let less = self.0.difference(&after.0).map(|line| format!("- {line}"));
        more.chain(less).collect()
    }
}

/// Returns every namespace of a kind in which a process runs.
fn namespaces(kind: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let entry = entry?.path();
        // Most entries are no process, processes end while we look, and one that has ended but was
        // not reaped by its parent has no program any more.
        if let (Ok(_), Ok(namespace)) = (
            fs::read_link(entry.join("exe")),
            fs::read_link(entry.join("ns").join(kind)),
        ) {
            found.insert(namespace.display().to_string());
        }
    }
    Ok(found)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_came_and_what_went() {
        let state =
            |lines: &[&str]| MachineState(lines.iter().map(|&line| line.to_owned()).collect());
        let changes = state(&["link a", "link b"]).changes(&state(&["link b", "link c"]));
        assert_eq!(changes, ["+ link c", "- link a"]);
    }
}
