//! Has kubelet ask the proxy whether the application listens, where a connection of kubelet's own would
//! meet the proxy and prove nothing: a `tcpSocket` probe becomes a `httpGet` probe of the proxy, which connects.
//! Entries: [`redirect`], and [`restore`] for the way back; the probe itself carries what it was.

use std::collections::BTreeMap;

use linkerd_names::{component, probe::TCP_PATH};
use serde_json::Value;

use crate::{
    object::{Fields, Workload},
    options::{Options, PortRange, Sidecar},
};

/// The fields of a container that are probes.
const PROBES: [&str; 3] = ["startupProbe", "readinessProbe", "livenessProbe"];

/// Stands between the port's number and its name, where the probe had named it.
const NAME: &str = "?name=";

/// What Kubernetes gives a probe that has no `timeoutSeconds`.
const TIMEOUT_SECONDS_DEFAULT: u64 = 1;

/// What became of a pod's probes.
#[derive(Debug, Default)]
pub(crate) struct Redirected {
    /// The ports that the proxy will be asked for, each with the longest `timeoutSeconds` of its probes.
    pub(crate) timeouts: BTreeMap<u16, u64>,
    /// Probes that name a port that their container does not have, in words. They are left as they are,
    /// and are as broken as they were.
    pub(crate) unknown_ports: Vec<String>,
}

/// Redirects the `tcpSocket` probes of `spec`, to which no container of ours was added yet, as far as the
/// proxy takes the connections of their ports.
pub(crate) fn redirect(
    workload: &Workload,
    spec: &mut Fields,
    skip_inbound: &[PortRange],
    options: &Options,
) -> Redirected {
    let lists: &[&str] = match options.sidecar {
        Sidecar::Native => &["initContainers", "containers"],
        // Init containers run before such a proxy: it could not answer for them.
        Sidecar::Plain => &["containers"],
    };
    let own = [
        options.inbound_port,
        options.outbound_port,
        options.control_port,
        options.metrics_port,
    ];
    let enters = |port| !own.contains(&port) && !skip_inbound.iter().any(|it| it.contains(port));

    let mut redirected = Redirected::default();
    for list in lists {
        for container in items_mut(spec, list) {
            for field in PROBES {
                redirected.add(workload, container, field, &enters, options.metrics_port);
            }
        }
    }
    redirected
}

impl Redirected {
    /// Redirects the probe in one field of a container, when there is one and its port `enters` the proxy.
    fn add(
        &mut self,
        workload: &Workload,
        container: &mut Value,
        field: &str,
        enters: &impl Fn(u16) -> bool,
        metrics_port: u16,
    ) {
        let Some(port) = socket(&container[field]).map(|socket| &socket["port"]) else {
            return;
        };
        let number = port_number(&container["ports"], port);
        if let (Some(name), None) = (port.as_str(), number) {
            let container = container["name"].as_str().unwrap_or_default();
            let text = format!("container {container} has no port {name:?} ({field})");
            self.unknown_ports.push(text);
        }
        let Some(number) = number.filter(|number| enters(*number)) else {
            return;
        };
        let path = match port.as_str() {
            Some(name) => format!("{TCP_PATH}{number}{NAME}{name}"),
            None => format!("{TCP_PATH}{number}"),
        };
        let seconds = container[field]["timeoutSeconds"].as_u64();
        let seconds = seconds.unwrap_or_default().max(TIMEOUT_SECONDS_DEFAULT);
        let longest = self.timeouts.entry(number).or_default();
        *longest = seconds.max(*longest);
        ask_proxy(workload, &mut container[field], &path, metrics_port);
    }
}

/// Gives the probes of `spec` back that [`redirect`] has changed. The proxy must be in it still: its
/// metrics port is how they are known.
pub(crate) fn restore(spec: &mut Fields) {
    let proxy = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| spec.get(list).and_then(Value::as_array))
        .flatten()
        .find(|container| container["name"] == component::PROXY_CONTAINER);
    let ports = proxy.map(|proxy| proxy["ports"].clone());
    let metrics_port =
        ports.and_then(|ports| port_number(&ports, &component::METRICS_PORT_NAME.into()));
    let Some(metrics_port) = metrics_port else {
        return;
    };
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            for field in PROBES {
                if is_redirected(&container[field], metrics_port) {
                    ask_application(&mut container[field]);
                }
            }
        }
    }
}

