//! Pods come and go, and nothing is refused or lost: under load while clients and servers are rolled
//! out, and with an application that talks while it shuts down.

use anyhow::{Result, ensure};
use e2e::{
    LOAD_RATE, Namespace, Watch, all_served, end_all, in_namespace, rolling_servers, steady_load,
};

const ROLLOUTS: usize = 10;
/// For this long an application talks on after SIGTERM.
const TALK_MS: u64 = 10_000;

#[test]
fn nothing_is_lost_while_clients_and_servers_are_rolled_out() -> Result<()> {
    in_namespace("rollouts", |namespace| {
        start_servers(namespace, 2)?;
        let pods = Watch::start(namespace, "pods")?;
        let image = &namespace.cluster.image;
        namespace.apply_meshed(&steady_load(image, "fresh", &["--fresh"]))?;
        namespace.apply_meshed(&steady_load(image, "kept", &[]))?;
        namespace.wait_until_ready(&["fresh", "kept"])?;
        let all = ["emoji", "server", "fresh", "kept"];
        let deployments = all.map(|name| format!("deployment/{name}"));
        let mut restart = vec!["rollout", "restart"];
        restart.extend(deployments.iter().map(String::as_str));
        for _ in 0..ROLLOUTS {
            namespace.kubectl(&restart)?;
            namespace.wait_until_ready(&all)?;
        }
        end_all(namespace, &["fresh", "kept"])?;
        for name in ["fresh", "kept"] {
            let clients = all_served(&pods, name)?.len();
            ensure!(clients > ROLLOUTS, "{clients} clients {name}");
        }
        Ok(())
    })
}

#[test]
fn an_application_that_talks_while_it_shuts_down_keeps_its_network() -> Result<()> {
    in_namespace("last-words", |namespace| {
        start_servers(namespace, 1)?;
        let pods = Watch::start(namespace, "pods")?;
        let talks = TALK_MS.to_string();
        let talker = steady_load(
            &namespace.cluster.image,
            "talker",
            &["--after-sigterm-ms", &talks],
        );
        namespace.apply_meshed(&talker)?;
        namespace.wait_until_ready(&["talker"])?;
        end_all(namespace, &["talker"])?;
        let clients = all_served(&pods, "talker")?;
        ensure!(clients.len() == 1, "{clients:?}");
        // One less, because the first may be due just before SIGTERM.
        let least = TALK_MS / 1000 * LOAD_RATE - 1;
        ensure!(clients[0].ok_after_sigterm >= least, "{clients:?}");
        Ok(())
    })
}

fn start_servers(namespace: &Namespace, replicas: u32) -> Result<()> {
    namespace.apply_meshed(&rolling_servers(&namespace.cluster.image, replicas))?;
    namespace.wait_until_ready(&["emoji", "server"])
}
