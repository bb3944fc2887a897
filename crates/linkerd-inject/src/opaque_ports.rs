//! The ports at whose bytes the proxy is not to look, as the annotation of a pod lists them. Entry: [`read`].

use linkerd_names::annotations;
use serde_json::Value;

use crate::{
    ObjectError,
    object::{Fields, Workload},
    options::PortRange,
    pod::containers,
    tcp_probes::port_number,
};

/// What the annotation says.
#[derive(Debug, Default)]
pub(crate) struct OpaquePorts {
    pub(crate) ranges: Vec<PortRange>,
    /// Names that no port of a container has.
    pub(crate) unknown: Vec<String>,
}

/// Reads numbers, ranges and names of the containers' ports. A name may be unknown: where a Namespace lists it, it is
/// that of another pod's port.
pub(crate) fn read(workload: &Workload, template: &Fields) -> Result<OpaquePorts, ObjectError> {
    let annotation = annotations::OPAQUE_PORTS;
    let of_template = |field| template.get(field).unwrap_or(&Value::Null);
    let written = of_template("metadata")["annotations"][annotation].as_str();
    let parts = written.unwrap_or_default().split(',').map(str::trim);
    let mut ports = OpaquePorts::default();
    for part in parts.filter(|part| !part.is_empty()) {
        match part.parse() {
            Ok(range) => ports.ranges.push(range),
            Err(_) if is_name(part) => {
                let name = Value::from(part);
                let numbers = containers(of_template("spec"))
                    .filter_map(|container| port_number(&container["ports"], &name));
                let known = ports.ranges.len();
                ports.ranges.extend(numbers.map(PortRange::from));
                if ports.ranges.len() == known {
                    ports.unknown.push(part.to_owned());
                }
            }
            Err(error) => {
                return Err(ObjectError::Annotation {
                    object: workload.to_string(),
                    annotation,
                    error,
                });
            }
        }
    }
    Ok(ports)
}

/// Whether a port can be called so in Kubernetes.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 15
        && text.bytes().all(allowed)
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
}
