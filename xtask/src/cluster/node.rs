//! A node: network, mount and process namespaces of its own, with containerd, kubelet and kube-proxy
//! in them. Entries: [`create`], [`start_components`]. When the node's first process ends, the
//! kernel ends all others in it, and its mounts and links go with them.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Pid;
use serde_json::json;

use super::binaries::Binaries;
use super::layout::{
    BRIDGE, DNS_SERVICE, HOST, LINK_PREFIX, Layout, PAUSE_IMAGE, POD_RANGE, node_address,
    node_name, node_pod_range, word,
};
use super::machine::OWN_FOLDERS;
use super::process::{self, Process};
use super::{cgroups, load};
use crate::command;

/// From the start of containerd to its socket; 0.3 s with two idle cores.
const CONTAINERD_TIMEOUT: Duration = Duration::from_secs(120);
/// From the start of a node's first process until it is in its namespaces.
const FIRST_PROCESS_TIMEOUT: Duration = Duration::from_secs(60);
/// The programs of a node beside its first process, as `status` names them.
pub(super) const COMPONENTS: [&str; 3] = ["containerd", KUBELET, "kube-proxy"];
/// The one of them that may be stopped and started while its pods go on.
pub(super) const KUBELET: &str = "kubelet";
/// Settings of a node's network. Pods reach Services of pods on the same node only when bridged
/// packets pass iptables, and NodePorts on the loopback address only with the third.
const NETWORK_SETTINGS: [&str; 3] = [
    "net/ipv4/ip_forward",
    "net/bridge/bridge-nf-call-iptables",
    "net/ipv4/conf/all/route_localnet",
];

/// Makes the bridge on which all nodes and the control plane meet.
///
/// It carries the path of the state folder, so that the cluster is found from another cache folder.
pub(super) fn create_bridge(layout: &Layout) -> Result<()> {
    ip(&[
        "link",
        "add",
        BRIDGE,
        "alias",
        &word(&layout.state),
        "type",
        "bridge",
    ])?;
    ip(&["address", "add", &format!("{HOST}/24"), "dev", BRIDGE])?;
    ip(&["link", "set", BRIDGE, "up"])
}

/// Makes node `number` of `nodes` and starts its containerd, with the pause image in it.
pub(super) fn create(
    layout: &Layout,
    binaries: &Binaries,
    number: usize,
    nodes: usize,
    pause_image: &Path,
) -> Result<()> {
    let folder = layout.node(number);
    fs::create_dir_all(folder.join("cni")).with_context(|| format!("cannot make {folder:?}"))?;
    cgroups::create(number)?;
    let namespaces = [
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    let mut first: Vec<String> = namespaces.into_iter().map(str::to_owned).collect();
    first.extend([word(&binaries.pause), word(&folder)]);
    let log = layout.log(&node_name(number));
    process::start(&[], &first, &log)?;
    let mut pid = None;
    process::wait("a node's first process", FIRST_PROCESS_TIMEOUT, || {
        pid = first_process(&process::find(&layout.state)?, layout, number);
        Ok(pid.is_some())
    })
    .with_context(|| format!("cannot make {}{}", node_name(number), process::tail(&log)))?;
    let pid = pid.expect("waited for it");
    mount(pid)?;
    connect(pid, number, nodes)?;
    start_containerd(layout, pid, number)?;
    load::import(layout, number, pause_image)
}

/// Starts kubelet and kube-proxy of a node whose containerd runs.
pub(super) fn start_components(layout: &Layout, binaries: &Binaries, number: usize) -> Result<()> {
    start_kubelet(layout, binaries, number)?;
    let folder = layout.node(number);
    let config = folder.join("kube-proxy.json");
    json_file(&config, &kube_proxy(layout, number))?;
    let words = vec![
        word(&binaries.kubernetes),
        "kube-proxy".into(),
        format!("--config={}", word(&config)),
    ];
    let enter = enter(require_first_process(layout, number)?);
    process::start(&enter, &words, &log(layout, "kube-proxy", number))
}

/// Starts the kubelet of a node whose containerd runs.
pub(super) fn start_kubelet(layout: &Layout, binaries: &Binaries, number: usize) -> Result<()> {
    let folder = layout.node(number);
    let config = folder.join("kubelet.json");
    json_file(&config, &kubelet(layout, number))?;
    let words = vec![
        word(&binaries.kubernetes),
        "kubelet".into(),
        format!("--config={}", word(&config)),
        format!(
            "--kubeconfig={}",
            word(&layout.kubeconfig_of(&node_name(number)))
        ),
        format!("--root-dir={}", word(&folder.join("kubelet"))),
        format!("--hostname-override={}", node_name(number)),
        format!("--node-ip={}", node_address(number)),
    ];
    let enter = enter(require_first_process(layout, number)?);
    process::start(&enter, &words, &log(layout, "kubelet", number))
}

/// Returns a command that runs a program of the machine in the network of node `number`; its words
/// are appended.
pub(super) fn command(layout: &Layout, number: usize) -> Result<Command> {
    let pid = require_first_process(layout, number)?;
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.as_raw_nonzero().to_string(), "--net", "--"]);
    Ok(command)
}

