//! The control plane of the local cluster: processes of the machine itself, on its loopback address
//! and its address on the bridge. Entry: [`start`].

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::binaries::Binaries;
use super::layout::{BRIDGE, HOST, LOAD_BALANCER_RANGE, Layout, SERVICE_RANGE, word};
use super::process;
use crate::command;

/// From the start of etcd to a ready API server: 4 s with two idle cores, minutes on an emulated
/// machine. One that ends is noticed at once.
const API_SERVER_TIMEOUT: Duration = Duration::from_secs(600);
/// The Service `kube-dns` in front of the DNS server, and what that may read.
const DNS_MANIFEST: &str = include_str!("../../../tests/local-kubernetes/coredns.yaml");
/// The components, in the order of their start.
pub(super) const COMPONENTS: [&str; 6] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "load-balancer",
    "coredns",
];

/// Starts all components, and returns when the API server is ready.
pub(super) fn start(layout: &Layout, binaries: &Binaries) -> Result<()> {
    component(layout, binaries, "etcd", etcd(layout))?;
    component(layout, binaries, "kube-apiserver", api_server_flags(layout))?;
    wait_for_api_server(layout)?;
    component(
        layout,
        binaries,
        "kube-controller-manager",
        controller_manager(layout),
    )?;
    component(layout, binaries, "kube-scheduler", scheduler(layout))?;
    component(layout, binaries, "load-balancer", load_balancer(layout))?;
    command::feed(
        kubectl(layout).args(["apply", "-f", "-"]),
        DNS_MANIFEST.as_bytes(),
    )?;
    component(layout, binaries, "coredns", coredns(layout)?)
}

/// Returns a kubectl of the cluster's administrator that leaves nothing in the home folder.
pub(super) fn kubectl(layout: &Layout) -> Command {
    let mut kubectl = Command::new(layout.kubectl());
    kubectl.arg("--kubeconfig").arg(layout.kubeconfig());
    kubectl.arg("--cache-dir").arg(layout.state.join("kubectl"));
    kubectl
}

/// Whether the API server says that it is ready.
pub(super) fn is_ready(layout: &Layout) -> bool {
    let mut ask = kubectl(layout);
    ask.args(["get", "--raw", "/readyz", "--request-timeout", "5s"]);
    command::output(&mut ask).is_ok_and(|answer| answer == "ok")
}

fn wait_for_api_server(layout: &Layout) -> Result<()> {
    let missing = || {
        let running = process::find(&layout.state)?;
        let runs = |name: &&str| {
            running
                .iter()
                .any(|process| process.is_component(name, &layout.state))
        };
        let missing = ["etcd", "kube-apiserver"]
            .into_iter()
            .find(|name| !runs(name));
        Ok(missing.map(|name| (name.to_owned(), layout.log(name))))
    };
    process::wait_while_running("a ready API server", API_SERVER_TIMEOUT, missing, || {
        Ok(is_ready(layout))
    })
    .with_context(|| format!("see {}", layout.log("kube-apiserver").display()))
}

fn component(layout: &Layout, binaries: &Binaries, name: &str, flags: Vec<String>) -> Result<()> {
    let mut words = vec![word(&binaries.kubernetes), name.to_owned()];
    words.extend(flags);
    process::start(&[], &words, &layout.log(name))
}

fn etcd(layout: &Layout) -> Vec<String> {
    vec![
        format!("--data-dir={}", word(&layout.state.join("etcd"))),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        // A cluster that lives as long as its processes has nothing to lose with the power.
        "--unsafe-no-fsync".into(),
    ]
}

fn api_server_flags(layout: &Layout) -> Vec<String> {
    let certificate = |name| word(&layout.certificate(name));
    let key = |name| word(&layout.key(name));
    vec![
        format!("--bind-address={HOST}"),
        format!("--advertise-address={HOST}"),
        "--etcd-servers=http://127.0.0.1:2379".into(),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        format!("--tls-cert-file={}", certificate("kube-apiserver")),
        format!("--tls-private-key-file={}", key("kube-apiserver")),
        format!("--client-ca-file={}", certificate("ca")),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!(
            "--service-account-key-file={}",
            word(&layout.public_key("service-accounts"))
        ),
        format!(
            "--service-account-signing-key-file={}",
            key("service-accounts")
        ),
        format!("--kubelet-certificate-authority={}", certificate("ca")),
        format!(
            "--kubelet-client-certificate={}",
            certificate("kubelet-client")
        ),
        format!("--kubelet-client-key={}", key("kubelet-client")),
        "--kubelet-preferred-address-types=InternalIP".into(),
        // Webhooks and aggregated APIs are reached at their pods: on the machine itself, outside of
        // the nodes, Service addresses do not exist.
        "--enable-aggregator-routing=true".into(),
        format!("--requestheader-client-ca-file={}", certificate("ca")),
        "--requestheader-allowed-names=front-proxy".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        format!("--proxy-client-cert-file={}", certificate("front-proxy")),
        format!("--proxy-client-key-file={}", key("front-proxy")),
    ]
}

fn controller_manager(layout: &Layout) -> Vec<String> {
    let kubeconfig = word(&layout.kubeconfig_of("kube-controller-manager"));
    vec![
        "--bind-address=127.0.0.1".into(),
        // There is only one: it need not wait for a lease.
        "--leader-elect=false".into(),
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--root-ca-file={}", word(&layout.certificate("ca"))),
        format!(
            "--service-account-private-key-file={}",
            word(&layout.key("service-accounts"))
        ),
        "--use-service-account-credentials=true".into(),
        format!(
            "--cluster-signing-cert-file={}",
            word(&layout.certificate("ca"))
        ),
        format!("--cluster-signing-key-file={}", word(&layout.key("ca"))),
        // The default lies outside of the state folder, and is made when it is missing.
        format!(
            "--flex-volume-plugin-dir={}",
            word(&layout.state.join("volume-plugins"))
        ),
    ]
}

fn scheduler(layout: &Layout) -> Vec<String> {
    let kubeconfig = word(&layout.kubeconfig_of("kube-scheduler"));
    vec![
        "--bind-address=127.0.0.1".into(),
        "--leader-elect=false".into(),
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
    ]
}

fn load_balancer(layout: &Layout) -> Vec<String> {
    vec![
        format!(
            "--kubeconfig={}",
            word(&layout.kubeconfig_of("load-balancer"))
        ),
        format!("--bridge={BRIDGE}"),
        format!("--addresses={LOAD_BALANCER_RANGE}"),
    ]
}

fn coredns(layout: &Layout) -> Result<Vec<String>> {
    let path = layout.state.join("Corefile");
    let corefile = format!(
        ".:53 {{
    bind {HOST}
    errors
    ready 127.0.0.1:8181
    cache 5
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {}
        pods insecure
    }}
}}
",
        word(&layout.kubeconfig_of("coredns"))
    );
    fs::write(&path, corefile).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(vec!["-conf".into(), word(&path)])
}
