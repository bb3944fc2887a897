//! `linkerd tap` shows the requests that pass, with what happened to TLS, to whoever has the right.

use anyhow::{Context as _, Result, ensure};
use e2e::{Emojivoto, Namespace, eventually, find, in_namespace};
use serde_json::Value;

/// The bot sends two requests a second through two hops; this many events take some seconds.
const EVENTS: usize = 40;

#[test]
fn requests_are_seen_with_mutual_tls_names_and_filters() -> Result<()> {
    in_namespace("tap", |namespace| {
        let app = Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        eventually("TLS between all of them", || {
            let rows = namespace.stat(&["authority"])?;
            for (service, port) in [("emoji-svc", 8080), ("web-svc", 80)] {
                let row = find(&rows, &app.authority(service, port))?;
                ensure!(row.tls > Some(0.9999), "{row:?}");
            }
            Ok(())
        })?;
        let everything = events(namespace, &["deploy/web"], EVENTS)?;
        for direction in ["INBOUND", "OUTBOUND"] {
            let seen = everything
                .iter()
                .filter(|it| it["proxyDirection"] == direction);
            let seen: Vec<&Value> = seen.collect();
            ensure!(!seen.is_empty(), "nothing {direction}: {everything:#?}");
            ensure!(seen.iter().all(|it| it["tls"] == "true"), "{seen:#?}");
        }
        let inbound = everything
            .iter()
            .find(|it| it["proxyDirection"] == "INBOUND")
            .context("checked above")?;
        ensure!(
            inbound["source"]["metadata"]["deployment"] == "vote-bot",
            "{inbound:#}"
        );
        ensure!(
            inbound["destination"]["metadata"]["deployment"] == "web",
            "{inbound:#}"
        );

        let filters = ["deploy/web", "--to", "deploy/voting", "--method", "POST"];
        for event in events(namespace, &filters, 6)? {
            let to = &event["destination"]["metadata"]["deployment"];
            ensure!(
                to == "voting" && event["proxyDirection"] == "OUTBOUND",
                "{event:#}"
            );
        }

        let arguments = ["tap", "deploy/web", "-n", &namespace.name];
        let lines = namespace.cluster.linkerd_lines(&arguments, 6)?.ok()?;
        ensure!(
            lines.contains(" tls=true ") && lines.contains("req id="),
            "{lines}"
        );
        Ok(())
    })
}

#[test]
fn who_lacks_the_right_is_told_which_and_who_has_it_watches() -> Result<()> {
    in_namespace("tap-rights", |namespace| {
        Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        let user = format!("{}-jane", namespace.name);
        let outcome = rights(namespace, &user);
        // These are in no namespace, or in another one.
        let control_plane = &namespace.cluster.control_plane_namespace;
        let cluster = &namespace.cluster;
        cluster.kubectl(&["delete", "clusterrolebinding", &user, "--ignore-not-found"])?;
        for kind in ["rolebinding", "role"] {
            let args = [
                "-n",
                control_plane,
                "delete",
                kind,
                &user,
                "--ignore-not-found",
            ];
            cluster.kubectl(&args)?;
        }
        outcome
    })
}

fn rights(namespace: &Namespace, user: &str) -> Result<()> {
    let cluster = &namespace.cluster;
    let control_plane = cluster.control_plane_namespace.as_str();
    let as_user = format!("--user={user}");
    let role = |of: &str| format!("--clusterrole=linkerd-{control_plane}-{of}");
    let in_control_plane =
        |args: &[&str]| cluster.kubectl(&[&["-n", control_plane], args].concat());
    in_control_plane(&[
        "create",
        "role",
        user,
        "--verb=list,get,create",
        "--resource=pods,pods/portforward",
    ])?;
    in_control_plane(&[
        "create",
        "rolebinding",
        user,
        &format!("--role={user}"),
        &as_user,
    ])?;
    cluster.kubectl(&[
        "create",
        "clusterrolebinding",
        user,
        &role("tap-proof"),
        &as_user,
    ])?;
    let arguments = ["--as", user, "tap", "deploy/web", "-n", &namespace.name];
    let refused = cluster.linkerd(&arguments, "")?;
    ensure!(
        refused.code == Some(1) && refused.stdout.is_empty(),
        "{refused:?}"
    );
    for word in [
        user,
        "deployments/tap",
        "tap.linkerd.io",
        namespace.name.as_str(),
    ] {
        ensure!(refused.stderr.contains(word), "{word}: {refused:?}");
    }
    namespace.kubectl(&["create", "rolebinding", "tap", &role("tap"), &as_user])?;
    eventually("the right takes effect", || {
        let output = cluster.linkerd_lines(&arguments, 3)?;
        ensure!(output.stdout.contains("proxy="), "{output:?}");
        Ok(())
    })
}

/// The first events of `linkerd tap <args> -o json`.
fn events(namespace: &Namespace, args: &[&str], count: usize) -> Result<Vec<Value>> {
    let args = [&["tap"], args, &["-n", &namespace.name, "-o", "json"]].concat();
    let output = namespace.cluster.linkerd_lines(&args, count)?;
    let lines = output.stdout.lines().map(serde_json::from_str);
    let events: Vec<Value> = lines.collect::<Result<_, _>>()?;
    ensure!(events.len() == count, "{output:?}");
    Ok(events)
}