/// Finds a component of node `number` among the cluster's processes.
pub(super) fn component<'a>(
    processes: &'a [Process],
    layout: &Layout,
    number: usize,
    name: &str,
) -> Option<&'a Process> {
    let folder = layout.node(number);
    processes
        .iter()
        .find(|process| process.is_component(name, &folder))
}

fn first_process(processes: &[Process], layout: &Layout, number: usize) -> Option<Pid> {
    let folder = layout.node(number);
    processes
        .iter()
        .find(|process| process.is_first(&folder))
        .map(|found| found.pid)
}

fn require_first_process(layout: &Layout, number: usize) -> Result<Pid> {
    first_process(&process::find(&layout.state)?, layout, number)
        .with_context(|| format!("{} is not there; see `cluster status`", node_name(number)))
}

/// The words in front of a command that runs it as a process of the node.
fn enter(first: Pid) -> Vec<String> {
    let pid = first.as_raw_nonzero().to_string();
    [
        "nsenter", "--target", &pid, "--mount", "--net", "--pid", "--",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Gives the node folders of its own where fixed paths would meet those of other nodes, and lets
/// kubelet and containerd share the mounts that one of them makes for a pod.
fn mount(first: Pid) -> Result<()> {
    let inside = |words: &[&str]| {
        let pid = first.as_raw_nonzero().to_string();
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &pid, "--mount", "--"])
            .args(words);
        command::output(&mut command)
    };
    inside(&["mount", "--make-rshared", "/"])?;
    for folder in OWN_FOLDERS {
        inside(&["mount", "-t", "tmpfs", "-o", "mode=755", "node", folder])?;
    }
    Ok(())
}

/// Connects the node with the bridge, and with the pods of all other nodes.
fn connect(first: Pid, number: usize, nodes: usize) -> Result<()> {
    let pid = first.as_raw_nonzero().to_string();
    let link = format!("{LINK_PREFIX}{number}");
    ip(&[
        "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid,
    ])?;
    ip(&["link", "set", &link, "master", BRIDGE, "up"])?;
    // The API server reaches webhooks in pods by this route.
    ip(&[
        "route",
        "replace",
        &node_pod_range(number),
        "via",
        &node_address(number),
    ])?;
    let inside = |words: &[&str], input: &str| {
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--net", "--"]).args(words);
        command::feed(&mut command, input.as_bytes())
    };
    inside(&["ip", "link", "set", "lo", "up"], "")?;
    let address = format!("{}/24", node_address(number));
    inside(&["ip", "address", "add", &address, "dev", "eth0"], "")?;
    inside(&["ip", "link", "set", "eth0", "up"], "")?;
    // Without it a process of the node could not even try a Service address.
    inside(&["ip", "route", "add", "default", "via", HOST], "")?;
    for other in (1..=nodes).filter(|other| *other != number) {
        let (pods, via) = (node_pod_range(other), node_address(other));
        inside(&["ip", "route", "add", &pods, "via", &via], "")?;
    }
    for setting in NETWORK_SETTINGS {
        inside(&["tee", &format!("/proc/sys/{setting}")], "1")?;
    }
    Ok(())
}

