//! What an explanation finds in manifests: one fault each, and the same without it.

mod common;

use common::{options, source};
use linkerd_inject::{
    explain,
    explain::{Explanation, Fate, Severity},
    options::{IdentitySource, Options, Sidecar, TlsMode},
};
use serde_json::{Value, json};

fn explained(manifests: &str, options: &Options) -> Explanation {
    explain(&source(manifests), options, &[]).expect("valid")
}

/// The only finding of the only workload, or none.
fn finding(manifests: &str) -> Option<(Severity, String)> {
    let explanation = explained(manifests, &options(TlsMode::Optional));
    let [plan] = explanation.workloads.as_slice() else {
        panic!("{explanation:?}");
    };
    assert!(plan.findings.len() <= 1, "{:?}", plan.findings);
    let finding = plan.findings.first()?;
    Some((finding.severity, finding.what.clone()))
}

/// A Deployment with these lines in its pod's spec.
fn deployment(spec: &str) -> String {
    let lines: String = spec.lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "kind: Deployment\nmetadata: {{name: web, namespace: shop}}\nspec:\n  template:\n    \
         metadata: {{labels: {{app: web}}}}\n    spec:\n{lines}---\n"
    )
}

const APP: &str = "containers: [{name: app, ports: [{name: http, containerPort: 8080}]}]";

#[test]
fn a_sound_workload_has_no_findings() {
    assert_eq!(finding(&deployment(APP)), None);
}

#[test]
fn each_fault_of_a_pod_is_found() {
    for (spec, severity, part) in [
        (
            "containers: [{name: app, ports: [{containerPort: 4143}]}]",
            Severity::Breaks,
            "container \"app\" listens on port 4143",
        ),
        (
            "containers: [{name: app, ports: [{containerPort: 4191}]}]",
            Severity::Breaks,
            "listens on port 4191",
        ),
        (
            "containers: [{name: app, ports: [{containerPort: 4140}]}]",
            Severity::Breaks,
            "listens on port 4140",
        ),
        (
            "containers: [{name: app, securityContext: {runAsUser: 2102}}]",
            Severity::Breaks,
            "runs as user 2102",
        ),
        (
            "dnsPolicy: Default\ncontainers: [{name: app}]",
            Severity::Degrades,
            "discovery_unavailable",
        ),
        (
            "shareProcessNamespace: true\ncontainers: [{name: app}]",
            Severity::Degrades,
            "its key among them",
        ),
        (
            "containers: [{name: app, livenessProbe: {tcpSocket: {port: 4143}}}]",
            Severity::Degrades,
            "whether the application does or not",
        ),
        (
            "containers: [{name: app, ports: [{containerPort: 53, protocol: UDP}]}]",
            Severity::Degrades,
            "port 53 is never encrypted",
        ),
    ] {
        let (found, what) = finding(&deployment(spec)).expect(spec);
        assert_eq!(found, severity, "{what}");
        assert!(what.contains(part), "{what}");
    }
}

#[test]
fn annotations_left_over_from_linkerd_are_found_and_the_images_are_those_that_nodes_pull() {
    let annotated = |annotation: Value| {
        let template = json!({"metadata": {"annotations": annotation},
                              "spec": {"containers": [{"name": "app"}]}});
        json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": template}})
            .to_string()
    };
    for (key, value, part, image) in [
        (
            "config.linkerd.io/proxy-version",
            "stable-2.14.0",
            "another version than this one",
            "Nodes pull localhost/linkerd/proxy:stable-2.14.0 and localhost/linkerd/proxy-init:stable-2.14.0;",
        ),
        (
            "config.linkerd.io/proxy-image",
            "cr.l5d.io/linkerd/proxy",
            "an image of Linkerd",
            "Nodes pull localhost/linkerd/proxy-init:v1 and cr.l5d.io/linkerd/proxy:v1;",
        ),
        (
            "linkerd.io/inject",
            "ingress",
            "neither \"enabled\" nor \"disabled\"",
            "Nodes pull localhost/linkerd/proxy:v1 and localhost/linkerd/proxy-init:v1;",
        ),
    ] {
        let manifest = annotated(json!({key: value}));
        let (severity, what) = finding(&manifest).expect(key);
        assert_eq!(severity, Severity::Degrades);
        assert!(
            what.contains(key) && what.contains(value) && what.contains(part),
            "{what}"
        );
        let notes = explained(&manifest, &options(TlsMode::Optional)).notes;
        assert!(
            notes.iter().any(|note| note.starts_with(image)),
            "{notes:?}"
        );
    }
    let mirrored = json!({"config.linkerd.io/proxy-image": "registry.example/linkerd/proxy"});
    assert_eq!(finding(&annotated(mirrored)), None);
}

