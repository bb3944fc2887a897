//! What `linkerd inject --explain` prints for people. Entry: [`text`].

use linkerd_inject::explain::{
    Evidence, Expected, Explanation, Fate, Finding, Handling, Placed, PortPlan, ProbePlan,
    Protocol, ProxyPlan, Secured, Severity, WorkloadPlan,
};

use crate::table;

/// Lays the explanation out: a block for each workload, then what is true of all.
pub(super) fn text(explanation: &Explanation) -> String {
    let Explanation { workloads, notes } = explanation;
    let mut text = String::new();
    for plan in workloads {
        workload(&mut text, plan);
        text.push('\n');
    }
    let meshed = workloads.iter().filter(|plan| plan.fate == Fate::Meshed);
    text.push_str(&format!(
        "{} of {} workloads will be meshed.\n",
        meshed.count(),
        workloads.len()
    ));
    for note in notes {
        text.push_str(&format!("{note}\n"));
    }
    text
}

fn workload(text: &mut String, plan: &WorkloadPlan) {
    let WorkloadPlan {
        object,
        namespace,
        fate,
        proxy,
        ports,
        probes,
        notes,
        findings,
    } = plan;
    let place = namespace
        .as_ref()
        .map(|name| format!(" in namespace {name}"));
    text.push_str(&format!(
        "{object}{}: {}\n",
        place.unwrap_or_default(),
        fate_text(*fate)
    ));
    if let Some(proxy) = proxy {
        indent(text, &table::left_aligned(&proxy_rows(proxy)));
    }
    if !ports.is_empty() {
        let head = [
            "PORT",
            "EXPECTED",
            "PROXY",
            "FROM MESHED PODS",
            "FROM OTHERS",
        ];
        let rows = ports.iter().map(port_row);
        section(text, &head, rows);
    }
    if !probes.is_empty() {
        let head = ["PROBE", "ACTION", "PASSES", "RECORDED AS"];
        let rows = probes.iter().map(probe_row);
        section(text, &head, rows);
    }
    if !notes.is_empty() {
        text.push('\n');
        indent(text, &(notes.join("\n") + "\n"));
    }
    match findings.as_slice() {
        [] if *fate == Fate::Meshed => {
            text.push_str("\n  √ nothing in these manifests will break\n");
        }
        [] => {}
        [first, others @ ..] => {
            text.push_str("\n  First to break:\n");
            finding(text, first);
            if !others.is_empty() {
                text.push_str("  Then:\n");
            }
            for other in others {
                finding(text, other);
            }
        }
    }
}

const fn fate_text(fate: Fate) -> &'static str {
    match fate {
        Fate::Meshed => "meshed",
        Fate::HostNetwork => {
            "not meshed: it uses the host's network; meshed peers reach it in plaintext, reason \
             peer_not_meshed"
        }
        Fate::KnownSidecar => "not changed: it has a proxy already",
        Fate::Disabled => {
            "not meshed: linkerd.io/inject: disabled; meshed peers reach it in plaintext, reason \
             peer_not_meshed"
        }
        Fate::Windows => {
            "not meshed: it is for nodes with Windows, and the proxy for Linux; meshed peers reach it in \
             plaintext, reason peer_not_meshed"
        }
        Fate::Refused => "refused",
    }
}

