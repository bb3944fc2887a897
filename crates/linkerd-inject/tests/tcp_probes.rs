//! Which `tcpSocket` probes become questions to the proxy, and what they are then.

mod common;

use common::{options, source};
use expect_test::expect;
use linkerd_inject::{
    explain, inject, inject_pod,
    options::{Options, Sidecar, TlsMode, port_ranges},
    uninject, yaml,
};
use serde_json::{Value, json};

/// A Deployment with these fields in its pod's spec.
fn deployment(spec: &Value) -> String {
    json!({
        "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": {"spec": spec}},
    })
    .to_string()
}

/// One container with this readiness probe, which has a port `sql`.
fn with_probe(probe: &Value) -> Value {
    let ports = json!([{"name": "sql", "containerPort": 5432}]);
    json!({"containers": [{"name": "app", "ports": ports, "readinessProbe": probe}]})
}

/// The pod's spec after injection, and the report.
fn injected(spec: &Value, options: &Options) -> (Value, String) {
    let output = inject(&source(&deployment(spec)), options).expect("valid");
    let object = yaml::read(output.yaml.trim_end_matches("---\n"), 1).expect("as it was written");
    (
        object["spec"]["template"]["spec"].clone(),
        output.report.inject_text(),
    )
}

fn container<'a>(spec: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainers", "containers"].into_iter();
    let mut containers = lists.flat_map(|list| spec[list].as_array().into_iter().flatten());
    let found = containers.find(|container| container["name"] == name);
    found.expect("a container of that name")
}

/// What the proxy is told of.
fn told(spec: &Value) -> Option<&str> {
    let environment = container(spec, "linkerd-proxy")["env"].as_array()?;
    let mut variables = environment.iter();
    variables.find(|variable| variable["name"] == "LINKERD2_PROXY_TCP_PROBES")?["value"].as_str()
}

#[test]
fn a_probe_that_cannot_be_redirected_is_left_as_it_is() {
    for probe in [
        json!({"tcpSocket": {"port": 5432, "host": "db.example"}}),
        // Skipped ports, alone and in a range, and the proxy's own.
        json!({"tcpSocket": {"port": 25}}),
        json!({"tcpSocket": {"port": 7050}}),
        json!({"tcpSocket": {"port": 4143}}),
        json!({"tcpSocket": {"port": 4191}}),
        // What the API server refuses, with or without us.
        json!({"tcpSocket": {"port": 0}}),
        json!({"tcpSocket": {"port": 65536}}),
        json!({"tcpSocket": {}}),
        json!({"tcpSocket": {"port": 5432}, "httpGet": {"port": 80}}),
        json!({"exec": {"command": ["true"]}}),
        json!({"grpc": {"port": 5432}}),
        json!({"httpGet": {"port": "sql", "path": "/probe/tcp/5432"}}),
        json!({"tcpSocket": null}),
        json!(null),
    ] {
        let options = Options {
            skip_inbound_ports: port_ranges("25,7000-7099").expect("valid"),
            ..options(TlsMode::Off)
        };
        let (spec, report) = injected(&with_probe(&probe), &options);
        assert_eq!(container(&spec, "app")["readinessProbe"], probe);
        assert_eq!(told(&spec), None, "{probe}");
        assert!(!report.contains("probes:"), "{report}");
    }
}

#[test]
fn a_port_that_the_annotation_skips_is_not_asked_of_the_proxy() {
    let object = json!({
        "kind": "Pod",
        "metadata": {
            "name": "db",
            "annotations": {"config.linkerd.io/skip-inbound-ports": "5432"},
        },
        "spec": with_probe(&json!({"tcpSocket": {"port": "sql"}})),
    });
    let output = inject(&source(&object.to_string()), &options(TlsMode::Off)).expect("valid");
    assert!(output.yaml.contains("tcpSocket"), "{}", output.yaml);
    assert!(!output.yaml.contains("/probe/tcp"), "{}", output.yaml);
}

#[test]
fn the_proxy_is_asked_at_the_metrics_port_that_it_has() {
    let options = Options {
        metrics_port: 5191,
        ..options(TlsMode::Off)
    };
    let spec = with_probe(&json!({"tcpSocket": {"port": "sql"}, "timeoutSeconds": 0}));
    let (after, _) = injected(&spec, &options);
    assert_eq!(
        container(&after, "app")["readinessProbe"]["httpGet"],
        json!({"path": "/probe/tcp/5432?name=sql", "port": 5191})
    );
    assert_eq!(told(&after), Some("5432=1s"));
    // With that port uninject knows the probe again, and with another one it would not.
    let output = inject(&source(&deployment(&spec)), &options).expect("valid");
    let back = uninject(&source(&output.yaml)).expect("valid");
    assert!(back.yaml.contains("tcpSocket"), "{}", back.yaml);
    assert!(!back.yaml.contains("httpGet"), "{}", back.yaml);
}

#[test]
fn the_longest_timeout_of_a_port_counts() {
    let probe =
        |port: u16, seconds: u32| json!({"tcpSocket": {"port": port}, "timeoutSeconds": seconds});
    let (spec, _) = injected(
        &json!({"containers": [
            {"name": "a", "startupProbe": probe(8080, 2), "livenessProbe": probe(8080, 30)},
            {"name": "b", "readinessProbe": probe(8080, 5), "livenessProbe": probe(80, 1)},
        ]}),
        &options(TlsMode::Off),
    );
    assert_eq!(told(&spec), Some("80=1s,8080=30s"));
}