#[test]
fn of_a_proxy_that_is_there_already_it_is_said_whose_it_is() {
    let notes = |labels: Value, container: &str| {
        let template =
            json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": container}]}});
        let object = json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": template}});
        let explanation = explained(&object.to_string(), &options(TlsMode::Optional));
        assert_eq!(explanation.workloads[0].fate, Fate::KnownSidecar);
        explanation.workloads[0].notes.join("")
    };
    assert_eq!(notes(json!({}), "linkerd-proxy"), "");
    let linkerds = notes(json!({"linkerd.io/workload-ns": "shop"}), "linkerd-proxy");
    assert_eq!(
        linkerds,
        "The proxy is Linkerd's: `linkerd uninject` takes it out."
    );
    assert!(notes(json!({}), "istio-proxy").starts_with("The proxy is another mesh's"));
}

#[test]
fn pods_for_windows_get_no_proxy() {
    for spec in [
        "os: {name: windows}",
        "nodeSelector: {kubernetes.io/os: windows}",
    ] {
        let manifests = deployment(&format!("{spec}\n{APP}"));
        let explanation = explained(&manifests, &options(TlsMode::Optional));
        let plan = &explanation.workloads[0];
        assert_eq!((plan.fate, &plan.proxy), (Fate::Windows, &None), "{spec}");
        assert!(!explanation.breaks(), "{spec}");
    }
}

#[test]
fn what_looks_like_a_fault_and_is_none_is_not_found() {
    for spec in [
        "containers: [{name: app, ports: [{containerPort: 8080}]}]\nhostAliases: []",
        "securityContext: {runAsNonRoot: true}\ncontainers: [{name: app, securityContext: \
         {readOnlyRootFilesystem: true}}]",
        "containers: [{name: app, readinessProbe: {httpGet: {path: /, port: 80}}}]",
        "containers: [{name: app, livenessProbe: {tcpSocket: {port: 5432}}}]",
        "containers: [{name: app, livenessProbe: {tcpSocket: {port: sql}}}]",
        "containers: [{name: app, livenessProbe: {tcpSocket: {port: 25, host: mail.example}}}]",
        "initContainers: [{name: first}]\ncontainers: [{name: app}]",
        "dnsPolicy: ClusterFirst\ncontainers: [{name: app}]",
    ] {
        assert_eq!(finding(&deployment(spec)), None, "{spec}");
    }
}

#[test]
fn levels_of_pod_security_below_privileged_refuse_the_pods() {
    let with = |level: &str, namespace: &str| {
        let label = format!("pod-security.kubernetes.io/enforce: {level}");
        let namespace =
            format!("kind: Namespace\nmetadata: {{name: {namespace}, labels: {{{label}}}}}\n---\n");
        finding(&(deployment(APP) + &namespace))
    };
    for level in ["baseline", "restricted"] {
        let (severity, what) = with(level, "shop").expect(level);
        assert_eq!(severity, Severity::Breaks);
        assert!(what.contains(level) && what.contains("NET_ADMIN"), "{what}");
    }
    assert_eq!(with("privileged", "shop"), None);
    assert_eq!(with("restricted", "other"), None);
}

#[test]
fn a_quota_of_limits_refuses_the_pods_unless_there_is_a_default() {
    let quota = "kind: ResourceQuota\nmetadata: {name: q, namespace: shop}\n\
                 spec: {hard: {limits.memory: 1Gi}}\n---\n";
    let default = "kind: LimitRange\nmetadata: {name: l, namespace: shop}\n\
                   spec: {limits: [{type: Container, default: {memory: 1Gi}}]}\n---\n";
    let (severity, what) = finding(&(deployment(APP) + quota)).expect("a finding");
    assert_eq!(severity, Severity::Breaks);
    assert!(what.contains("limits.memory"), "{what}");
    assert_eq!(finding(&(deployment(APP) + quota + default)), None);
    let requests = quota.replace("limits.memory", "requests.memory");
    assert_eq!(finding(&(deployment(APP) + &requests)), None);
}

