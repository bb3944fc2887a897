//! What `linkerd stat` says about TLS is what happens, whoever of the two sides is meshed.

use anyhow::{Context as _, Result, ensure};
use e2e::{Emojivoto, Namespace, Row, Workload, beside_others, eventually, find, report};
use serde_json::json;

/// Figures that are written as they should be after a full window, plus the last digits.
const ALL: f64 = 0.9999;

#[test]
fn emojivoto_is_all_tls() -> Result<()> {
    beside_others("all-tls", |namespace| {
        let app = Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        let rows = eventually("three rows with TLS 100 %", || {
            let rows = namespace.stat(&["authority"])?;
            for (service, port) in [("emoji-svc", 8080), ("voting-svc", 8080), ("web-svc", 80)] {
                let row = find(&rows, &app.authority(service, port))?;
                ensure!(row.rps > Some(0.5) && row.tls > Some(ALL), "{row:?}");
            }
            ensure!(rows.len() == 3, "{rows:#?}");
            Ok(rows)
        })?;
        let voting = find(&rows, &app.authority("voting-svc", 8080))?;
        ensure!(
            voting.success < Some(1.0) && voting.success > Some(0.5),
            "{voting:?}"
        );
        let emoji = find(&rows, &app.authority("emoji-svc", 8080))?;
        ensure!(emoji.success > Some(ALL), "{emoji:?}");
        let arguments = ["stat", "authority", "-n", &namespace.name];
        report(&namespace.cluster.linkerd(&arguments, "")?.ok()?);
        Ok(())
    })
}

#[test]
fn an_unmeshed_client_is_served_in_plaintext_and_counted_so() -> Result<()> {
    beside_others("plain-client", |namespace| {
        let app = Emojivoto::deploy(namespace, &["web", "emoji", "voting"])?;
        let web = eventually("the bot's requests count as plaintext", || {
            let rows = namespace.stat(&["authority"])?;
            let web = find(&rows, &app.authority("web-svc", 80))?.clone();
            ensure!(web.rps > Some(0.5) && web.tls == Some(0.0), "{web:?}");
            for service in ["emoji-svc", "voting-svc"] {
                let row = find(&rows, &app.authority(service, 8080))?;
                ensure!(row.rps > Some(0.5) && row.tls > Some(ALL), "{row:?}");
            }
            Ok(web)
        })?;
        only_reason(&web, "peer_sent_plaintext")?;
        only_doughnuts_fail(&web)
    })
}

#[test]
fn an_unmeshed_server_is_reached_in_plaintext_and_counted_so() -> Result<()> {
    beside_others("plain-server", |namespace| {
        let app = Emojivoto::deploy(namespace, &["web", "voting", "vote-bot"])?;
        let outbound = eventually("requests to emoji count as plaintext", || {
            let rows = namespace.stat(&["deployment", "web", "--to", "deployment/emoji"])?;
            let row = find(&rows, "web")?.clone();
            ensure!(row.rps > Some(0.5) && row.tls == Some(0.0), "{row:?}");
            Ok(row)
        })?;
        only_reason(&outbound, "peer_not_meshed")?;
        ensure!(outbound.success > Some(ALL), "{outbound:?}");
        eventually("the meshed pairs speak TLS", || {
            let rows = namespace.stat(&["authority"])?;
            for (service, port) in [("web-svc", 80), ("voting-svc", 8080)] {
                let row = find(&rows, &app.authority(service, port))?;
                ensure!(row.rps > Some(0.5) && row.tls > Some(ALL), "{row:?}");
            }
            only_doughnuts_fail(find(&rows, &app.authority("web-svc", 80))?)
        })
    })
}

#[test]
fn mixed_clients_give_the_true_share() -> Result<()> {
    beside_others("mixed", |namespace| {
        let app = Emojivoto::deploy(namespace, &["web", "emoji", "voting", "vote-bot"])?;
        unmeshed_load(namespace)?;
        // The bot sends two requests a second over TLS, the load pod two in plaintext.
        let web = eventually("half of the requests are over TLS", || {
            let rows = namespace.stat(&["authority"])?;
            let web = find(&rows, &app.authority("web-svc", 80))?.clone();
            ensure!(web.rps > Some(3.0) && web.rps < Some(5.0), "{web:?}");
            ensure!(web.tls > Some(0.4) && web.tls < Some(0.6), "{web:?}");
            Ok(web)
        })?;
        only_reason(&web, "peer_sent_plaintext")?;
        only_doughnuts_fail(&web)
    })
}

#[test]
fn kubelets_probes_are_known_as_such_and_not_counted() -> Result<()> {
    beside_others("probes", |namespace| {
        Emojivoto::deploy(namespace, &Emojivoto::DEPLOYMENTS)?;
        let probe = json!({ "httpGet": { "path": "/api/list", "port": 8080 }, "periodSeconds": 1 });
        let container = json!({ "name": "web", "livenessProbe": probe });
        let patch = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
        namespace.kubectl(&["patch", "deployment", "web", "--patch", &patch.to_string()])?;
        namespace.wait_until_ready(&["web"])?;
        eventually("web's proxy has seen probes", || {
            let metrics = namespace.proxy_metrics("web")?;
            let probes = metrics
                .lines()
                .filter(|line| line.starts_with("request_total{"))
                .find(|line| line.contains(r#"no_tls_reason="probe""#));
            let count: f64 = probes
                .and_then(|line| line.rsplit(' ').next())
                .context("no probe")?
                .parse()?;
            ensure!(count >= 10.0, "{probes:?}");
            Ok(())
        })?;
        eventually(
            "the bot's two requests a second are all that is counted",
            || {
                let rows = namespace.stat(&["deployment", "web"])?;
                let web = find(&rows, "web")?;
                ensure!(web.rps > Some(1.0) && web.rps < Some(2.5), "{web:?}");
                ensure!(web.tls > Some(ALL), "{web:?}");
                Ok(())
            },
        )
    })
}

fn unmeshed_load(namespace: &Namespace) -> Result<()> {
    let url = format!("http://web-svc.{}:80/api/list", namespace.name);
    let args = ["load", &url, "--rate", "2"];
    let load = Workload::new("plain-load", &namespace.cluster.image, &args);
    namespace.apply(&load.deployment())?;
    namespace.wait_until_ready(&["plain-load"])
}

fn only_reason(row: &Row, reason: &str) -> Result<()> {
    let reasons: Vec<_> = row
        .no_tls_reasons
        .iter()
        .flat_map(|reasons| reasons.keys())
        .collect();
    ensure!(reasons == [reason], "{row:?}");
    Ok(())
}

/// Of the bot's forty requests in twenty seconds three fail, by intention.
fn only_doughnuts_fail(web: &Row) -> Result<()> {
    ensure!(web.success > Some(0.85), "{web:?}");
    Ok(())
}
