//! What a pod has for all its containers together holds the proxy too.

mod common;

use common::{options, source};
use linkerd_inject::{
    Outcome, explain, inject,
    options::{Options, Resources, TlsMode},
    uninject, yaml,
};
use serde_json::{Value, json};

fn pod(resources: &Value, of_container: &Value) -> String {
    let spec = json!({
        "resources": resources,
        "containers": [{"name": "app", "resources": of_container}],
    });
    json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": spec}).to_string()
}

fn read(text: &str) -> Value {
    let text = text.strip_suffix("---\n").expect("a document");
    yaml::read(text, 1).expect("valid")
}

/// What the pod has with the proxy; and it is as before without it.
fn raised(resources: &Value, of_container: &Value, options: &Options) -> Value {
    let before = pod(resources, of_container);
    let injected = inject(&source(&before), options).expect("injected");
    assert_eq!(injected.report.entries[0].outcome, Outcome::Injected);
    let again = inject(&source(&injected.yaml), options).expect("read");
    assert_eq!(again.yaml, injected.yaml);
    let back = uninject(&source(&injected.yaml)).expect("uninjected");
    assert_eq!(read(&back.yaml), yaml::read(&before, 1).expect("valid"));
    read(&injected.yaml)["spec"]["resources"].clone()
}

#[test]
fn requests_and_limits_of_the_pod_grow_by_those_of_the_proxy() {
    let own = json!({"requests": {"cpu": "1", "memory": "64Mi"}});
    for (resources, of_container, expected) in [
        (json!({}), &own, json!({})),
        (
            json!({"requests": {"cpu": 1}}),
            &own,
            json!({"requests": {"cpu": "1010m"}}),
        ),
        (
            json!({"requests": {"cpu": "1.5", "memory": "1Gi", "hugepages-2Mi": "4Mi"}, "limits": {"cpu": "3"}}),
            &own,
            json!({"requests": {"cpu": "1510m", "memory": "1044Mi", "hugepages-2Mi": "4Mi"}, "limits": {"cpu": "3010m"}}),
        ),
        // What is requested is the sum of the containers, ours among them.
        (
            json!({"limits": {"memory": "100M"}}),
            &own,
            json!({"limits": {"memory": "120971520"}}),
        ),
        // What is requested would be the limit, and is not any more when our containers request something.
        (
            json!({"limits": {"memory": "100Mi"}}),
            &json!({}),
            json!({"limits": {"memory": "120Mi"}, "requests": {"memory": "120Mi"}}),
        ),
        (
            json!({"requests": {"cpu": "many"}, "limits": []}),
            &own,
            json!({"requests": {"cpu": "many"}, "limits": []}),
        ),
        (
            json!({"requests": [], "limits": {"cpu": "1"}}),
            &json!({}),
            json!({"requests": [], "limits": {"cpu": "1010m"}}),
        ),
    ] {
        let found = raised(&resources, of_container, &options(TlsMode::Optional));
        assert_eq!(found, expected, "{resources}");
    }
}

#[test]
fn limits_of_the_proxy_fit_into_those_of_the_pod_and_a_guaranteed_pod_stays_guaranteed() {
    let options = Options {
        proxy_resources: Resources {
            cpu_limit: Some("500m".to_owned()),
            ..Resources::default()
        },
        ..options(TlsMode::Optional)
    };
    for (requested, limited, expected) in [
        ("100m", "200m", ["110m", "700m"]),
        ("1", "1000m", ["1500m"; 2]),
    ] {
        let resources = json!({"requests": {"cpu": requested}, "limits": {"cpu": limited}});
        let found = raised(&resources, &json!({}), &options);
        let [requested, limited] = expected;
        let expected = json!({"requests": {"cpu": requested}, "limits": {"cpu": limited}});
        assert_eq!(found, expected);
    }
}

#[test]
fn an_explanation_says_so() {
    let with = |resources: Value| {
        let explanation = explain(
            &source(&pod(&resources, &json!({}))),
            &options(TlsMode::Optional),
            &[],
        );
        explanation.expect("valid").workloads[0].notes.join("\n")
    };
    let notes = with(json!({"requests": {"cpu": "1"}}));
    assert!(
        notes.contains(
            r#"by the proxy's: {"requests":{"cpu":"1"}} becomes {"requests":{"cpu":"1010m"}}."#
        ),
        "{notes}"
    );
    assert!(!with(json!({})).contains("by the proxy's"));
}