/// What is found about a pod with these lines in its spec, in a namespace with these objects.
fn refusal(spec: &str, objects: &[(&str, &str)]) -> Option<String> {
    let objects: String = objects
        .iter()
        .map(|(kind, spec)| {
            format!("kind: {kind}\nmetadata: {{name: it, namespace: shop}}\nspec: {spec}\n---\n")
        })
        .collect();
    let (severity, what) = finding(&(deployment(&format!("{spec}\n{APP}")) + &objects))?;
    assert_eq!(severity, Severity::Breaks, "{what}");
    Some(what)
}

/// The proxy requests 10m and 20Mi by default, and has no limits.
#[test]
fn limit_ranges_that_refuse_the_proxy_are_found_and_others_are_not() {
    for (limits, expected) in [
        ("min: {memory: 32Mi}", Some("wants at least 32Mi of memory")),
        ("min: {memory: 16Mi, cpu: 5m}", None),
        ("max: {memory: 16Mi}", Some("allows at most 16Mi of memory")),
        ("max: {memory: 1Gi, cpu: 2}", None),
        ("max: {cpu: 0.001}", Some("allows at most 0.001 of cpu")),
        // A limit by default, and 50 times the request.
        (
            "default: {cpu: 500m}, maxLimitRequestRatio: {cpu: 10}",
            Some("a limit of 10 times the request of cpu"),
        ),
        (
            "max: {cpu: 500m}, maxLimitRequestRatio: {cpu: 10}",
            Some("its limit is 500m"),
        ),
        (
            "default: {cpu: 100m}, maxLimitRequestRatio: {cpu: 10}",
            None,
        ),
        (
            "maxLimitRequestRatio: {memory: 2}",
            Some("its limit is none"),
        ),
        (
            "default: {memory: 10Mi}",
            Some("gives the proxy a limit of 10Mi of memory"),
        ),
    ] {
        let range = format!("{{limits: [{{type: Container, {limits}}}]}}");
        let found = refusal("", &[("LimitRange", &range)]);
        match expected {
            Some(part) => assert!(
                found.as_ref().is_some_and(|what| what.contains(part)),
                "{limits}: {found:?}"
            ),
            None => assert_eq!(found, None, "{limits}"),
        }
        let of_claims = range.replace("Container", "PersistentVolumeClaim");
        assert_eq!(refusal("", &[("LimitRange", &of_claims)]), None);
    }
}

#[test]
fn a_limit_range_with_a_maximum_gives_the_limit_that_a_quota_wants() {
    let quota = ("ResourceQuota", "{hard: {limits.memory: 1Gi}}");
    let range = (
        "LimitRange",
        "{limits: [{type: Container, max: {memory: 1Gi}}]}",
    );
    assert!(refusal("", &[quota]).is_some());
    assert_eq!(refusal("", &[quota, range]), None);
}

#[test]
fn the_proxys_own_limit_is_enough_for_a_quota() {
    let quota = "kind: ResourceQuota\nmetadata: {name: q, namespace: shop}\n\
                 spec: {hard: {limits.memory: 1Gi}}\n---\n";
    let limited = deployment(APP).replace(
        "labels: {app: web}",
        "annotations: {config.linkerd.io/proxy-memory-limit: 64Mi}",
    );
    assert_eq!(finding(&(limited + quota)), None);
}

#[test]
fn quotas_count_in_their_scopes_alone() {
    let deadline = "activeDeadlineSeconds: 60";
    let urgent = "priorityClassName: urgent";
    let class = |operator: &str| {
        format!(
            "scopeSelector: {{matchExpressions: [{{scopeName: PriorityClass, operator: {operator}, \
             values: [urgent]}}]}}"
        )
    };
    for (spec, scope, applies) in [
        ("", "scopes: [NotBestEffort]".to_owned(), true),
        ("", "scopes: [BestEffort]".to_owned(), false),
        ("", "scopes: [Terminating]".to_owned(), false),
        (deadline, "scopes: [Terminating]".to_owned(), true),
        (deadline, "scopes: [NotTerminating]".to_owned(), false),
        (
            "",
            "scopes: [NotTerminating, NotBestEffort]".to_owned(),
            true,
        ),
        ("", class("In"), false),
        (urgent, class("In"), true),
        (urgent, class("NotIn"), false),
    ] {
        let quota = format!("{{hard: {{limits.cpu: 4}}, {scope}}}");
        let found = refusal(spec, &[("ResourceQuota", &quota)]);
        assert_eq!(found.is_some(), applies, "{spec} {scope}: {found:?}");
    }
}

