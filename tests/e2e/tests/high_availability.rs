//! `linkerd install --ha`: each component is there three times, on three nodes, and a node that is
//! drained takes one pod at a time. Needs three nodes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    Cluster, Namespace, deployment, eventually, on_cluster, report, with_control_plane,
    with_namespace,
};
use serde_json::json;

const COMPONENTS: [&str; 4] = [
    "linkerd-ca",
    "linkerd-destination",
    "linkerd-api",
    "linkerd-injector",
];
const REPLICAS: usize = 3;
/// The label by which the control plane's pods say what they are.
const COMPONENT_LABEL: &str = "linkerd.io/control-plane-component";

#[test]
fn every_component_is_on_three_nodes_and_gives_up_one_pod_at_a_time() -> Result<()> {
    on_cluster("high-availability", |cluster| {
        let nodes = cluster.nodes()?.len();
        if nodes < REPLICAS {
            report(&format!(
                "skipped: high-availability: the cluster has {nodes} nodes and not {REPLICAS}"
            ));
            return Ok(());
        }
        let flags = ["--tls=optional", "--ha"];
        with_control_plane(cluster, "ha", &flags, |plane| {
            each_on_a_node_of_its_own(plane)?;
            let check = plane.cluster.linkerd(&["check", "--wait"], "")?;
            ensure!(check.code == Some(0), "{check:?}");
            ensure!(!check.stdout.contains(['×', '‼']), "{}", check.stdout);
            ensure!(check.stdout.contains("linkerd-ha\n"), "{}", check.stdout);
            for component in COMPONENTS {
                one_goes_and_the_next_has_to_wait(plane, component)?;
            }
            plane.wait_until_all_ready()?;
            each_on_a_node_of_its_own(plane)?;
            // The cluster's own control plane has an injector too.
            with_namespace(&plane.cluster, "ha-shared", nobody_fights_for_a_secret)
        })
    })
}

/// Of two control planes that are asked for the same workload one writes its Secret, once.
fn nobody_fights_for_a_secret(namespace: &Namespace) -> Result<()> {
    let annotation = "linkerd.io/inject=enabled";
    namespace
        .cluster
        .kubectl(&["annotate", "namespace", &namespace.name, annotation])?;
    let without_pods = |name: &str| {
        let container = json!({ "name": name, "image": namespace.cluster.image });
        deployment(name, 0, &json!({ "containers": [container] }))
    };
    namespace.apply(&without_pods("web"))?;
    let version = |name: &str| {
        let secret = format!("{name}-deployment-tls-linkerd-io");
        let secret = namespace.get(&["secret", &secret])?;
        let version = secret["metadata"]["resourceVersion"].as_str();
        Ok(version.context("no version")?.to_owned())
    };
    let first = eventually("the Secret", || version("web"))?;
    // Whoever has written for a later workload has decided about this one.
    for control_plane in [&namespace.cluster.control_plane_namespace, "linkerd"] {
        let cluster = Cluster {
            control_plane_namespace: control_plane.to_owned(),
            ..namespace.cluster.clone()
        };
        let name = format!("after-{control_plane}");
        namespace.apply(&cluster.inject(&without_pods(&name))?)?;
        eventually("the Secret of the later one", || version(&name))?;
    }
    let last = version("web")?;
    ensure!(first == last, "written again: {first}, {last}");
    Ok(())
}

fn each_on_a_node_of_its_own(plane: &Namespace) -> Result<()> {
    let found = nodes_by_pod(plane)?;
    for component in COMPONENTS {
        let pods = found.get(component).context(component)?;
        let nodes: BTreeSet<&String> = pods.values().collect();
        ensure!(
            pods.len() == REPLICAS && nodes.len() == REPLICAS,
            "{component}: {pods:?}"
        );
    }
    Ok(())
}

/// For each component its pods that stay, and where they are.
fn nodes_by_pod(plane: &Namespace) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let pods = plane.get(&["pods", "-l", COMPONENT_LABEL])?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for pod in pods["items"].as_array().context("no pods")? {
        if pod["metadata"]["deletionTimestamp"].is_null() {
            let component = text(&pod["metadata"]["labels"][COMPONENT_LABEL]);
            let name = text(&pod["metadata"]["name"]);
            let node = text(&pod["spec"]["nodeName"]);
            found.entry(component).or_default().insert(name, node);
        }
    }
    Ok(found)
}

/// Evicts two pods of a component as `kubectl drain` does: the second is refused for now.
fn one_goes_and_the_next_has_to_wait(plane: &Namespace, component: &str) -> Result<()> {
    let found = nodes_by_pod(plane)?;
    let mut pods = found.get(component).context("no pods")?.keys();
    let [first, second] = [pods.next(), pods.next()].map(|pod| pod.context("a pod is missing"));
    let first = first?;
    eventually("a pod may go", || evict(plane, first))?;
    let Err(refused) = evict(plane, second?) else {
        anyhow::bail!("{component}: two pods were evicted at once");
    };
    // Code 429: kubectl drain comes again then.
    let refused = format!("{refused:#}");
    ensure!(
        refused.contains("TooManyRequests") && refused.contains("disruption budget"),
        "{refused}"
    );
    Ok(())
}

fn evict(plane: &Namespace, pod: &str) -> Result<()> {
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": pod, "namespace": plane.name },
    });
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", plane.name);
    let args = ["create", "--raw", &path, "-f", "-"];
    plane.cluster.kubectl_with(&args, &eviction.to_string())?;
    Ok(())
}
