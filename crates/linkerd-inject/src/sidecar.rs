//! The two containers and the volumes that injection adds to a pod.
//! Entry: [`init_container`], [`proxy_container`], [`volumes`].

use std::collections::BTreeMap;

use linkerd_names::{CLUSTER_DOMAIN, Owner, OwnerKind, component, env, paths};
use serde_json::{Value, json};

use crate::{
    options::{self, Options, PortRange, Resources, Sidecar, TlsMode},
    pod::joined,
};

/// How long the containers after a native sidecar wait for it. It is ready, or has given up
/// waiting for its certificate, before that.
const AWAIT_TIMEOUT: &str = "10s";

/// Prometheus talks to every pod of the mesh; other workloads to few.
const PROMETHEUS_ROUTER_CAPACITY: &str = "10000";

/// Which pod it is.
pub(crate) struct Placement<'a> {
    pub(crate) kind: OwnerKind,
    /// Empty when the name is generated.
    pub(crate) name: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) component: Option<&'static str>,
    pub(crate) skip_inbound: Vec<PortRange>,
    pub(crate) skip_outbound: Vec<PortRange>,
    /// Ports at whose bytes the proxy is not to look.
    pub(crate) opaque_ports: Vec<PortRange>,
    /// The ports that kubelet will ask the proxy for, each with its timeout in seconds.
    pub(crate) tcp_probes: BTreeMap<u16, u64>,
}

impl Placement<'_> {
    fn is_destination(&self, options: &Options) -> bool {
        self.kind == OwnerKind::Deployment
            && self.name == component::DESTINATION
            && self.namespace == Some(&options.control_plane_namespace)
    }
}

