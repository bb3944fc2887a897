//! Starts a cluster, or finds the one that runs. Entries: [`create`], [`revive`].

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::binaries::{self, Binaries};
use super::layout::{Layout, PAUSE_IMAGE, node_name, word};
use super::status::{self, Status};
use super::{certificates, control_plane, machine, node, process};
use crate::{command, images, progress};

/// From the start of the kubelets to ready nodes: 5 s with two idle cores, minutes on an emulated
/// machine.
const NODES_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a cluster whose processes are all there may be unwell, for example under load, before it
/// counts as broken.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the number of nodes of the cluster that runs, once it is healthy; none when there is no
/// such cluster. A kubelet that was stopped is started again; nothing else is worth the risk.
pub(super) fn revive(layout: &Layout) -> Result<Option<usize>> {
    let status = Status::read(layout)?;
    let Some(nodes) = status.nodes.filter(|_| status.is_whole()) else {
        return Ok(None);
    };
    if status.is_healthy() {
        return Ok(Some(nodes));
    }
    let binaries = binaries::of_cluster(layout)?;
    let running = process::find(&layout.state)?;
    for number in 1..=nodes {
        if node::component(&running, layout, number, node::KUBELET).is_none() {
            node::start_kubelet(layout, &binaries, number)?;
        }
    }
    let recovered = process::wait("a healthy cluster", RECOVERY_TIMEOUT, || {
        Ok(Status::read(layout)?.is_healthy())
    });
    if let Err(error) = recovered {
        anstream::eprintln!("the cluster that runs is broken: {error:#}");
        return Ok(None);
    }
    Ok(Some(nodes))
}

/// Starts a cluster on a machine without remains of one, and returns when pods can be created.
pub(super) fn create(layout: &Layout, binaries: &Binaries, nodes: usize) -> Result<()> {
    machine::check_free()?;
    for folder in [&layout.state.join("logs"), &layout.bin] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    machine::prepare(layout)?;
    link(&binaries.kubernetes, &layout.kubectl())?;
    certificates::write(layout, nodes)?;
    let image = layout.state.join("pause.tar");
    images::pack_program(PAUSE_IMAGE, &binaries.pause, &image)?;
    node::create_bridge(layout)?;
    progress::step(
        "start the control plane, and containerd of each node",
        || {
            together(nodes, |part| match part {
                0 => control_plane::start(layout, binaries),
                number => node::create(layout, binaries, number, nodes, &image)
                    .with_context(|| format!("cannot make {}", node_name(number))),
            })
        },
    )?;
    progress::step("start the nodes", || {
        for number in 1..=nodes {
            node::start_components(layout, binaries, number)?;
        }
        wait_for_nodes(layout, nodes)
    })?;
    status::write_nodes(layout, nodes)
}

/// Waits until all nodes are ready, and pods are not refused any more.
///
/// # Errors
/// When a program of a node has ended; the end of its log is in the error.
fn wait_for_nodes(layout: &Layout, nodes: usize) -> Result<()> {
    let missing = || {
        let running = process::find(&layout.state)?;
        let parts = (1..=nodes).flat_map(|number| node::COMPONENTS.map(|name| (number, name)));
        let mut missing = parts
            .filter(|(number, name)| node::component(&running, layout, *number, name).is_none())
            .map(|(number, name)| {
                (
                    format!("{name} of {}", node_name(number)),
                    node::log(layout, name, number),
                )
            });
        Ok(missing.next())
    };
    process::wait_while_running("ready nodes", NODES_TIMEOUT, missing, || {
        if !status::not_ready(layout, nodes)?.is_empty() {
            return Ok(false);
        }
        // Without this account, which is made a moment later, pods are refused.
        let mut account = control_plane::kubectl(layout);
        account.args([
            "get",
            "serviceaccount",
            "default",
            "--ignore-not-found",
            "-o",
            "name",
        ]);
        Ok(!command::output(&mut account)?.is_empty())
    })
}

/// Does part 0 and the parts 1 to `nodes` at once; returns the first error.
fn together(nodes: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..=nodes)
            .map(|part| scope.spawn(move || work(part)))
            .collect();
        let results = threads
            .into_iter()
            .map(|thread| thread.join().expect("no part panics"));
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

fn link(target: &Path, link: &Path) -> Result<()> {
    let context = || format!("cannot make {}", word(link));
    if link.is_symlink() {
        fs::remove_file(link).with_context(context)?;
    }
    std::os::unix::fs::symlink(target, link).with_context(context)
}
