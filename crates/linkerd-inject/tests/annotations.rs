//! What annotations on a pod template change about the proxy.

mod common;

use common::{options, source};
use linkerd_inject::{inject, options::TlsMode};
use serde_json::{Value, json};

/// The pod template of a Deployment with these annotations after injection, and the report.
fn injected(annotations: &Value) -> Result<(Value, String), String> {
    let object = json!({
        "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {
            "metadata": {"annotations": annotations},
            "spec": {"containers": [{"name": "app"}]},
        }},
    });
    let output = inject(&source(&object.to_string()), &options(TlsMode::Off))
        .map_err(|error| error.to_string())?;
    let object = linkerd_inject::yaml::read(output.yaml.trim_end_matches("---\n"), 1)
        .expect("what was written can be read");
    Ok((
        object["spec"]["template"].clone(),
        output.report.inject_text(),
    ))
}

fn named<'a>(template: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    let containers = template["spec"][list].as_array()?;
    containers
        .iter()
        .find(|container| container["name"] == name)
}

#[test]
fn each_of_them_configures_what_it_names() {
    let (template, report) = injected(&json!({
        "config.linkerd.io/proxy-image": "registry.example:5000/proxy",
        "config.linkerd.io/init-image": "registry.example:5000/init",
        "config.linkerd.io/proxy-version": "v2",
        "config.linkerd.io/image-pull-policy": "Always",
        "config.linkerd.io/proxy-uid": "1337",
        "config.linkerd.io/proxy-log-level": "debug",
        "config.linkerd.io/proxy-outbound-connect-timeout": "3s",
        "config.linkerd.io/control-port": "5190",
        "config.linkerd.io/admin-port": "5191",
        "config.linkerd.io/inbound-port": "5143",
        "config.linkerd.io/outbound-port": "5140",
        "config.linkerd.io/proxy-enable-native-sidecar": "false",
        "config.linkerd.io/proxy-cpu-request": "100m",
        "config.linkerd.io/proxy-cpu-limit": "1",
        "config.linkerd.io/proxy-memory-request": "32Mi",
        "config.linkerd.io/proxy-memory-limit": "0.5Gi",
        "config.linkerd.io/opaque-ports": "3306",
    }))
    .expect("all can be read");
    let proxy = named(&template, "containers", "linkerd-proxy").expect("a plain sidecar");
    assert_eq!(proxy["image"], "registry.example:5000/proxy:v2");
    assert_eq!(proxy["imagePullPolicy"], "Always");
    assert_eq!(proxy["securityContext"]["runAsUser"], 1337);
    assert_eq!(
        proxy["resources"],
        json!({
            "requests": {"cpu": "100m", "memory": "32Mi"},
            "limits": {"cpu": "1", "memory": "0.5Gi"},
        })
    );
    let environment = proxy["env"].to_string();
    for value in [
        "\"debug\"",
        "\"3s\"",
        r#"{"name":"LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION","value":"3306"}"#,
        "tcp://0.0.0.0:5190",
        "tcp://0.0.0.0:5191",
        "tcp://0.0.0.0:5143",
        "tcp://127.0.0.1:5140",
    ] {
        assert!(environment.contains(value), "{value} in {environment}");
    }
    let init = named(&template, "initContainers", "linkerd-init").expect("an init container");
    assert_eq!(init["image"], "registry.example:5000/init:v2");
    assert_eq!(
        template["metadata"]["annotations"]["linkerd.io/proxy-version"],
        "v2"
    );
    assert!(!report.contains("annotations:"), "{report}");
}

#[test]
fn unknown_ones_are_told_of_and_change_nothing() {
    let (template, report) = injected(&json!({
        "config.linkerd.io/access-log": "apache",
        "config.linkerd.io/proxy-cpu": "1",
        "config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "9",
        "config.beta.linkerd.io/proxy-enable-native-sidecar": "true",
        "example.com/mine": "1",
    }))
    .expect("injected");
    assert!(named(&template, "initContainers", "linkerd-proxy").is_some());
    assert!(
        report.contains(
            "[warn] -- deployment/web has config.linkerd.io/access-log, config.linkerd.io/proxy-cpu, \
             config.alpha.linkerd.io/proxy-wait-before-exit-seconds, \
             config.beta.linkerd.io/proxy-enable-native-sidecar\n"
        ),
        "{report}"
    );
}

