//! The dashboards for Grafana against the real Prometheus: it takes each of their expressions, and has data
//! for each that does not need something to be wrong.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{Cluster, Emojivoto, Namespace, eventually_within, in_namespace};
use serde_json::Value;

const DASHBOARDS: &str = "../../charts/linkerd/dashboards";

/// Dashboard and panel whose expressions may have no data: they show what does not happen on every cluster.
const MAY_BE_EMPTY: [(&str, &str); 11] = [
    ("linkerd-namespace", "Requests out of the namespace"),
    ("linkerd-workload", "Connections that broke"),
    ("linkerd-tls", "Handshakes that failed"),
    ("linkerd-tls", "Proxies without a certificate"),
    ("linkerd-health", "Failures"),
    ("linkerd-health", "From a workload to its Secret, p99"),
    ("linkerd-health", "Watches of Kubernetes that failed"),
    ("linkerd-health", "Identity service"),
    ("linkerd-health", "Pods left alone"),
    ("linkerd-health", "Pods not meshed"),
    ("linkerd-health", "Endpoints that are ejected now"),
];

/// Meshed by the test. `web` has a client and a server without a proxy, and `emoji` has `web`.
const MESHED: [&str; 2] = ["emoji", "web"];

/// The first points and a second one are there after two scrapes.
const PATIENCE: Duration = Duration::from_secs(120);

/// An expression, and where it stands.
struct Question {
    dashboard: String,
    panel: String,
    expression: String,
    /// A label that the answer has to have: of the values of a variable.
    label: Option<String>,
}

#[test]
fn prometheus_answers_every_expression_of_the_dashboards() -> Result<()> {
    in_namespace("grafana", |namespace| {
        let mut questions = questions()?;
        ensure!(questions.len() > 100, "only {}", questions.len());
        let places: BTreeSet<(&str, &str)> = questions
            .iter()
            .map(|it| (it.dashboard.as_str(), it.panel.as_str()))
            .collect();
        for place in MAY_BE_EMPTY {
            ensure!(places.contains(&place), "there is no panel {place:?}");
        }
        Emojivoto::deploy(namespace, &MESHED)?;
        eventually_within(PATIENCE, "an answer to each expression", || {
            let mut problems = Vec::new();
            questions.retain(|question| {
                let problem = match is_answered(namespace, question) {
                    Ok(true) => return false,
                    Ok(false) => "no data".to_owned(),
                    Err(error) => format!("{error:#}"),
                };
                let Question {
                    dashboard,
                    panel,
                    expression,
                    label: _,
                } = question;
                problems.push(format!("{dashboard}: {panel}: {expression}: {problem}"));
                true
            });
            ensure!(problems.is_empty(), "{}", problems.join("\n"));
            Ok(())
        })
    })
}

/// The expressions of all panels and variables.
fn questions() -> Result<Vec<Question>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(DASHBOARDS);
    let mut questions = Vec::new();
    for file in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let text = fs::read_to_string(file?.path())?;
        let dashboard: Value = serde_json::from_str(&text)?;
        let name = dashboard["uid"].as_str().context("a uid")?;
        let question = |panel: &Value, expression: &str, label: Option<&str>| Question {
            dashboard: name.to_owned(),
            panel: panel.as_str().unwrap_or_default().to_owned(),
            expression: expression.to_owned(),
            label: label.map(str::to_owned),
        };
        for panel in dashboard["panels"].as_array().into_iter().flatten() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().context("an expression")?;
                questions.push(question(&panel["title"], expression, None));
            }
        }
        let variables = dashboard["templating"]["list"].as_array();
        for variable in variables.into_iter().flatten() {
            let Some(query) = variable["query"]["query"].as_str() else {
                continue;
            };
            let inner = query.strip_prefix("label_values(");
            let inner = inner.and_then(|query| query.strip_suffix(')'));
            let (expression, label) = inner
                .and_then(|inner| inner.rsplit_once(", "))
                .with_context(|| query.to_owned())?;
            questions.push(question(&variable["name"], expression, Some(label)));
        }
    }
    Ok(questions)
}

/// Whether the question has an answer for one of the workloads, or need not have one.
fn is_answered(namespace: &Namespace, question: &Question) -> Result<bool> {
    let place = (question.dashboard.as_str(), question.panel.as_str());
    let may_be_empty = MAY_BE_EMPTY.contains(&place);
    let filled = |text: &str, workload| fill_in(text, &namespace.name, workload);
    let label = question.label.as_deref();
    let label = label.map(|label| filled(label, MESHED[0])).transpose()?;
    let expressions = MESHED.map(|workload| filled(&question.expression, workload));
    // Most of them are not about one workload: the same twice.
    let expressions: BTreeSet<String> = expressions.into_iter().collect::<Result<_>>()?;
    for expression in expressions {
        let answer = ask(&namespace.cluster, &expression)?;
        let has_data = answer.iter().any(|sample| match &label {
            Some(label) => !sample["metric"][label].is_null(),
            None => sample["value"][1] != "NaN",
        });
        if has_data || may_be_empty {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The expression as Grafana sends it for a workload of the test.
fn fill_in(expression: &str, namespace: &str, workload: &str) -> Result<String> {
    let filled = expression
        .replace("$__rate_interval", "1m")
        .replace("$__range", "15m")
        // Of several namespaces Grafana makes alternatives, and of all, which is how it begins, this.
        .replace("=~\"$namespace\"", "=~\".+\"")
        .replace("$namespace", namespace)
        .replace("$kind", "deployment")
        .replace("$workload", workload);
    ensure!(!filled.contains('$'), "a variable is left: {filled}");
    Ok(filled)
}

/// What the control plane's Prometheus has now.
fn ask(cluster: &Cluster, expression: &str) -> Result<Vec<Value>> {
    let query: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
    let path = format!(
        "/api/v1/namespaces/{}/services/linkerd-prometheus:9090/proxy/api/v1/query?query={query}",
        cluster.control_plane_namespace
    );
    let answer = cluster.kubectl(&["get", "--raw", &path]);
    let answer: Value = serde_json::from_str(&answer.with_context(|| expression.to_owned())?)?;
    match answer["data"]["result"].as_array() {
        Some(result) if answer["status"] == "success" => Ok(result.clone()),
        _ => bail!("{expression}: {answer}"),
    }
}
