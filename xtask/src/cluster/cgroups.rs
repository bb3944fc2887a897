//! The cgroups under which the nodes keep their pods, in version 1 (one hierarchy per controller)
//! and version 2 (one for all) alike. Entries: [`create`], [`pids`], [`remove`].

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Pid;

use super::layout::{CGROUP, node_name};
use super::process;

/// What a kubelet asks of a version 2 cgroup, when the kernel has it.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];
/// A cgroup stays busy for a moment after its last process has ended.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the cgroup of node `number` in every hierarchy.
pub(super) fn create(number: usize) -> Result<()> {
    for hierarchy in hierarchies()? {
        let ours = hierarchy.join(CGROUP);
        delegate(&hierarchy)?;
        make(&ours)?;
        delegate(&ours)?;
        make(&ours.join(node_name(number)))?;
    }
    Ok(())
}

/// Returns the name under which node `number` knows its cgroup.
pub(super) fn name(number: usize) -> String {
    format!("/{CGROUP}/{}", node_name(number))
}

/// Returns the processes that run in cgroups of ours.
pub(super) fn pids() -> Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for hierarchy in hierarchies()? {
        for folder in tree(&hierarchy.join(CGROUP))? {
            // A cgroup that goes while we look has no processes any more.
            let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            pids.extend(
                procs
                    .lines()
                    .filter_map(|pid| pid.parse().ok())
                    .filter_map(Pid::from_raw),
            );
        }
    }
    pids.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
    pids.dedup();
    Ok(pids)
}

/// Removes our cgroups; no process may be left in them.
///
/// # Errors
/// When one is still busy after 10 s.
pub(super) fn remove() -> Result<()> {
    for hierarchy in hierarchies()? {
        let ours = hierarchy.join(CGROUP);
        process::wait(
            &format!("the removal of {}", ours.display()),
            REMOVE_TIMEOUT,
            || {
                let folders = tree(&ours)?;
                // What is busy is tried again until the time is over.
                Ok(folders
                    .iter()
                    .rev()
                    .filter(|folder| fs::remove_dir(folder).is_err())
                    .count()
                    == 0)
            },
        )?;
    }
    Ok(())
}

/// Whether a cgroup of ours exists.
pub(super) fn exist() -> Result<bool> {
    Ok(hierarchies()?
        .iter()
        .any(|hierarchy| hierarchy.join(CGROUP).exists()))
}

/// Returns the root of every hierarchy.
pub(super) fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.procs").exists() {
        return Ok(vec![root.to_path_buf()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root).context("cannot read /sys/fs/cgroup")? {
        let entry = entry?;
        // Links such as `cpu` to `cpu,cpuacct` name a hierarchy a second time.
        if entry.file_type()?.is_dir() && entry.path().join("cgroup.procs").exists() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Makes a cgroup. In version 1, one of cpuset takes no process before it is told its share.
fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let parent = folder.parent().expect("a cgroup has a parent");
    if parent.join("cgroup.controllers").exists() {
        return Ok(());
    }
    for share in ["cpuset.cpus", "cpuset.mems"] {
        if folder.join(share).exists() {
            let value = read(&parent.join(share))?;
            write(&folder.join(share), value.trim())?;
        }
    }
    Ok(())
}

/// Lets the cgroups below `folder` use its controllers; in version 1 there is nothing to do.
fn delegate(folder: &Path) -> Result<()> {
    if !folder.join("cgroup.subtree_control").exists() {
        return Ok(());
    }
    let available = read(&folder.join("cgroup.controllers"))?;
    for controller in available
        .split_whitespace()
        .filter(|name| CONTROLLERS.contains(name))
    {
        write(
            &folder.join("cgroup.subtree_control"),
            &format!("+{controller}"),
        )?;
    }
    Ok(())
}

/// Returns `folder` and all folders below it, parents first; none when it does not exist.
fn tree(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut folders = vec![folder.to_path_buf()];
    let mut next = 0;
    while let Some(folder) = folders.get(next) {
        next += 1;
        // A folder that goes while we look has nothing below it.
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        let below: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        folders.extend(below.into_iter().filter(|path| path.is_dir()));
    }
    Ok(folders)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_lists_parents_before_what_is_below() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/file"), "").unwrap();
        let root = folder.path().to_path_buf();
        assert_eq!(
            tree(&root).unwrap(),
            [root.clone(), root.join("a"), root.join("a/b")]
        );
    }

    #[test]
    fn a_tree_that_is_not_there_is_empty() {
        assert!(tree(Path::new("/no/such/folder")).unwrap().is_empty());
    }
}
