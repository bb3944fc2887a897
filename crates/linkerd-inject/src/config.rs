//! What the annotations `config.linkerd.io/…` say about the proxy of one pod. Entry: [`configure`].
//! They win over the options; those of a namespace are on the pod already (see [`inherit`]).

use std::collections::BTreeMap;

use linkerd_names::annotations;
use serde_json::Value;

use crate::{
    ObjectError,
    object::{Fields, Workload},
    opaque_ports::{self, OpaquePorts},
    options::{self, InvalidOption, Options, PortRange, Resources, Sidecar},
    proxy_ports, quantity,
};

/// Sets one option from the text of an annotation.
type Set = fn(&mut Options, &str) -> Result<(), InvalidOption>;

/// The annotations that are options of the same meaning.
const OPTIONS: [(&str, Set); 16] = [
    (annotations::PROXY_IMAGE, |options, text| {
        options.proxy_image = options::image(text)?;
        Ok(())
    }),
    (annotations::INIT_IMAGE, |options, text| {
        options.init_image = options::image(text)?;
        Ok(())
    }),
    (annotations::PROXY_IMAGE_VERSION, |options, text| {
        options.version = options::version(text)?;
        Ok(())
    }),
    (annotations::IMAGE_PULL_POLICY, |options, text| {
        options.image_pull_policy = text.parse()?;
        Ok(())
    }),
    (annotations::PROXY_UID, |options, text| {
        options.proxy_uid = options::user_id(text)?;
        Ok(())
    }),
    (annotations::PROXY_LOG_LEVEL, |options, text| {
        options.proxy_log_level = options::log_filter(text)?;
        Ok(())
    }),
    (
        annotations::PROXY_OUTBOUND_CONNECT_TIMEOUT,
        |options, text| {
            options.proxy_bind_timeout = options::bind_timeout(text)?;
            Ok(())
        },
    ),
    (annotations::CONTROL_PORT, |options, text| {
        options.control_port = options::port(text)?;
        Ok(())
    }),
    (annotations::ADMIN_PORT, |options, text| {
        options.metrics_port = options::port(text)?;
        Ok(())
    }),
    (annotations::INBOUND_PORT, |options, text| {
        options.inbound_port = options::port(text)?;
        Ok(())
    }),
    (annotations::OUTBOUND_PORT, |options, text| {
        options.outbound_port = options::port(text)?;
        Ok(())
    }),
    (annotations::PROXY_ENABLE_NATIVE_SIDECAR, |options, text| {
        options.sidecar = if options::boolean(text)? {
            Sidecar::Native
        } else {
            Sidecar::Plain
        };
        Ok(())
    }),
    (annotations::PROXY_CPU_REQUEST, |options, text| {
        options.proxy_resources.cpu_request = options::quantity(text)?;
        Ok(())
    }),
    (annotations::PROXY_CPU_LIMIT, |options, text| {
        options.proxy_resources.cpu_limit = Some(options::quantity(text)?);
        Ok(())
    }),
    (annotations::PROXY_MEMORY_REQUEST, |options, text| {
        options.proxy_resources.memory_request = options::quantity(text)?;
        Ok(())
    }),
    (annotations::PROXY_MEMORY_LIMIT, |options, text| {
        options.proxy_resources.memory_limit = Some(options::quantity(text)?);
        Ok(())
    }),
];

/// The annotations that others read on the pod, or `pod.rs` and `opaque_ports.rs` do.
const READ_ELSEWHERE: [&str; 3] = [
    annotations::SKIP_INBOUND_PORTS,
    annotations::SKIP_OUTBOUND_PORTS,
    annotations::OPAQUE_PORTS,
];

/// What annotations of Linkerd begin with that it has not settled on.
const LINKERDS_PREFIXES: [&str; 2] = ["config.alpha.linkerd.io/", "config.beta.linkerd.io/"];

