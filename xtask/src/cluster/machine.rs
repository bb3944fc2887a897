//! What the cluster needs of the machine: rights, Debian packages, free addresses and ports; and
//! what it must give back afterwards. Entry: [`prepare`].

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::layout::{BRIDGE, BRIDGE_RANGE, Layout, POD_RANGE};
use crate::{command, debian};

/// Programs that the cluster calls, and the Debian package of each.
const PROGRAMS: [(&str, &str); 10] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("modprobe", "kmod"),
];
/// Ports that components of the control plane listen on, on the loopback address only.
const PORTS: [(u16, &str); 5] = [
    (2379, "etcd"),
    (2380, "etcd"),
    (8181, "CoreDNS"),
    (10257, "kube-controller-manager"),
    (10259, "kube-scheduler"),
];
/// Kernel modules that nothing loads by itself in time, and a setting that each brings. With the
/// first, packets between the pods of a node pass iptables, as Service addresses need it; kube-proxy
/// ends without the second.
const MODULES: [(&str, &str); 2] = [
    ("br_netfilter", "net/bridge/bridge-nf-call-iptables"),
    (
        "nf_conntrack",
        "net/netfilter/nf_conntrack_tcp_timeout_established",
    ),
];
/// Settings of the whole machine that a kubelet changes; they are put back at the end.
pub(super) const SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];
/// Folders over which each node mounts one of its own: these paths are fixed in containerd, kubelet
/// and the CNI library, and two nodes would share them.
pub(super) const OWN_FOLDERS: [&str; 5] = [
    "/run",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];
/// Where programs of an administrator lie, for a PATH that lacks them.
const SYSTEM_FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// Checks that we may do all this at all.
pub(super) fn require_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the local cluster needs root"
    );
    Ok(())
}

/// Installs the Debian packages that are missing.
pub(super) fn install_packages() -> Result<()> {
    let missing = |(program, package): (&'static str, &'static str)| {
        (!is_installed(program)).then_some(package)
    };
    let mut packages: Vec<&str> = PROGRAMS.into_iter().filter_map(missing).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    ensure!(
        is_installed("apt-get"),
        "missing on this machine, and there is no apt-get to install it: {}",
        packages.join(", ")
    );
    debian::install(&packages)?;
    // The package starts a containerd for the whole machine, which nobody asked for.
    if packages.contains(&"containerd") && Path::new("/run/systemd/system").exists() {
        command::output(Command::new("systemctl").args(["disable", "--now", "containerd"]))?;
    }
    Ok(())
}

/// Checks that nothing else has our addresses and ports.
pub(super) fn check_free() -> Result<()> {
    for range in [BRIDGE_RANGE, POD_RANGE] {
        let mut routes = Command::new("ip");
        routes.args(["-4", "route", "show", "root", range]);
        let routes = command::output(&mut routes)?;
        if let Some(route) = routes.lines().find(|route| !route.contains(BRIDGE)) {
            bail!("the local cluster needs {range}, but this machine has the route {route}");
        }
    }
    for (port, component) in PORTS {
        TcpListener::bind(("127.0.0.1", port))
            .with_context(|| format!("{component} needs the port 127.0.0.1:{port}"))?;
    }
    Ok(())
}

/// Prepares the machine and notes what has to be put back by [`restore`].
pub(super) fn prepare(layout: &Layout) -> Result<()> {
    for (module, setting) in MODULES {
        if !Path::new("/proc/sys").join(setting).exists() {
            command::output(Command::new("modprobe").arg(module))?;
        }
    }
    let mut settings = String::new();
    for setting in SETTINGS {
        // A kernel built without it has nothing to change.
        if let Ok(value) = fs::read_to_string(Path::new("/proc/sys").join(setting)) {
            settings.push_str(&format!("{setting} {value}"));
        }
    }
    write(&notes(layout, "settings"), &settings)?;
    let missing = OWN_FOLDERS
        .into_iter()
        .filter(|folder| !Path::new(folder).exists());
    let missing: Vec<&str> = missing.collect();
    write(&notes(layout, "folders"), &missing.join("\n"))?;
    for folder in missing {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {folder}"))?;
    }
    Ok(())
}

/// Puts back what [`prepare`] noted; does nothing when it noted nothing.
pub(super) fn restore(layout: &Layout) -> Result<()> {
    for line in read_if_there(&notes(layout, "settings"))?.lines() {
        let Some((setting, value)) = line.split_once(' ') else {
            continue;
        };
        let path = Path::new("/proc/sys").join(setting);
        if read_if_there(&path)?.trim() != value {
            write(&path, value)?;
        }
    }
    for folder in read_if_there(&notes(layout, "folders"))?.lines() {
        // One that is gone, or that somebody else uses by now, is left as it is.
        match fs::remove_dir(folder) {
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn notes(layout: &Layout, name: &str) -> PathBuf {
    layout.state.join(format!("machine-{name}"))
}

/// Whether a program is there, also when PATH lacks the administrator's folders.
fn is_installed(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(env::split_paths(SYSTEM_FOLDERS))
        .any(|folder| folder.join(program).exists())
}

fn read_if_there(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        result => result.with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
