//! The ports on which a proxy listens, and what sets each of them. Entries: [`all`], [`check`].

use linkerd_names::annotations;

use crate::{ObjectError, Options, object::Workload};

/// A port of the proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProxyPort {
    pub(crate) number: u16,
    /// The key of the annotation that sets it.
    annotation: &'static str,
    /// The flag of `linkerd inject` that does.
    pub(crate) flag: &'static str,
}

/// The ports of a proxy with these options.
pub(crate) fn all(options: &Options) -> [ProxyPort; 4] {
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
