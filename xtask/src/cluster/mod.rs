//! A real Kubernetes on this machine: the control plane as processes, each node in namespaces of its
//! own. Entries: [`run`] for the command line; [`up`], [`load()`], [`down`] for other tasks.

mod binaries;
mod certificates;
mod cgroups;
mod clear;
mod control_plane;
mod layout;
mod load;
mod machine;
mod machine_state;
mod node;
mod process;
mod self_test;
mod start;
mod status;

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use self::layout::{Layout, NODES_MAX};
use self::status::Status;
use crate::{command, disk, progress};

/// Nodes of a cluster unless a flag says otherwise.
pub(crate) const NODES_DEFAULT: usize = 2;
/// Free bytes that the nodes, all on one disk, need for images, logs and volumes.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// How long a kubelet may take to end.
const KUBELET_END_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Start the cluster, unless it runs; prints what to export
    Up {
        /// How many nodes
        #[arg(long, default_value_t = NODES_DEFAULT)]
        nodes: usize,
    },
    /// End the cluster and remove every trace of it
    Down,
    /// Show components, nodes and pods; exit code 1 when not all is well
    Status,
    /// Import image archives (OCI or Docker) into every node
    Load {
        /// Archives made by `cargo xtask images` or `docker save`
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Give an image that every node has another name as well
    Tag {
        /// Its full name, such as localhost/linkerd/proxy:0.1.0
        image: String,
        /// The other one
        name: String,
    },
    /// Install what the cluster needs and build it, without starting it
    Prepare,
    /// Run a program of this machine in the network of a node
    InNode {
        /// Number of the node
        node: usize,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// End the kubelet of a node; its pods stay
    StopKubelet {
        /// Number of the node
        node: usize,
    },
    /// Start the kubelet of a node again
    StartKubelet {
        /// Number of the node
        node: usize,
    },
    /// Show that all of this works here; ends the present cluster
    SelfTest,
}

/// A running cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// Kubeconfig of the cluster's administrator.
    pub(crate) kubeconfig: PathBuf,
    /// A kubectl of the same version.
    pub(crate) kubectl: PathBuf,
}