/// The container that redirects the pod's traffic to the proxy, and ends.
pub(crate) fn init_container(placement: &Placement<'_>, options: &Options) -> Value {
    let Placement {
        skip_inbound,
        skip_outbound,
        ..
    } = placement;
    let mut ignored = format!("{},{}", options.control_port, options.metrics_port);
    if !skip_inbound.is_empty() {
        ignored = format!("{ignored},{}", joined(skip_inbound));
    }
    let mut args = vec![
        "--incoming-proxy-port".to_owned(),
        options.inbound_port.to_string(),
        "--outgoing-proxy-port".to_owned(),
        options.outbound_port.to_string(),
        "--proxy-uid".to_owned(),
        options.proxy_uid.to_string(),
        "--inbound-ports-to-ignore".to_owned(),
        ignored,
    ];
    if !skip_outbound.is_empty() {
        args.extend([
            "--outbound-ports-to-ignore".to_owned(),
            joined(skip_outbound),
        ]);
    }
    json!({
        "name": component::INIT_CONTAINER,
        "image": options::image_with_tag(&options.init_image, &options.version),
        "imagePullPolicy": options.image_pull_policy.as_str(),
        "args": args,
        // It ends before the proxy starts, so the pod needs no more than with the proxy alone; it has limits
        // when the proxy has, for a pod is Guaranteed, and within a quota on limits, by all of its containers.
        "resources": resources(&options.proxy_resources),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

/// The proxy.
pub(crate) fn proxy_container(placement: &Placement<'_>, options: &Options) -> Value {
    let mut container = json!({
        "name": component::PROXY_CONTAINER,
        "image": options::image_with_tag(&options.proxy_image, &options.version),
        "imagePullPolicy": options.image_pull_policy.as_str(),
        "env": environment(placement, options),
        "ports": [
            {"name": component::INBOUND_PORT_NAME, "containerPort": options.inbound_port},
            {"name": component::METRICS_PORT_NAME, "containerPort": options.metrics_port},
        ],
        "livenessProbe": {
            "httpGet": {"path": "/live", "port": options.metrics_port},
            "initialDelaySeconds": 10,
        },
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": options.metrics_port},
            "periodSeconds": 5,
        },
        "resources": resources(&options.proxy_resources),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "runAsUser": options.proxy_uid,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    });
    if options.sidecar == Sidecar::Native {
        container["restartPolicy"] = json!("Always");
    }
    // The control plane does not wait: its own certificates come from one of its pods.
    if options.sidecar == Sidecar::Native && placement.component.is_none() {
        let command = ["/linkerd-proxy", "await", "--timeout", AWAIT_TIMEOUT];
        container["lifecycle"] = json!({"postStart": {"exec": {"command": command}}});
    }
    if options.tls == TlsMode::Optional {
        let mount =
            |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
        let identity = if options.uses_identity_service() {
            mount(component::IDENTITY_TOKEN_VOLUME, paths::IDENTITY_TOKEN_DIR)
        } else {
            mount(component::IDENTITY_VOLUME, paths::IDENTITY_DIR)
        };
        container["volumeMounts"] = json!([
            mount(component::TRUST_ANCHORS_VOLUME, paths::TRUST_ANCHORS_DIR),
            identity,
        ]);
    }
    container
}

fn resources(resources: &Resources) -> Value {
    let Resources {
        cpu_request,
        cpu_limit,
        memory_request,
        memory_limit,
    } = resources;
    let mut value = json!({"requests": {"cpu": cpu_request, "memory": memory_request}});
    for (name, limit) in [("cpu", cpu_limit), ("memory", memory_limit)] {
        if let Some(limit) = limit {
            value["limits"][name] = json!(limit);
        }
    }
    value
}

/// The volumes with the trust bundle, and with the workload's certificate or the token that it is asked
/// for with. What `linkerd-ca` writes is optional, so that the pod starts before it has.
pub(crate) fn volumes(placement: &Placement<'_>, options: &Options) -> [Value; 2] {
    let Placement { kind, name, .. } = placement;
    let owner = Owner {
        namespace: String::new(),
        kind: *kind,
        name: (*name).to_owned(),
    };
    let identity = if options.uses_identity_service() {
        let token = json!({
            "path": component::IDENTITY_TOKEN_KEY,
            "audience": component::IDENTITY_TOKEN_AUDIENCE,
            "expirationSeconds": component::IDENTITY_TOKEN_SECONDS,
        });
        json!({
            "name": component::IDENTITY_TOKEN_VOLUME,
            "projected": {"sources": [{"serviceAccountToken": token}]},
        })
    } else {
        json!({
            "name": component::IDENTITY_VOLUME,
            "secret": {"secretName": owner.secret_name(), "optional": true},
        })
    };
    [
        json!({
            "name": component::TRUST_ANCHORS_VOLUME,
            "configMap": {"name": component::TRUST_BUNDLE_CONFIG_MAP, "optional": true},
        }),
        identity,
    ]
}

fn environment(placement: &Placement<'_>, options: &Options) -> Vec<Value> {
    let control_plane = &options.control_plane_namespace;
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let value = |name: &str, value: &str| json!({"name": name, "value": value});
    let listener = |host: &str, port: u16| format!("tcp://{host}:{port}");
    let host = if placement.is_destination(options) {
        "localhost.".to_owned()
    } else {
        format!(
            "{}.{control_plane}.svc.{CLUSTER_DOMAIN}",
            component::DESTINATION
        )
    };

    let mut environment = vec![
        value(env::LOG, &options.proxy_log_level),
        value(env::BIND_TIMEOUT, &options.proxy_bind_timeout),
        value(env::CONTROL_URL, &listener(&host, options.api_port)),
        value(
            env::CONTROL_LISTENER,
            &listener("0.0.0.0", options.control_port),
        ),
        value(
            env::METRICS_LISTENER,
            &listener("0.0.0.0", options.metrics_port),
        ),
        value(
            env::PRIVATE_LISTENER,
            &listener("127.0.0.1", options.outbound_port),
        ),
        value(
            env::PUBLIC_LISTENER,
            &listener("0.0.0.0", options.inbound_port),
        ),
        field(env::POD_NAMESPACE, "metadata.namespace"),
        field(env::POD_NAME, "metadata.name"),
    ];
    if !placement.tcp_probes.is_empty() {
        let probes = placement.tcp_probes.iter();
        let probes: Vec<String> = probes
            .map(|(port, seconds)| format!("{port}={seconds}s"))
            .collect();
        environment.push(value(env::TCP_PROBES, &probes.join(",")));
    }
    if !placement.opaque_ports.is_empty() {
        environment.push(value(
            env::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION,
            &joined(&placement.opaque_ports),
        ));
    }
    if placement.component == Some(component::PROMETHEUS) {
        environment.push(value(
            env::OUTBOUND_ROUTER_CAPACITY,
            PROMETHEUS_ROUTER_CAPACITY,
        ));
    }
    if options.tls == TlsMode::Optional {
        let managed = format!("linkerd-managed.{control_plane}.svc.{CLUSTER_DOMAIN}");
        let Placement { kind, name, .. } = placement;
        let identity = format!("{name}.{kind}.{}.{managed}", env::POD_NAMESPACE_TOKEN);
        let deployment = OwnerKind::Deployment;
        let destination = format!(
            "{}.{deployment}.{control_plane}.{managed}",
            component::DESTINATION
        );
        environment.push(value(env::TLS_TRUST_ANCHORS, paths::TRUST_ANCHORS));
        if options.uses_identity_service() {
            environment.extend([
                value(env::IDENTITY_URL, &listener(&host, options.identity_port)),
                value(env::IDENTITY_TOKEN_FILE, paths::IDENTITY_TOKEN),
            ]);
        } else {
            environment.extend([
                value(env::TLS_CERT, paths::CERTIFICATE),
                value(env::TLS_PRIVATE_KEY, paths::PRIVATE_KEY),
            ]);
        }
        environment.extend([
            value(env::TLS_POD_IDENTITY, &identity),
            value(env::CONTROLLER_NAMESPACE, control_plane),
            value(env::TLS_CONTROLLER_IDENTITY, &destination),
        ]);
    }
    environment
}