/// The ports on which policies with these specs keep the pod from its control plane.
fn blocked(policies: &[&str]) -> Vec<String> {
    let policies: String = policies
        .iter()
        .map(|spec| {
            format!(
                "kind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n---\n"
            )
        })
        .collect();
    let options = Options {
        identity: IdentitySource::Service,
        ..options(TlsMode::Optional)
    };
    let explanation = explained(&(deployment(APP) + &policies), &options);
    let findings = explanation.workloads[0].findings.iter();
    findings
        .map(|finding| {
            let port = finding.what.split("on port ").nth(1).expect("a port");
            port.split(':').next().expect("a number").to_owned()
        })
        .collect()
}

#[test]
fn policies_that_keep_a_pod_from_its_control_plane_are_found() {
    let deny = "{podSelector: {}, policyTypes: [Ingress, Egress]}";
    assert_eq!(blocked(&[deny]), ["4191", "4190", "53", "8086", "8080"]);
    let ingress = "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: http}]}]}";
    assert_eq!(blocked(&[ingress]), ["4191", "4190"]);
    let namespace = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: \
         {kubernetes.io/metadata.name: other}}}]}]}";
    assert_eq!(blocked(&[namespace]), ["4191", "4190"]);
    let web_out = "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, \
                   protocol: UDP}, {port: 443}]}]}";
    assert_eq!(blocked(&[web_out]), ["8086", "8080"]);
}

#[test]
fn policies_that_may_let_the_control_plane_pass_are_no_findings() {
    let deny = "{podSelector: {}, policyTypes: [Ingress, Egress]}";
    let allow = "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: \
                 [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: linkerd}}}], ports: \
                 [{port: linkerd-metrics}, {port: 4180, endPort: 4190}]}], egress: [{}]}";
    assert_eq!(blocked(&[deny, allow]), Vec::<String>::new());
    for other in [
        "{podSelector: {matchLabels: {app: other}}}",
        "{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}}",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}",
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: mesh}}}]}]}",
        "{podSelector: {}, ingress: [{}]}",
        // Names of ports that other pods have.
        "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: dns, protocol: UDP}, \
         {port: grpc}]}]}",
    ] {
        assert_eq!(blocked(&[other]), Vec::<String>::new(), "{other}");
    }
}

#[test]
fn jobs_and_init_containers_need_a_native_sidecar() {
    let job = deployment("initContainers: [{name: first}]\ncontainers: [{name: app}]")
        .replace("Deployment", "Job");
    let plain = Options {
        sidecar: Sidecar::Plain,
        ..options(TlsMode::Optional)
    };
    let explanation = explained(&job, &plain);
    let findings = &explanation.workloads[0].findings;
    assert!(findings[0].what.contains("never complete"), "{findings:?}");
    assert!(findings[1].what.contains("first"), "{findings:?}");
    assert!(explanation.breaks());
    assert!(!explained(&job, &options(TlsMode::Optional)).breaks());
}

#[test]
fn items_of_lists_and_objects_in_other_documents_are_seen() {
    let item =
        "kind: Pod\n  metadata: {name: a, labels: {app: a}}\n  spec: {containers: [{name: app}]}";
    let service = "kind: Service\n  metadata: {name: s}\n  spec: {selector: {app: a}, ports: \
                   [{port: 80, targetPort: 9999, appProtocol: grpc}]}";
    let list = format!("kind: List\nitems:\n- {item}\n- {service}\n");
    let explanation = explained(&list, &options(TlsMode::Optional));
    let plan = &explanation.workloads[0];
    assert_eq!(plan.object, "pod/a");
    let ports: Vec<(u16, &str)> = plan
        .ports
        .iter()
        .map(|port| (port.port, port.expected.name))
        .collect();
    assert_eq!(ports, [(9999, "gRPC")]);
    let identity = plan.proxy.as_ref().and_then(|proxy| proxy.identity.clone());
    assert_eq!(
        identity.as_deref(),
        Some("a.pod.<namespace>.linkerd-managed.linkerd.svc.cluster.local")
    );
}

#[test]
fn what_is_no_manifest_is_an_error_as_for_injection() {
    let error = explain(&source("a: ["), &options(TlsMode::Off), &[]).expect_err("no YAML");
    assert!(error.to_string().starts_with("test.yml: document 1 of 1"));
}

/// The Namespace `shop` with these annotations.
fn namespace(annotations: &Value) -> Value {
    json!({"kind": "Namespace", "metadata": {"name": "shop", "annotations": annotations}})
}

