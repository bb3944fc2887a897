//! The ports on which a proxy listens, and what sets each of them. Entries: [`check`], and [`check_free`] for the
//! containers beside it.

use linkerd_names::annotations;
use serde_json::Value;

use crate::{ObjectError, Options, object::Workload};

/// A port of the proxy.
#[derive(Clone, Copy, Debug)]
struct ProxyPort {
    number: u16,
    /// The key of the annotation that sets it.
    annotation: &'static str,
    /// The flag of `linkerd inject` that does.
    flag: &'static str,
}

/// The ports of a proxy with these options.
fn all(options: &Options) -> [ProxyPort; 4] {
    let port = |number, annotation, flag| ProxyPort {
        number,
        annotation,
        flag,
    };
    [
        port(
            options.outbound_port,
            annotations::OUTBOUND_PORT,
            "--outbound-port",
        ),
        port(
            options.inbound_port,
            annotations::INBOUND_PORT,
            "--inbound-port",
        ),
        port(
            options.control_port,
            annotations::CONTROL_PORT,
            "--control-port",
        ),
        port(
            options.metrics_port,
            annotations::ADMIN_PORT,
            "--metrics-port",
        ),
    ]
}

/// Makes sure that they differ: the proxy would not start, and its pod neither.
pub(crate) fn check(workload: &Workload, options: &Options) -> Result<(), ObjectError> {
    let ports = all(options);
    for (index, second) in ports.iter().enumerate() {
        let mut before = ports[..index].iter();
        if let Some(first) = before.find(|first| first.number == second.number) {
            return Err(ObjectError::SamePort {
                object: workload.to_string(),
                port: second.number,
                annotations: [first.annotation, second.annotation],
                flags: [first.flag, second.flag],
            });
        }
    }
    Ok(())
}

/// Makes sure that no container of `spec`, to which none of ours was added yet, listens on one of them: two processes
/// of a pod cannot, and the proxy is the first.
pub(crate) fn check_free(
    workload: &Workload,
    spec: &Value,
    options: &Options,
) -> Result<(), ObjectError> {
    let list = |name: &str| spec[name].as_array().into_iter().flatten();
    let sidecars = list("initContainers").filter(|one| one["restartPolicy"] == "Always");
    for container in sidecars.chain(list("containers")) {
        for port in container["ports"].as_array().into_iter().flatten() {
            let is_tcp = matches!(port["protocol"].as_str(), None | Some("" | "TCP"));
            let number = port["containerPort"].as_u64();
            let mut own = all(options).into_iter();
            if is_tcp && let Some(taken) = own.find(|own| Some(own.number.into()) == number) {
                return Err(ObjectError::TakenPort {
                    object: workload.to_string(),
                    container: container["name"].as_str().unwrap_or_default().to_owned(),
                    port: taken.number,
                    annotation: taken.annotation,
                    flag: taken.flag,
                });
            }
        }
    }
    Ok(())
}