fn proxy_rows(proxy: &ProxyPlan) -> Vec<Vec<String>> {
    let ProxyPlan {
        sidecar,
        identity,
        secret,
        cpu_request,
        memory_request,
        skip_outbound_ports,
    } = proxy;
    let row = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
    let mut rows = Vec::new();
    match identity {
        None => rows.push(row("identity", "none: injected without --tls=optional")),
        Some(identity) => {
            rows.push(row("identity", identity));
            rows.push(match secret {
                Some(secret) => row(
                    "key",
                    &format!("in Secret {secret}, which linkerd-ca writes"),
                ),
                None => row(
                    "key",
                    "in the proxy's memory; the identity service signs for it",
                ),
            });
        }
    }
    rows.push(row(
        "proxy",
        match sidecar {
            Placed::Native => {
                "native sidecar: starts before the other init containers, ends after the containers"
            }
            Placed::Plain => "plain sidecar: starts and ends beside the containers",
        },
    ));
    let requests = [("cpu", cpu_request), ("memory", memory_request)];
    let requests: Vec<String> = requests
        .into_iter()
        .filter_map(|(resource, request)| Some(format!("{resource} {}", request.as_ref()?)))
        .collect();
    if !requests.is_empty() {
        rows.push(row(
            "requests",
            &format!("{} more for each pod", requests.join(", ")),
        ));
    }
    rows.push(match identity {
        Some(_) => row(
            "connects",
            "to meshed pods by mutual TLS; in plaintext to pods without a proxy (peer_not_meshed) and out \
             of the cluster (off_cluster)",
        ),
        None => row("connects", "to everybody in plaintext (disabled)"),
    });
    if let Some(ports) = skip_outbound_ports {
        rows.push(row(
            "",
            &format!("past the proxy to ports {ports}, which is in no figures"),
        ));
    }
    rows
}

fn port_row(plan: &PortPlan) -> Vec<String> {
    let PortPlan {
        container,
        port,
        name,
        transport,
        services,
        expected,
        handling,
        from_meshed,
        from_others,
    } = plan;
    let mut place = port.to_string();
    if transport != "TCP" {
        place.push_str(&format!("/{transport}"));
    }
    if let Some(name) = name {
        place.push_str(&format!(" {name}"));
    }
    match container {
        Some(container) => place.push_str(&format!(" ({container})")),
        None => place.push_str(&format!(" (service {})", services.join(", "))),
    }
    vec![
        place,
        expected_text(expected),
        handling_text(*handling, expected.protocol).to_owned(),
        secured_text(*from_meshed).to_owned(),
        secured_text(*from_others).to_owned(),
    ]
}

fn expected_text(expected: &Expected) -> String {
    let Expected {
        protocol: _,
        name,
        evidence,
    } = expected;
    match evidence {
        Evidence::AppProtocol => format!("{name}, by appProtocol"),
        Evidence::PortName => format!("{name}, by its name"),
        Evidence::PortNumber => format!("{name}, by its number"),
        Evidence::None => (*name).to_owned(),
    }
}

const fn handling_text(handling: Handling, protocol: Protocol) -> &'static str {
    match (handling, protocol) {
        (Handling::Detected, Protocol::Http) => "detects HTTP: each request counts",
        (Handling::Detected, Protocol::Tls) => "carries its TLS as bytes",
        (Handling::Detected, Protocol::ServerFirst) => "carries bytes; the server may speak first",
        (Handling::Detected, Protocol::ClientFirst) => "carries bytes",
        (Handling::Detected, Protocol::Unknown) => "HTTP or bytes: the first ones decide",
        (Handling::Opaque, _) => "carries bytes, unseen (opaque-ports)",
        (Handling::Skipped, _) => "not there (skip-inbound-ports)",
        (Handling::NotTcp, _) => "not there (not TCP)",
        (Handling::NoProxy, _) => "none",
    }
}

const fn secured_text(secured: Secured) -> &'static str {
    match secured {
        Secured::MutualTls => "mutual TLS",
        Secured::Plaintext(reason) => reason.as_str(),
        Secured::Unseen => "unseen",
    }
}

fn probe_row(plan: &ProbePlan) -> Vec<String> {
    let ProbePlan {
        container,
        kind,
        action,
        passes,
        no_tls_reason,
        blind: _,
    } = plan;
    vec![
        format!("{kind} ({container})"),
        action.clone(),
        (*passes).to_owned(),
        no_tls_reason.unwrap_or("-").to_owned(),
    ]
}

fn finding(text: &mut String, finding: &Finding) {
    let Finding {
        severity,
        what,
        fix,
    } = finding;
    let mark = match severity {
        Severity::Breaks => "×",
        Severity::Degrades => "‼",
    };
    text.push_str(&format!("  {mark} {what}\n      {fix}\n"));
}

fn section(text: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let head = head.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    text.push('\n');
    indent(text, &table::left_aligned(&rows));
}

fn indent(text: &mut String, block: &str) {
    for line in block.lines() {
        text.push_str(&format!("  {line}\n"));
    }
}