fn start_containerd(layout: &Layout, first: Pid, number: usize) -> Result<()> {
    let folder = layout.node(number);
    let config = folder.join("containerd.toml");
    write(&config, &containerd(layout, number))?;
    let network = folder.join("cni").join("10-pods.conflist");
    json_file(&network, &pod_network(&folder, number))?;
    let log = log(layout, "containerd", number);
    let words = ["containerd".to_owned(), "--config".into(), word(&config)];
    process::start(&enter(first), &words, &log)?;
    let socket = layout.containerd_socket(number);
    let missing = || {
        let running = process::find(&layout.state)?;
        let runs = component(&running, layout, number, "containerd").is_some();
        Ok((!runs).then(|| ("containerd".to_owned(), log.clone())))
    };
    process::wait_while_running("containerd's socket", CONTAINERD_TIMEOUT, missing, || {
        Ok(UnixStream::connect(&socket).is_ok())
    })
}

fn containerd(layout: &Layout, number: usize) -> String {
    let folder = word(&layout.node(number));
    format!(
        r#"version = 2
root = "{folder}/root"
state = "{folder}/state"
# Each of these would look for, or load, a kernel module.
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
# The profile would stay loaded in the machine's kernel.
disable_apparmor = true
# CAP_SYS_RESOURCE is missing on some machines; without this no sandbox starts there.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
"#
    )
}

fn pod_network(folder: &Path, number: usize) -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": word(&folder.join("addresses")),
                    "ranges": [[{"subnet": node_pod_range(number)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn kubelet(layout: &Layout, number: usize) -> serde_json::Value {
    let folder = layout.node(number);
    let name = node_name(number);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node_address(number),
        "port": 10250,
        "healthzPort": 0,
        "tlsCertFile": word(&layout.certificate(&name)),
        "tlsPrivateKeyFile": word(&layout.key(&name)),
        "authentication": {
            "x509": {"clientCAFile": word(&layout.certificate("ca"))},
            "webhook": {"enabled": true},
            "anonymous": {"enabled": false},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups::name(number),
        "failSwapOn": false,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": linkerd_names::CLUSTER_DOMAIN,
        "resolvConf": "/dev/null",
        "containerRuntimeEndpoint": format!("unix://{}", word(&layout.containerd_socket(number))),
        "podLogsDir": word(&folder.join("pod-logs")),
        "volumePluginDir": word(&folder.join("volume-plugins")),
        // Images are imported once; nobody could pull them again.
        "imageGCHighThresholdPercent": 100,
        // Not shares of the disk, which is the whole machine's: a large one may be nearly full.
        "evictionHard": {
            "memory.available": "50Mi", "nodefs.available": "100Mi", "imagefs.available": "100Mi",
        },
        "enforceNodeAllocatable": [],
        "maxPods": 250,
    })
}

fn kube_proxy(layout: &Layout, number: usize) -> serde_json::Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": word(&layout.kubeconfig_of("kube-proxy"))},
        "hostnameOverride": node_name(number),
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        "metricsBindAddress": "127.0.0.1:10249",
        "healthzBindAddress": format!("{}:10256", node_address(number)),
        // The size of the table is the whole machine's.
        "conntrack": {"maxPerCore": 0},
    })
}

/// Returns the log of a component of node `number`.
pub(super) fn log(layout: &Layout, component: &str, number: usize) -> std::path::PathBuf {
    layout.log(&format!("{component}-{}", node_name(number)))
}

fn ip(words: &[&str]) -> Result<()> {
    command::output(Command::new("ip").args(words)).map(drop)
}

fn json_file(path: &Path, value: &serde_json::Value) -> Result<()> {
    write(path, &format!("{value:#}\n"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