/// Whether [`redirect`] has made this probe, for a proxy with this metrics port.
pub(crate) fn is_redirected(probe: &Value, metrics_port: u16) -> bool {
    let get = &probe["httpGet"];
    get["port"] == metrics_port && get["path"].as_str().and_then(written_port).is_some()
}

/// The number of a port of a probe, which is a number, or a name among the ports of its container.
pub(crate) fn port_number(ports: &Value, port: &Value) -> Option<u16> {
    let number = match port.as_str() {
        None => port,
        Some(name) => {
            let mut ports = ports.as_array()?.iter();
            &ports.find(|port| port["name"] == name)?["containerPort"]
        }
    };
    let number = u16::try_from(number.as_u64()?).ok();
    number.filter(|number| *number > 0)
}

/// The `tcpSocket` of a probe of the pod itself. A probe with a second handler is left to the API server,
/// which refuses it.
fn socket(probe: &Value) -> Option<&Value> {
    let socket = probe.get("tcpSocket").filter(|it| it.is_object())?;
    let elsewhere = socket["host"].as_str().is_some_and(|host| !host.is_empty());
    (!elsewhere && probe["httpGet"].is_null()).then_some(socket)
}

fn ask_proxy(workload: &Workload, probe: &mut Value, path: &str, metrics_port: u16) {
    replace(probe, |field, value| match (field, value) {
        ("tcpSocket", Value::Object(mut socket)) => {
            socket.shift_insert(0, "path".to_owned(), path.into());
            socket.insert("port".to_owned(), metrics_port.into());
            let mut fields = vec![("httpGet", Value::Object(socket))];
            // `kubectl apply` onto an object that it did not make keeps what it finds there, unless it
            // is told that it goes; then there would be two handlers. Probes of a pod never change.
            if !workload.is_pod() {
                fields.push(("tcpSocket", Value::Null));
            }
            fields
        }
        // As good as not there.
        ("httpGet", Value::Null) => Vec::new(),
        (_, value) => vec![(field, value)],
    });
}

fn ask_application(probe: &mut Value) {
    replace(probe, |field, value| match (field, value) {
        ("httpGet", Value::Object(mut get)) => {
            let path = get.shift_remove("path");
            let port = path.as_ref().and_then(Value::as_str).and_then(written_port);
            // The API server's addition.
            get.shift_remove("scheme");
            get.extend(port.map(|port| ("port".to_owned(), port)));
            vec![("tcpSocket", Value::Object(get))]
        }
        ("tcpSocket", Value::Null) => Vec::new(),
        (_, value) => vec![(field, value)],
    });
}

/// Puts what `change` makes of each field in its place.
fn replace(probe: &mut Value, change: impl Fn(&str, Value) -> Vec<(&str, Value)>) {
    let Value::Object(fields) = probe else {
        return;
    };
    let mut changed = Fields::new();
    for (field, value) in std::mem::take(fields) {
        for (field, value) in change(&field, value) {
            changed.insert(field.to_owned(), value);
        }
    }
    *fields = changed;
}

/// The port that a path of [`redirect`] stands for, as the probe had it: a name or a number.
fn written_port(path: &str) -> Option<Value> {
    let port = path.strip_prefix(TCP_PATH)?;
    match port.split_once(NAME) {
        Some((_, name)) => Some(name.into()),
        None => port.parse::<u16>().ok().map(Value::from),
    }
}

fn items_mut<'a>(spec: &'a mut Fields, list: &str) -> impl Iterator<Item = &'a mut Value> {
    let items = spec.get_mut(list).and_then(Value::as_array_mut);
    items.into_iter().flatten()
}