#[test]
fn a_word_about_injection_that_is_none_is_told_of() {
    for (word, told) in [
        ("ingress", true),
        ("Disabled", true),
        ("enabled", false),
        ("", false),
    ] {
        let (template, report) = injected(&json!({"linkerd.io/inject": word})).expect("injected");
        assert!(named(&template, "initContainers", "linkerd-proxy").is_some());
        let warning = format!(
            "[warn] -- deployment/web has {word:?}, and the proxy was added all the same\n"
        );
        assert_eq!(report.contains(&warning), told, "{report}");
    }
    let (template, _) = injected(&json!({"linkerd.io/inject": "disabled"})).expect("left alone");
    assert_eq!(named(&template, "initContainers", "linkerd-proxy"), None);
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_the_annotation() {
    for (annotation, text, expected) in [
        ("proxy-uid", "0", "\"0\" is not a user id (1 to 2147483647)"),
        (
            "proxy-uid",
            "2147483648",
            "\"2147483648\" is not a user id (1 to 2147483647)",
        ),
        (
            "inbound-port",
            "70000",
            "\"70000\" is not a port (1 to 65535)",
        ),
        (
            "proxy-outbound-connect-timeout",
            "18446744073709551616ms",
            "Invalid duration '18446744073709551616ms' for --proxy-bind-timeout flag",
        ),
        (
            "proxy-outbound-connect-timeout",
            "18446744073709552s",
            "Invalid duration '18446744073709552s' for --proxy-bind-timeout flag",
        ),
        (
            "proxy-cpu-limit",
            "many",
            "\"many\" is not a quantity of Kubernetes (100m, 64Mi)",
        ),
        (
            "proxy-enable-native-sidecar",
            "yes",
            "\"yes\" is neither true nor false",
        ),
        ("proxy-image", "a b", "\"a b\" is not the name of an image"),
    ] {
        let key = format!("config.linkerd.io/{annotation}");
        let mut annotations = json!({});
        annotations[&key] = json!(text);
        let error = injected(&annotations).expect_err(annotation);
        let expected = format!("deployment/web: annotation {key}: {expected}");
        assert!(error.ends_with(&expected), "{error}");
    }
}

#[test]
fn a_slip_in_the_log_filter_is_told_of_and_costs_no_proxy() {
    let annotations = json!({"config.linkerd.io/proxy-log-level": "warn,linkerd=inof"});
    let (pod, report) = injected(&annotations).expect("injected");
    assert!(pod.to_string().contains("warn,linkerd=info"), "{pod}");
    assert!(
        report.contains("proxy-log-level (\"linkerd=inof\" is neither a log level"),
        "{report}"
    );
}

/// The proxy's list of ports that it does not look at, and the report.
fn opaque(listed: &str) -> Result<(Option<String>, String), String> {
    let object = json!({
        "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {
            "metadata": {"annotations": {"config.linkerd.io/opaque-ports": listed}},
            "spec": {"containers": [
                {"name": "db", "ports": [{"name": "sql", "containerPort": 3306}]},
                {"name": "gossip", "ports": [{"name": "galera-1", "containerPort": 4567}]},
            ]},
        }},
    });
    let output = inject(&source(&object.to_string()), &options(TlsMode::Off))
        .map_err(|error| error.to_string())?;
    let object = linkerd_inject::yaml::read(output.yaml.trim_end_matches("---\n"), 1)
        .expect("what was written can be read");
    let template = &object["spec"]["template"];
    assert_eq!(
        template["metadata"]["annotations"]["config.linkerd.io/opaque-ports"],
        listed
    );
    let proxy = named(template, "initContainers", "linkerd-proxy").expect("a proxy");
    let mut environment = proxy["env"].as_array().into_iter().flatten();
    let list = environment
        .find(|it| it["name"] == "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION")
        .and_then(|it| it["value"].as_str())
        .map(str::to_owned);
    Ok((list, output.report.inject_text()))
}

#[test]
fn opaque_ports_are_numbers_ranges_and_names_of_the_containers_ports() {
    for (listed, expected) in [
        ("25", Some("25")),
        (" 25, 3000-3010,", Some("25,3000-3010")),
        ("sql,galera-1,80", Some("3306,4567,80")),
        ("", None),
    ] {
        let (list, report) = opaque(listed).expect("injected");
        assert_eq!(list.as_deref(), expected, "{listed}");
        assert!(!report.contains("annotations:"), "{report}");
    }
}

/// The list of a Namespace may name the port of another pod.
#[test]
fn a_name_that_no_port_has_is_told_of_and_costs_no_proxy() {
    let (list, report) = opaque("redis,sql").expect("injected");
    assert_eq!(list.as_deref(), Some("3306"));
    let told = "config.linkerd.io/opaque-ports (no container has a port \"redis\")";
    assert!(report.contains(told), "{report}");
    assert_eq!(opaque("redis").expect("injected").0, None);
}

