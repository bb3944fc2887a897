//! Ends a cluster, healthy or in pieces, and removes every trace of it. Entry: [`clear`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Pid;

use super::layout::{BRIDGE, LINK_PREFIX, Layout};
use super::{cgroups, machine, process};
use crate::command;

/// How long links may take to go.
const LINKS_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends all processes of the cluster and removes its links, cgroups and files, then puts back the
/// machine's settings. Mounts need no care: they exist inside of the nodes only.
pub(super) fn clear(layout: &Layout) -> Result<()> {
    let other = other_state(layout)?;
    process::kill(|| remaining(layout, other.as_deref()))?;
    cgroups::remove()?;
    remove_links()?;
    machine::restore(layout)?;
    if layout.state.exists() {
        fs::remove_dir_all(&layout.state)
            .with_context(|| format!("cannot remove {}", layout.state.display()))?;
    }
    Ok(())
}

/// Returns what is left of a cluster, in words for people; nothing when it is gone entirely.
pub(super) fn remains(layout: &Layout) -> Result<Vec<String>> {
    let mut remains = Vec::new();
    for process in process::find(&layout.state)? {
        remains.push(format!("process {}", process.pid.as_raw_nonzero()));
    }
    if cgroups::exist()? {
        remains.push("cgroups".to_owned());
    }
    remains.extend(links()?.into_iter().map(|link| format!("link {link}")));
    if layout.state.exists() {
        remains.push(format!("folder {}", layout.state.display()));
    }
    Ok(remains)
}

/// Returns the state folder of a cluster that was started with another cache folder.
pub(super) fn other_state(layout: &Layout) -> Result<Option<PathBuf>> {
    let alias = Path::new("/sys/class/net").join(BRIDGE).join("ifalias");
    if !alias.exists() {
        return Ok(None);
    }
    let alias = fs::read_to_string(&alias).context("cannot read the bridge's alias")?;
    let state = PathBuf::from(alias.trim_end());
    Ok((state.is_absolute() && state != layout.state).then_some(state))
}

/// Returns every process of the cluster, and of the one with the state folder `other`.
pub(super) fn remaining(layout: &Layout, other: Option<&Path>) -> Result<Vec<Pid>> {
    let mut processes = process::find(&layout.state)?;
    if let Some(other) = other {
        processes.extend(process::find(other)?);
    }
    let mut pids: Vec<Pid> = processes.into_iter().map(|process| process.pid).collect();
    pids.extend(cgroups::pids()?);
    Ok(pids)
}

/// The nodes' links would go with their networks, but only after a while.
fn remove_links() -> Result<()> {
    process::wait("the removal of the nodes' links", LINKS_TIMEOUT, || {
        let links = links()?;
        for link in &links {
            let removed = command::output(Command::new("ip").args(["link", "delete", link]));
            // It may have gone with its network since we looked.
            if let Err(error) = removed
                && self::links()?.contains(link)
            {
                return Err(error);
            }
        }
        Ok(links.is_empty())
    })
}

fn links() -> Result<Vec<String>> {
    let mut links = Vec::new();
    for entry in fs::read_dir("/sys/class/net").context("cannot read /sys/class/net")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name == BRIDGE || name.starts_with(LINK_PREFIX) {
            links.push(name);
        }
    }
    Ok(links)
}
