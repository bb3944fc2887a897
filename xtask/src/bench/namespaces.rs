//! Two network namespaces with a wire between them, and the rules that bring connections to the
//! sidecars. Entry: [`Namespaces::create`].

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use linkerd_names::PROXY_UID;
use rustix::process::{Pid, Signal, kill_process};

use super::side::{SIDES, Side, output, within};
use crate::command;

/// The wire's end, in each namespace.
const DEVICE: &str = "bench0";
/// How long processes of a killed run may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of both namespaces: ports for many short connections, and conntrack that forgets soon.
/// Connections in TIME_WAIT are few, because each makes the kernel's search for a free port longer:
/// with the 50,000 that one measure leaves, the next one's connections cost 282 µs instead of 170.
const SETTINGS: [(&str, &str); 5] = [
    ("net/ipv4/ip_local_port_range", "10240 65535"),
    ("net/ipv4/tcp_tw_reuse", "1"),
    ("net/ipv4/tcp_max_tw_buckets", "2000"),
    ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1"),
    ("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
];

/// Where the sidecars take connections that the rules bring them.
#[derive(Clone, Debug)]
pub(super) struct Redirect {
    pub(super) outbound: u16,
    pub(super) inbound: u16,
    /// Ports of the server's side that are reached directly.
    pub(super) inbound_exempt: Vec<u16>,
}

/// The namespaces; they are gone when this is dropped.
pub(super) struct Namespaces(());

impl Namespaces {
    /// Makes the namespaces. Those of a run that was killed are removed first, with what runs there.
    ///
    /// # Errors
    /// When `ip` or `iptables` fails.
    pub(super) fn create(redirect: Option<&Redirect>) -> Result<Self> {
        remove()?;
        let namespaces = Self(());
        for side in SIDES {
            ip(&format!("netns add {}", side.namespace()))?;
        }
        let [client, server] = SIDES.map(Side::namespace);
        ip(&format!(
            "link add {DEVICE} netns {client} type veth peer name {DEVICE} netns {server}"
        ))?;
        for side in SIDES {
            let namespace = side.namespace();
            ip(&format!("-n {namespace} link set lo up"))?;
            ip(&format!(
                "-n {namespace} address add {}/24 dev {DEVICE}",
                side.address()
            ))?;
            ip(&format!("-n {namespace} link set {DEVICE} up"))?;
        }
        if let Some(redirect) = redirect {
            add_rules(redirect)?;
        }
        for side in SIDES {
            within(side, write_settings)?;
        }
        Ok(namespaces)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        if let Err(error) = remove() {
            anstream::eprintln!("cannot remove the namespaces: {error:#}");
        }
    }
}

fn add_rules(redirect: &Redirect) -> Result<()> {
    let Redirect {
        outbound,
        inbound,
        inbound_exempt,
    } = redirect;
    let client = Side::Client.address();
    rule(
        Side::Client,
        &format!(
            "OUTPUT -p tcp ! -d {client}/32 ! -o lo -m owner ! --uid-owner {PROXY_UID} \
             -j REDIRECT --to-ports {outbound}"
        ),
    )?;
    for port in inbound_exempt {
        let exempt = format!("PREROUTING -i {DEVICE} -p tcp --dport {port} -j RETURN");
        rule(Side::Server, &exempt)?;
    }
    let inbound = format!("PREROUTING -i {DEVICE} -p tcp -j REDIRECT --to-ports {inbound}");
    rule(Side::Server, &inbound)
}

fn rule(side: Side, rule: &str) -> Result<()> {
    let mut iptables = Command::new("iptables");
    iptables
        .args(["-t", "nat", "-A"])
        .args(rule.split_whitespace());
    output(side, &mut iptables).map(drop)
}

fn write_settings() -> Result<()> {
    for (name, value) in SETTINGS {
        let path = Path::new("/proc/sys").join(name);
        // Without rules there is no conntrack, and then nothing to set.
        if path.exists() {
            fs::write(&path, value).with_context(|| format!("cannot set {name}"))?;
        }
    }
    Ok(())
}

fn remove() -> Result<()> {
    for side in SIDES {
        let namespace = side.namespace();
        if !Path::new("/run/netns").join(namespace).exists() {
            continue;
        }
        let started = Instant::now();
        loop {
            let processes = ip(&format!("netns pids {namespace}"))?;
            if processes.trim().is_empty() {
                break;
            }
            if started.elapsed() > KILL_TIMEOUT {
                bail!("processes in {namespace} do not end: {processes:?}");
            }
            for process in processes.split_whitespace() {
                kill(process.parse()?)?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        ip(&format!("netns del {namespace}"))?;
    }
    Ok(())
}

fn kill(process: i32) -> Result<()> {
    let Some(pid) = Pid::from_raw(process) else {
        return Ok(());
    };
    match kill_process(pid, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot kill process {process}")),
    }
}

fn ip(words: &str) -> Result<String> {
    command::output(Command::new("ip").args(words.split_whitespace()))
}
