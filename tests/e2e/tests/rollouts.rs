//! Pods come and go, and nothing is refused or lost: under load while clients and servers are rolled
//! out, and with an application that talks while it shuts down.

use anyhow::{Result, ensure};
use e2e::{LAST_WORDS, Namespace, Watch, Workload, eventually, in_namespace, last_words, service};

const ROLLOUTS: usize = 10;
/// From the decision to end a pod to SIGTERM: what Kubernetes advises for every server, so that all
/// have heard that it goes before it does. Without it these rollouts lose requests with and without a mesh.
const PRE_STOP_SECONDS: u32 = 3;
/// For this long an application talks on after SIGTERM.
const TALK_MS: u64 = 10_000;
const RATE: u64 = 40;

#[test]
fn nothing_is_lost_while_clients_and_servers_are_rolled_out() -> Result<()> {
    in_namespace("rollouts", |namespace| {
        start_servers(namespace, 2)?;
        let pods = Watch::start(namespace, "pods")?;
        start_load(namespace, "fresh", &["--fresh"])?;
        start_load(namespace, "kept", &[])?;
        namespace.wait_until_ready(&["fresh", "kept"])?;
        let all = ["emoji", "server", "fresh", "kept"];
        let deployments = all.map(|name| format!("deployment/{name}"));
        let mut restart = vec!["rollout", "restart"];
        restart.extend(deployments.iter().map(String::as_str));
        for _ in 0..ROLLOUTS {
            namespace.kubectl(&restart)?;
            namespace.wait_until_ready(&all)?;
        }
        end_load(namespace, &["fresh", "kept"])?;
        for name in ["fresh", "kept"] {
            let words = eventually("every client has ended", || last_words(&pods, name))?;
            ensure!(words.len() > ROLLOUTS, "{} clients {name}", words.len());
            for (pod, totals) in words {
                ensure!(totals.ok > 0 && totals.failed == 0, "{pod}: {totals:?}");
                ensure!(totals.tls == Some(totals.ok), "{pod}: {totals:?}");
                ensure!(totals.plaintext == Some(0), "{pod}: {totals:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn an_application_that_talks_while_it_shuts_down_keeps_its_network() -> Result<()> {
    in_namespace("last-words", |namespace| {
        start_servers(namespace, 1)?;
        let pods = Watch::start(namespace, "pods")?;
        start_load(namespace, "talker", &["--after-sigterm-ms", "10000"])?;
        namespace.wait_until_ready(&["talker"])?;
        end_load(namespace, &["talker"])?;
        let words = eventually("it has ended", || last_words(&pods, "talker"))?;
        ensure!(words.len() == 1, "{words:?}");
        for (pod, totals) in words {
            // One less, because the first may be due just before SIGTERM.
            let least = TALK_MS / 1000 * RATE - 1;
            ensure!(totals.ok_after_sigterm >= least, "{pod}: {totals:?}");
            ensure!(totals.failed == 0, "{pod}: {totals:?}");
            ensure!(totals.tls == Some(totals.ok), "{pod}: {totals:?}");
            ensure!(totals.plaintext == Some(0), "{pod}: {totals:?}");
        }
        Ok(())
    })
}

/// `server`, which answers HTTP/1.1 with what it asks of `emoji` by gRPC.
fn start_servers(namespace: &Namespace, replicas: u32) -> Result<()> {
    let image = &namespace.cluster.image;
    let asks = ["web", "--emoji-host", "emoji:8080"];
    for (name, args) in [("emoji", &["emoji"][..]), ("server", &asks)] {
        let workload = Workload {
            port: Some(8080),
            replicas,
            pre_stop_seconds: PRE_STOP_SECONDS,
            ..Workload::new(name, image, args)
        };
        namespace.apply_meshed(&workload.deployment())?;
        namespace.apply(&service(name, name, 8080, 8080))?;
    }
    namespace.wait_until_ready(&["emoji", "server"])
}

fn start_load(namespace: &Namespace, name: &str, more: &[&str]) -> Result<()> {
    let rate = RATE.to_string();
    let base = ["load", "http://server:8080/api/list", "--rate", &rate];
    let args = [&base, more, &LAST_WORDS].concat();
    let workload = Workload {
        grace_seconds: 30,
        ..Workload::new(name, &namespace.cluster.image, &args)
    };
    namespace.apply_meshed(&workload.deployment())
}

fn end_load(namespace: &Namespace, names: &[&str]) -> Result<()> {
    for name in names {
        let deployment = format!("deployment/{name}");
        namespace.kubectl(&["scale", "--replicas=0", &deployment])?;
    }
    Ok(())
}
