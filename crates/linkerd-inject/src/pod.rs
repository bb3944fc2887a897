//! Adds the proxy to one pod template.
//! Entry: [`inject`], which decides whether to, and [`removal`](crate::removal) for the way back.

use linkerd_names::{Identity, OwnerKind, annotations, component, labels};
use serde_json::Value;

use crate::{
    ObjectError,
    config::{Configured, configure},
    known_sidecars::is_known,
    object::{Fields, Workload, is_disabled},
    options::{self, Options, PortRange, Sidecar, TlsMode},
    pod_resources, proxy_ports,
    report::{Entry, Outcome},
    sidecar::{self, Placement},
    tcp_probes::{self, Redirected},
};

/// Stands for a namespace that the manifest leaves to kubectl, where only the length of the
/// identity is of interest: the shortest one there can be.
const NAMESPACE_UNKNOWN: &str = "n";

/// Adds the proxy to `template`, unless there is a reason to leave it alone.
pub(crate) fn inject(
    workload: &Workload,
    template: &mut Fields,
    options: &Options,
) -> Result<Entry, ObjectError> {
    let spec = workload.mapping(template, "spec")?;
    let udp = uses_udp(spec);
    let entry = |outcome| Entry {
        udp,
        ..Entry::new(workload.to_string(), outcome)
    };

    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        return Ok(entry(Outcome::HostNetwork));
    }
    if is_known(&template["spec"]) {
        return Ok(entry(Outcome::KnownSidecar));
    }
    if workload.disabled || template.get("metadata").is_some_and(is_disabled) {
        return Ok(entry(Outcome::Disabled));
    }
    if is_for_windows(&template["spec"]) {
        return Ok(entry(Outcome::Windows));
    }
    let Configured {
        options,
        opaque_ports,
        ignored,
    } = configure(workload, template, options)?;
    let options = &options;
    let name = check_name(workload, options)?;
    check_users(workload, &template["spec"], options.proxy_uid)?;
    proxy_ports::check_free(workload, &template["spec"], options)?;

    let skipped = |annotation, flag| skipped(workload, template, annotation, flag);
    let skip_inbound = skipped(annotations::SKIP_INBOUND_PORTS, &options.skip_inbound_ports)?;
    let skip_outbound = skipped(
        annotations::SKIP_OUTBOUND_PORTS,
        &options.skip_outbound_ports,
    )?;
    let spec = workload.mapping(template, "spec")?;
    let Redirected {
        timeouts,
        unknown_ports,
    } = tcp_probes::redirect(workload, spec, &skip_inbound, options);
    let placement = Placement {
        kind: workload.kind,
        name: name.unwrap_or_default(),
        namespace: workload.namespace.as_deref(),
        component: component_of(template),
        skip_inbound,
        skip_outbound,
        opaque_ports,
        tcp_probes: timeouts,
    };
    mark(workload, template, &placement, options)?;
    pod_resources::raise(workload, template, &options.proxy_resources)?;
    add_containers(
        workload,
        workload.mapping(template, "spec")?,
        &placement,
        options,
    )?;
    Ok(Entry {
        endless: options.sidecar == Sidecar::Plain
            && matches!(workload.kind, OwnerKind::Job | OwnerKind::CronJob),
        ignored,
        unknown_ports,
        ..entry(Outcome::Injected)
    })
}

fn add_containers(
    workload: &Workload,
    spec: &mut Fields,
    placement: &Placement<'_>,
    options: &Options,
) -> Result<(), ObjectError> {
    let init = sidecar::init_container(placement, options);
    let proxy = sidecar::proxy_container(placement, options);
    workload.list(spec, "spec.containers")?;
    match options.sidecar {
        Sidecar::Native => {
            workload
                .list(spec, "spec.initContainers")?
                .splice(0..0, [init, proxy]);
        }
        Sidecar::Plain => {
            workload.list(spec, "spec.initContainers")?.push(init);
            workload.list(spec, "spec.containers")?.push(proxy);
        }
    }
    if options.tls == TlsMode::Optional {
        workload
            .list(spec, "spec.volumes")?
            .extend(sidecar::volumes(placement, options));
    }
    Ok(())
}

/// Writes the labels and annotations by which others know the pod.
fn mark(
    workload: &Workload,
    template: &mut Fields,
    placement: &Placement<'_>,
    options: &Options,
) -> Result<(), ObjectError> {
    let metadata = workload.mapping(template, "metadata")?;

    let notes = workload.mapping(metadata, "metadata.annotations")?;
    let mut note = |key: &str, value: String| notes.insert(key.to_owned(), Value::from(value));
    note(annotations::CREATED_BY, options.created_by.clone());
    note(annotations::PROXY_VERSION, options.version.clone());
    // Others read there which ports know no TLS.
    note_skipped(
        notes,
        annotations::SKIP_INBOUND_PORTS,
        annotations::SKIP_INBOUND_PORTS_BEFORE,
        &placement.skip_inbound,
    );
    note_skipped(
        notes,
        annotations::SKIP_OUTBOUND_PORTS,
        annotations::SKIP_OUTBOUND_PORTS_BEFORE,
        &placement.skip_outbound,
    );

    let marks = workload.mapping(metadata, "metadata.labels")?;
    let mut label = |key: &str, value: &str| marks.insert(key.to_owned(), Value::from(value));
    label(
        labels::CONTROL_PLANE_NAMESPACE,
        &options.control_plane_namespace,
    );
    if options.tls == TlsMode::Optional {
        label(labels::TLS_MODE, labels::TLS_MODE_OPTIONAL);
    }
    if options.uses_identity_service() {
        label(labels::IDENTITY_MODE, labels::IDENTITY_MODE_SERVICE);
    }
    if let (Some(key), Some(name)) = (workload.kind.pod_label(), &workload.name)
        && name.len() <= labels::VALUE_LENGTH_MAX
    {
        label(&key, name);
    }
    Ok(())
}