#[test]
fn opaque_ports_that_are_none_are_an_error_that_names_the_annotation() {
    for wrong in ["70000", "9-3", "a b", "0", "SQL", "25;26"] {
        let error = opaque(&format!("25,{wrong}")).expect_err(wrong);
        let expected = "deployment/web: annotation config.linkerd.io/opaque-ports: ";
        assert!(error.contains(expected) && error.contains(wrong), "{error}");
    }
}

/// The API server refuses a pod with such a container.
#[test]
fn a_limit_below_its_request_is_an_error_that_names_both_annotations() {
    for (annotations, expected) in [
        (
            json!({
                "config.linkerd.io/proxy-memory-request": "128Mi",
                "config.linkerd.io/proxy-memory-limit": "64Mi",
            }),
            "deployment/web: annotation config.linkerd.io/proxy-memory-limit: 64Mi is less than the request, \
             which is 128Mi: change it or config.linkerd.io/proxy-memory-request",
        ),
        // What is requested by default.
        (
            json!({"config.linkerd.io/proxy-cpu-limit": "0.009"}),
            "deployment/web: annotation config.linkerd.io/proxy-cpu-limit: 0.009 is less than the request, \
             which is 10m: change it or config.linkerd.io/proxy-cpu-request",
        ),
    ] {
        let error = injected(&annotations).expect_err("refused");
        assert!(error.ends_with(expected), "{error}");
    }
    let equal = json!({
        "config.linkerd.io/proxy-memory-request": "512Mi",
        "config.linkerd.io/proxy-memory-limit": "0.5Gi",
        "config.linkerd.io/proxy-cpu-limit": "0.01",
    });
    assert!(injected(&equal).is_ok());
}

/// The proxy cannot bind the second one, and its pod does not start.
#[test]
fn two_ports_of_the_proxy_that_are_one_are_an_error_that_names_what_sets_them() {
    for (annotations, expected) in [
        (
            json!({"config.linkerd.io/control-port": "4143"}),
            "deployment/web: the proxy would listen on port 4143 twice: give another one to \
             config.linkerd.io/inbound-port (--inbound-port) or to config.linkerd.io/control-port \
             (--control-port)",
        ),
        (
            json!({
                "config.linkerd.io/outbound-port": "5000",
                "config.linkerd.io/admin-port": "5000",
            }),
            "deployment/web: the proxy would listen on port 5000 twice: give another one to \
             config.linkerd.io/outbound-port (--outbound-port) or to config.linkerd.io/admin-port \
             (--metrics-port)",
        ),
    ] {
        let error = injected(&annotations).expect_err("refused");
        assert!(error.ends_with(expected), "{error}");
    }
    // One takes the place of another that has moved away.
    let moved = json!({
        "config.linkerd.io/control-port": "4143",
        "config.linkerd.io/inbound-port": "4190",
    });
    assert!(injected(&moved).is_ok());
}

/// Kubernetes' rule: each container, init containers too, has limits of both, and requests that are these.
fn is_guaranteed(template: &Value) -> bool {
    let lists = ["initContainers", "containers"].into_iter();
    let mut containers =
        lists.flat_map(|list| template["spec"][list].as_array().into_iter().flatten());
    containers.all(|container| {
        let resources = &container["resources"];
        ["cpu", "memory"].iter().all(|resource| {
            let (limit, request) = (
                &resources["limits"][*resource],
                &resources["requests"][*resource],
            );
            !limit.is_null() && (request.is_null() || request == limit)
        })
    })
}

#[test]
fn a_guaranteed_pod_stays_guaranteed_when_the_proxys_limits_are_its_requests() {
    let all = json!({
        "config.linkerd.io/proxy-cpu-request": "100m",
        "config.linkerd.io/proxy-cpu-limit": "100m",
        "config.linkerd.io/proxy-memory-request": "64Mi",
        "config.linkerd.io/proxy-memory-limit": "64Mi",
    });
    let guaranteed = |annotations: &Value, sidecar: &str| {
        let mut annotations = annotations.clone();
        annotations["config.linkerd.io/proxy-enable-native-sidecar"] = json!(sidecar);
        let (mut template, _) = injected(&annotations).expect("injected");
        let containers = template["spec"]["containers"]
            .as_array_mut()
            .expect("a list");
        let app = containers
            .iter_mut()
            .find(|it| it["name"] == "app")
            .expect("the app");
        app["resources"] = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        is_guaranteed(&template)
    };
    for sidecar in ["true", "false"] {
        assert!(guaranteed(&all, sidecar));
        for key in all.as_object().expect("annotations").keys() {
            let mut without = all.clone();
            without.as_object_mut().expect("annotations").remove(key);
            assert!(!guaranteed(&without, sidecar), "without {key}");
        }
    }
}