/// CPU of the proxy and the notes, when the cluster has this Namespace.
fn in_namespace(manifests: &str, of_cluster: Value) -> (Option<String>, String) {
    let options = options(TlsMode::Optional);
    let explanation = explain(&source(manifests), &options, &[of_cluster]).expect("valid");
    let plan = explanation.workloads.first().expect("a workload");
    let proxy = plan.proxy.as_ref().expect("meshed");
    (proxy.cpu_request.clone(), plan.notes.join("\n"))
}

#[test]
fn what_the_namespace_configures_counts_where_it_asks_for_the_proxy() {
    let cpu = "config.linkerd.io/proxy-cpu-request";
    let enabled = json!({"linkerd.io/inject": "enabled", cpu: "70m"});
    let (request, notes) = in_namespace(&deployment(APP), namespace(&enabled));
    assert_eq!(request.as_deref(), Some("70m"));
    assert!(
        notes.contains(cpu) && notes.contains("linkerd-injector writes"),
        "{notes}"
    );

    // The pod template wins.
    let own = deployment(APP).replace(
        "labels: {app: web}",
        &format!("annotations: {{{cpu}: 80m}}"),
    );
    let (request, notes) = in_namespace(&own, namespace(&enabled));
    assert_eq!((request.as_deref(), notes.as_str()), (Some("80m"), ""));

    // Nobody asks linkerd-injector.
    let (request, notes) = in_namespace(&deployment(APP), namespace(&json!({cpu: "70m"})));
    assert_ne!(request.as_deref(), Some("70m"));
    assert!(notes.contains("without effect"), "{notes}");
    let disabled = deployment(APP).replace(
        "labels: {app: web}",
        "annotations: {linkerd.io/inject: disabled}",
    );
    let options = options(TlsMode::Optional);
    let explanation = explain(&source(&disabled), &options, &[namespace(&enabled)]).expect("valid");
    assert_eq!(explanation.workloads[0].proxy, None);
}

#[test]
fn a_namespace_in_the_manifests_wins_over_that_of_the_cluster() {
    let cpu = "config.linkerd.io/proxy-cpu-request";
    let ours = json!({"linkerd.io/inject": "enabled", cpu: "70m"});
    let manifests = format!("{}---\n{}\n", deployment(APP), namespace(&ours));
    let theirs = json!({"linkerd.io/inject": "enabled", cpu: "90m"});
    let (request, _) = in_namespace(&manifests, namespace(&theirs));
    assert_eq!(request.as_deref(), Some("70m"));
    let elsewhere = |manifests: &str| {
        let found = linkerd_inject::explain::namespaces_elsewhere(&source(manifests));
        found.expect("valid").into_iter().collect::<Vec<_>>()
    };
    assert_eq!(elsewhere(&manifests), Vec::<String>::new());
    assert_eq!(elsewhere(&deployment(APP)), ["shop"]);
    assert_eq!(
        elsewhere("kind: Pod\nmetadata: {name: a}\nspec: {}\n"),
        Vec::<String>::new()
    );
}

#[test]
fn an_annotation_of_the_namespace_that_cannot_be_read_refuses_the_pod() {
    let wrong = json!({
        "linkerd.io/inject": "enabled", "config.linkerd.io/proxy-uid": "root",
    });
    let options = options(TlsMode::Optional);
    let explanation =
        explain(&source(&deployment(APP)), &options, &[namespace(&wrong)]).expect("valid");
    let finding = &explanation.workloads[0].findings[0];
    assert!(
        finding.what.contains("config.linkerd.io/proxy-uid"),
        "{finding:?}"
    );
}

#[test]
fn the_pod_security_level_of_a_namespace_in_the_cluster_is_known() {
    let mut restricted = namespace(&json!({}));
    restricted["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let options = options(TlsMode::Optional);
    let explanation = explain(&source(&deployment(APP)), &options, &[restricted]).expect("valid");
    assert!(explanation.breaks(), "{explanation:?}");
}

#[test]
fn ports_of_the_proxy_that_are_one_are_found() {
    let colliding = Options {
        control_port: 4143,
        ..options(TlsMode::Optional)
    };
    let explanation = explained(&deployment(APP), &colliding);
    let plan = &explanation.workloads[0];
    assert_eq!(plan.fate, Fate::Refused);
    let what = &plan.findings[0].what;
    assert!(what.contains("listen on port 4143 twice"), "{what}");
    assert!(explanation.breaks());
}