/// Writes `skipped` into `annotation`, and under `before` what was there: `uninject` gives that back. When
/// the flags have added nothing, what the user wrote stays as it is.
fn note_skipped(notes: &mut Fields, annotation: &str, before: &str, skipped: &[PortRange]) {
    let written = notes.get(annotation).and_then(Value::as_str);
    let written = written.unwrap_or_default().to_owned();
    if options::port_ranges(&written).unwrap_or_default() == skipped {
        return;
    }
    notes.insert(annotation.to_owned(), Value::from(joined(skipped)));
    notes.insert(before.to_owned(), Value::from(written));
}

/// Makes sure that the workload can have an identity, if it is to have one.
fn check_name<'a>(
    workload: &'a Workload,
    options: &Options,
) -> Result<Option<&'a str>, ObjectError> {
    let kind = workload.kind.to_string();
    let Some(name) = workload.name.as_deref() else {
        return match &workload.generate_name {
            None => Err(ObjectError::NoName { kind }),
            Some(_) if options.tls == TlsMode::Off => Ok(None),
            Some(generate_name) => Err(ObjectError::GenerateName {
                kind,
                generate_name: generate_name.clone(),
            }),
        };
    };
    if options.tls == TlsMode::Optional {
        let namespace = workload.namespace.as_deref().unwrap_or(NAMESPACE_UNKNOWN);
        Identity::new(
            name,
            workload.kind,
            namespace,
            &options.control_plane_namespace,
        )
        .map_err(|error| ObjectError::Identity {
            object: workload.to_string(),
            error,
        })?;
    }
    Ok(Some(name))
}

/// Makes sure that no container runs as the proxy's user, whose traffic is not redirected.
fn check_users(workload: &Workload, spec: &Value, proxy_uid: u32) -> Result<(), ObjectError> {
    let pod_user = &spec["securityContext"]["runAsUser"];
    for container in containers(spec) {
        let own_user = &container["securityContext"]["runAsUser"];
        let user = if own_user.is_null() {
            pod_user
        } else {
            own_user
        };
        if user.as_u64() == Some(proxy_uid.into()) {
            return Err(ObjectError::ProxyUser {
                object: workload.to_string(),
                container: container["name"].as_str().unwrap_or_default().to_owned(),
                uid: proxy_uid,
            });
        }
    }
    Ok(())
}

/// Whether the pod is for nodes with Windows. The API server refuses it with the fields for Linux that our
/// containers have when it says so itself; when its selector of nodes does, they would not start there.
fn is_for_windows(spec: &Value) -> bool {
    spec["os"]["name"] == "windows" || spec["nodeSelector"]["kubernetes.io/os"] == "windows"
}

/// The init containers and the containers of a pod.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| spec[list].as_array().into_iter().flatten())
}

fn uses_udp(spec: &Fields) -> bool {
    let lists = [spec.get("containers"), spec.get("initContainers")];
    lists
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .any(|container| {
            let ports = container["ports"].as_array();
            ports
                .into_iter()
                .flatten()
                .any(|port| port["protocol"] == "UDP")
        })
}

/// The ports that bypass the proxy: those that the pod's annotation names, and those of the flag.
fn skipped(
    workload: &Workload,
    template: &Fields,
    annotation: &'static str,
    flag: &[PortRange],
) -> Result<Vec<PortRange>, ObjectError> {
    let written = template
        .get("metadata")
        .and_then(|metadata| metadata["annotations"][annotation].as_str())
        .unwrap_or_default();
    let mut ports = options::port_ranges(written).map_err(|error| ObjectError::Annotation {
        object: workload.to_string(),
        annotation,
        error,
    })?;
    for port in flag {
        if !ports.contains(port) {
            ports.push(*port);
        }
    }
    Ok(ports)
}

/// Which component of the control plane the pod belongs to.
fn component_of(template: &Fields) -> Option<&'static str> {
    let label = template.get("metadata")?["labels"][labels::CONTROL_PLANE_COMPONENT].as_str()?;
    [
        component::CA,
        component::DESTINATION,
        component::API,
        component::INJECTOR,
        component::PROMETHEUS,
    ]
    .into_iter()
    .find(|component| *component == label)
}

/// The ports as a comma-separated list.
pub(crate) fn joined(ports: &[PortRange]) -> String {
    ports
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}