/// Kubelet looks for the name in the container alone.
#[test]
fn a_name_without_a_port_is_told_of_and_left() {
    let probe = json!({"tcpSocket": {"port": "sql"}});
    let (spec, report) = injected(
        &json!({"containers": [
            {"name": "app", "livenessProbe": probe},
            {"name": "db", "ports": [{"name": "sql", "containerPort": 5432}]},
        ]}),
        &options(TlsMode::Off),
    );
    assert_eq!(container(&spec, "app")["livenessProbe"], probe);
    expect![[r#"

        hostNetwork: pods do not use host networking...............................[ok]
        sidecar: pods do not have a proxy or initContainer already injected........[ok]
        supported: at least one resource injected..................................[ok]
        udp: pod specs do not include UDP ports....................................[ok]
        probes: containers have the ports that their tcpSocket probes name.........[warn] -- deployment/web: container app has no port "sql" (livenessProbe)

        Summary: 1 of 1 YAML document(s) injected
          deployment/web

    "#]].assert_eq(&report);
}

/// A plain sidecar starts after the init containers, which may have to be ready before it.
#[test]
fn init_containers_before_a_plain_sidecar_keep_their_probes() {
    let probe = json!({"tcpSocket": {"port": 9999}});
    let spec = json!({
        "initContainers": [{"name": "agent", "restartPolicy": "Always", "startupProbe": probe}],
        "containers": [{"name": "app", "startupProbe": probe}],
    });
    let plain = Options {
        sidecar: Sidecar::Plain,
        ..options(TlsMode::Off)
    };
    let (with_plain, _) = injected(&spec, &plain);
    assert_eq!(container(&with_plain, "agent")["startupProbe"], probe);
    assert_ne!(container(&with_plain, "app")["startupProbe"], probe);
    let (with_native, _) = injected(&spec, &options(TlsMode::Off));
    assert_ne!(container(&with_native, "agent")["startupProbe"], probe);

    let manifests = deployment(&spec);
    let blind = |options: &Options| -> Vec<String> {
        let explanation = explain(&source(&manifests), options, &[]).expect("valid");
        let probes = explanation.workloads[0].probes.iter();
        let blind = probes.filter(|probe| probe.blind);
        blind.map(|probe| probe.container.clone()).collect()
    };
    assert_eq!(blind(&plain), ["agent"]);
    assert_eq!(blind(&options(TlsMode::Off)), Vec::<String>::new());
}

/// The API server is to be told of one handler.
#[test]
fn a_pod_that_is_being_created_has_no_trace_of_the_former_handler() {
    let mut pod = json!({
        "kind": "Pod", "metadata": {"name": "web-1"},
        "spec": with_probe(&json!({"tcpSocket": {"port": 5432, "host": ""}, "periodSeconds": 3})),
    });
    let none = std::collections::BTreeMap::new();
    inject_pod(&mut pod, None, "shop", &none, &options(TlsMode::Off)).expect("injected");
    assert_eq!(
        container(&pod["spec"], "app")["readinessProbe"],
        json!({
            "httpGet": {"path": "/probe/tcp/5432", "port": 4191, "host": ""},
            "periodSeconds": 3,
        })
    );
}

/// `kubectl get` shows no fields that are null, and one that nobody has written.
#[test]
fn probes_come_back_from_what_the_api_server_shows() {
    let probe = json!({"tcpSocket": {"port": "sql"}, "periodSeconds": 3});
    let spec = with_probe(&probe);
    let (mut spec, _) = injected(&spec, &options(TlsMode::Off));
    spec["containers"][0]["readinessProbe"] = json!({
        "httpGet": {"path": "/probe/tcp/5432?name=sql", "port": 4191, "scheme": "HTTP"},
        "periodSeconds": 3,
    });
    let back = uninject(&source(&deployment(&spec))).expect("valid");
    let object = yaml::read(back.yaml.trim_end_matches("---\n"), 1).expect("as it was written");
    let spec = &object["spec"]["template"]["spec"];
    assert_eq!(container(spec, "app")["readinessProbe"], probe);
}

/// `uninject` takes no probe for ours that only looks like one.
#[test]
fn probes_of_the_application_stay_its_own() {
    for probe in [
        json!({"httpGet": {"path": "/probe/tcp/5432", "port": 8080}}),
        json!({"httpGet": {"path": "/probe/tcp/mine", "port": 4191}}),
        json!({"httpGet": {"path": "/ready", "port": 4191}}),
    ] {
        let output = inject(
            &source(&deployment(&with_probe(&probe))),
            &options(TlsMode::Off),
        );
        let back = uninject(&source(&output.expect("valid").yaml)).expect("valid");
        let object = yaml::read(back.yaml.trim_end_matches("---\n"), 1).expect("as it was written");
        let spec = &object["spec"]["template"]["spec"];
        assert_eq!(container(spec, "app")["readinessProbe"], probe);
    }
}