/// Does what the command line says.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Args { action } = args;
    match action {
        Action::Up { nodes } => up(nodes)?.print_exports(),
        Action::Down => down()?,
        Action::Status => return print_status(),
        Action::Load { archives } => load(&archives)?,
        Action::Tag { image, name } => tag(&image, &name)?,
        Action::Prepare => prepare()?,
        Action::InNode { node, command } => return run_in_node(node, &command),
        Action::StopKubelet { node } => stop_kubelet(node)?,
        Action::StartKubelet { node } => start_kubelet(node)?,
        Action::SelfTest => self_test::run()?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Cluster {
    fn at(layout: &Layout) -> Self {
        Self {
            kubeconfig: layout.kubeconfig(),
            kubectl: layout.kubectl(),
        }
    }

    /// Prints what a shell evaluates to reach the cluster.
    pub(crate) fn print_exports(&self) {
        let bin = self.kubectl.parent().expect("kubectl lies in a folder");
        anstream::println!("export KUBECONFIG={}", self.kubeconfig.display());
        anstream::println!("export PATH={}:$PATH", bin.display());
    }
}

/// Starts a cluster with `nodes` nodes. Does nothing when it runs; what an earlier one left behind is
/// cleared first.
///
/// # Errors
/// When a cluster with another number of nodes runs, and when any step fails.
pub(crate) fn up(nodes: usize) -> Result<Cluster> {
    machine::require_root()?;
    ensure!(
        (1..=NODES_MAX).contains(&nodes),
        "a cluster has 1 to {NODES_MAX} nodes, not {nodes}"
    );
    let layout = Layout::find()?;
    let _lock = lock(&layout)?;
    refuse_other(&layout)?;
    if let Some(present) = start::revive(&layout)? {
        ensure!(
            present == nodes,
            "a cluster with {present} nodes runs; end it first"
        );
        anstream::eprintln!("the cluster runs already");
        return Ok(Cluster::at(&layout));
    }
    let start = Instant::now();
    require_room(&layout)?;
    machine::install_packages()?;
    let binaries = binaries::build(&layout)?;
    if !clear::remains(&layout)?.is_empty() {
        progress::step("clear the remains of an earlier cluster", || {
            clear::clear(&layout)
        })?;
    }
    start::create(&layout, &binaries, nodes).with_context(|| {
        format!(
            "the cluster is left half-done for you to look at: {}",
            layout.state.display()
        )
    })?;
    anstream::eprintln!(
        "{:>8}  cluster with {nodes} nodes",
        progress::seconds(start.elapsed())
    );
    Ok(Cluster::at(&layout))
}

/// Installs the Debian packages that a cluster needs; does nothing when all are there.
pub(crate) fn install_packages() -> Result<()> {
    machine::require_root()?;
    machine::install_packages()
}

/// Installs the packages and builds the binaries that [`up`] needs; does nothing when all is there.
pub(crate) fn prepare() -> Result<()> {
    install_packages()?;
    let layout = Layout::find()?;
    let _lock = lock(&layout)?;
    binaries::build(&layout).map(drop)
}

/// Ends the cluster and removes every trace of it; fine when there is none.
pub(crate) fn down() -> Result<()> {
    machine::require_root()?;
    let layout = Layout::find()?;
    let _lock = lock(&layout)?;
    refuse_other(&layout)?;
    if clear::remains(&layout)?.is_empty() {
        anstream::eprintln!("there is no cluster");
        return Ok(());
    }
    progress::step("end the cluster", || clear::clear(&layout))?;
    let remains = clear::remains(&layout)?;
    ensure!(remains.is_empty(), "left behind: {}", remains.join(", "));
    Ok(())
}

/// Imports image archives into every node of the running cluster; one that a node has is skipped.
pub(crate) fn load(archives: &[PathBuf]) -> Result<()> {
    machine::require_root()?;
    let layout = Layout::find()?;
    let nodes = require_nodes(&layout)?;
    // What built the images may have filled the disk since the nodes were started.
    require_room(&layout)?;
    let start = Instant::now();
    let loaded = load::load(&layout, nodes, archives)?;
    let time = progress::seconds(start.elapsed());
    for (archive, loaded) in archives.iter().zip(loaded) {
        let nodes = loaded.imported;
        anstream::eprintln!("{time:>8}  load {} into {nodes} nodes", archive.display());
    }
    Ok(())
}

fn require_room(layout: &Layout) -> Result<()> {
    disk::require("the local cluster", &layout.state, FREE_BYTES_MIN)
}

/// Gives an image of every node of the running cluster another name as well.
fn tag(image: &str, name: &str) -> Result<()> {
    machine::require_root()?;
    let layout = Layout::find()?;
    load::tag(&layout, require_nodes(&layout)?, image, name)
}

/// Returns a command that runs a program of the machine in the network of a node; append its words.
pub(crate) fn node_command(node: usize) -> Result<Command> {
    node::command(&Layout::find()?, node)
}

/// Ends the kubelet of a node; containers go on.
pub(crate) fn stop_kubelet(node: usize) -> Result<()> {
    let layout = Layout::find()?;
    let _lock = lock(&layout)?;
    check_node(&layout, node)?;
    process::wait("the end of the kubelet", KUBELET_END_TIMEOUT, || {
        let running = process::find(&layout.state)?;
        let Some(kubelet) = node::component(&running, &layout, node, "kubelet") else {
            return Ok(true);
        };
        process::signal(kubelet.pid, Signal::TERM)?;
        Ok(false)
    })
}

/// Starts the kubelet of a node, unless it runs.
pub(crate) fn start_kubelet(node: usize) -> Result<()> {
    let layout = Layout::find()?;
    let _lock = lock(&layout)?;
    check_node(&layout, node)?;
    if node::component(&process::find(&layout.state)?, &layout, node, "kubelet").is_some() {
        return Ok(());
    }
    node::start_kubelet(&layout, &binaries::of_cluster(&layout)?, node)
}

fn run_in_node(node: usize, words: &[String]) -> Result<ExitCode> {
    let mut command = node_command(node)?;
    command.args(words);
    let status = command
        .status()
        .with_context(|| format!("cannot run `{}`", command::words(&command)))?;
    // A program that a signal ended has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn print_status() -> Result<ExitCode> {
    let layout = Layout::find()?;
    let status = Status::read(&layout)?;
    if status.is_down() {
        anstream::println!("there is no cluster");
        return Ok(ExitCode::FAILURE);
    }
    anstream::print!("{status}");
    if status.api_ready {
        for what in ["nodes", "pods"] {
            let mut get = control_plane::kubectl(&layout);
            get.args(["get", what, "-o", "wide"]);
            if what == "pods" {
                get.arg("--all-namespaces");
            }
            anstream::print!("\n{}", command::output(&mut get)?);
        }
    }
    anstream::println!("\nKUBECONFIG={}", layout.kubeconfig().display());
    Ok(if status.is_healthy() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Waits until nobody else changes the cluster.
fn lock(layout: &Layout) -> Result<File> {
    let path = &layout.lock;
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// There is one bridge, and one set of ports, for all cache folders of a machine.
fn refuse_other(layout: &Layout) -> Result<()> {
    let Some(other) = clear::other_state(layout)? else {
        return Ok(());
    };
    if process::find(&other)?.is_empty() {
        return Ok(());
    }
    let cache = other.parent().unwrap_or(&other).display();
    bail!(
        "a cluster of another cache folder runs; to end it: LINKERD_CACHE={cache} cargo xtask cluster down"
    )
}

fn require_nodes(layout: &Layout) -> Result<usize> {
    let status = Status::read(layout)?;
    status
        .nodes
        .filter(|_| status.api_ready)
        .context("no cluster runs: `cargo xtask cluster up`")
}

fn check_node(layout: &Layout, node: usize) -> Result<()> {
    let nodes = require_nodes(layout)?;
    ensure!(
        (1..=nodes).contains(&node),
        "the cluster has nodes 1 to {nodes}, not {node}"
    );
    Ok(())
}