/// The options for one pod.
#[derive(Debug)]
pub(crate) struct Configured {
    pub(crate) options: Options,
    /// Ports at whose bytes its proxy is not to look.
    pub(crate) opaque_ports: Vec<PortRange>,
    /// Annotations that begin like ours or Linkerd's and mean nothing to us.
    pub(crate) ignored: Vec<String>,
}

/// The options for the pod of `template`: `options`, and over them what its annotations say.
pub(crate) fn configure(
    workload: &Workload,
    template: &Fields,
    options: &Options,
) -> Result<Configured, ObjectError> {
    let OpaquePorts { ranges, unknown } = opaque_ports::read(workload, template)?;
    let mut configured = Configured {
        options: options.clone(),
        opaque_ports: ranges,
        ignored: Vec::new(),
    };
    let written = template
        .get("metadata")
        .and_then(|metadata| metadata["annotations"].as_object());
    for (key, value) in written.into_iter().flatten() {
        if LINKERDS_PREFIXES
            .iter()
            .any(|prefix| key.starts_with(prefix))
        {
            configured.ignored.push(key.clone());
            continue;
        }
        if !key.starts_with(annotations::CONFIG_PREFIX) || READ_ELSEWHERE.contains(&key.as_str()) {
            continue;
        }
        let Some((annotation, set)) = OPTIONS.iter().find(|(known, _)| known == key) else {
            configured.ignored.push(key.clone());
            continue;
        };
        let text = value.as_str().unwrap_or_default().trim();
        // A slip in what is logged costs no pod its proxy, and no one his TLS.
        if *annotation == annotations::PROXY_LOG_LEVEL
            && let Err(error) = options::log_filter(text)
        {
            configured.ignored.push(format!("{key} ({error})"));
            continue;
        }
        set(&mut configured.options, text).map_err(|error| ObjectError::Annotation {
            object: workload.to_string(),
            annotation,
            error,
        })?;
    }
    for name in unknown {
        let key = annotations::OPAQUE_PORTS;
        let text = format!("{key} (no container has a port {name:?})");
        configured.ignored.push(text);
    }
    check_resources(workload, &configured.options.proxy_resources)?;
    proxy_ports::check(workload, &configured.options)?;
    Ok(configured)
}

/// Makes sure that no limit is below its request: the API server refuses such pods.
fn check_resources(workload: &Workload, resources: &Resources) -> Result<(), ObjectError> {
    let Resources {
        cpu_request,
        cpu_limit,
        memory_request,
        memory_limit,
    } = resources;
    for (request_annotation, request, limit_annotation, limit) in [
        (
            annotations::PROXY_CPU_REQUEST,
            cpu_request,
            annotations::PROXY_CPU_LIMIT,
            cpu_limit,
        ),
        (
            annotations::PROXY_MEMORY_REQUEST,
            memory_request,
            annotations::PROXY_MEMORY_LIMIT,
            memory_limit,
        ),
    ] {
        let Some(limit) = limit else { continue };
        if quantity::amount(limit) < quantity::amount(request) {
            return Err(ObjectError::LimitBelowRequest {
                object: workload.to_string(),
                request_annotation,
                request: request.clone(),
                limit_annotation,
                limit: limit.clone(),
            });
        }
    }
    Ok(())
}

/// Writes the configuration of a namespace onto the pod, where the pod says nothing itself: whoever
/// looks at the pod later finds there what counted.
pub(crate) fn inherit(
    workload: &Workload,
    pod: &mut Fields,
    namespace_annotations: &BTreeMap<String, String>,
) -> Result<(), ObjectError> {
    let inherited: Vec<(&String, &String)> = namespace_annotations
        .iter()
        .filter(|(key, _)| key.starts_with(annotations::CONFIG_PREFIX))
        .collect();
    if inherited.is_empty() {
        return Ok(());
    }
    let metadata = workload.mapping(pod, "metadata")?;
    let written = workload.mapping(metadata, "metadata.annotations")?;
    for (key, value) in inherited {
        if !written.contains_key(key) {
            written.insert(key.clone(), Value::from(value.clone()));
        }
    }
    Ok(())
}
