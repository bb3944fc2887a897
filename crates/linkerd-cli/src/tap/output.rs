//! Prints events of `tap`. Entries: [`line()`], [`json()`]. Pure; the fields and keys are an interface.
//! `top` takes its words from here too. `connection.rs` has those for what is no HTTP.

mod connection;

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, time::Duration};

use linkerd_names::ResourceType;
use linkerd_proto::{
    http_types::{HttpMethod, Scheme, http_method, scheme},
    net::TcpAddress,
    tap::{
        Eos, TapEvent, eos,
        tap_event::{
            EndpointMeta, Event, ProxyDirection,
            http::{Event as HttpEvent, StreamId},
        },
    },
};
use serde_json::{Map, Value, json};

use self::connection::{connection_event, connection_line};
use crate::{json_text, resource, visible::visible};

/// One line for one event, in the form of Linkerd v18.8. With the types of the targets it also says
/// what is at both ends, and why a connection is plaintext.
pub(super) fn line(event: &TapEvent, wide: Option<&[ResourceType]>) -> String {
    let ends = ends(event);
    let mut text = match &event.event {
        Some(Event::Http(http)) => request_line(http.event.as_ref(), &ends),
        Some(Event::Tcp(tcp)) => connection_line(tcp.event.as_ref(), &ends),
        None => unknown(&ends),
    };
    if let Some(targets) = wide {
        if let Some(reason) = tls_label(event, "no_tls_reason") {
            text.push_str(" no_tls_reason=");
            text.push_str(&visible(reason));
        }
        for (side, meta) in [
            ("src", &event.source_meta),
            ("dst", &event.destination_meta),
        ] {
            text.push_str(&resources(side, meta.as_ref(), targets));
        }
    }
    text.push('\n');
    text
}

/// An event of a later version.
fn unknown(ends: &str) -> String {
    format!("unknown {ends}")
}

fn request_line(event: Option<&HttpEvent>, ends: &str) -> String {
    match event {
        None => unknown(ends),
        Some(HttpEvent::RequestInit(init)) => format!(
            "req id={} {ends} :method={} :authority={} :path={}",
            id(init.id),
            method(init.method.as_ref()),
            visible(&init.authority),
            visible(&init.path),
        ),
        Some(HttpEvent::ResponseInit(init)) => format!(
            "rsp id={} {ends} :status={} latency={}µs",
            id(init.id),
            init.http_status,
            micros(init.since_request_init.as_ref()),
        ),
        Some(HttpEvent::ResponseEnd(end)) => {
            let how = match end.eos {
                Some(Eos {
                    end: Some(eos::End::GrpcStatusCode(code)),
                }) => format!("grpc-status={} ", grpc_status(code)),
                Some(Eos {
                    end: Some(eos::End::ResetErrorCode(code)),
                }) => format!("reset-error={code} "),
                _ => String::new(),
            };
            format!(
                "end id={} {ends} {how}duration={}µs response-length={}B",
                id(end.id),
                micros(end.since_request_init.as_ref()),
                end.response_bytes,
            )
        }
    }
}

fn ends(event: &TapEvent) -> String {
    let proxy = match event.proxy_direction() {
        // So that it is as wide as the other.
        ProxyDirection::Inbound => "in ",
        ProxyDirection::Outbound => "out",
        ProxyDirection::Unknown => "???",
    };
    format!(
        "proxy={proxy} src={} dst={} tls={}",
        address(event.source),
        address(event.destination),
        visible(tls_label(event, "tls").unwrap_or_default()),
    )
}

/// ` src_res=deploy/web src_ns=shop`, or the pod where that end is of none of the targets' types.
fn resources(side: &str, meta: Option<&EndpointMeta>, targets: &[ResourceType]) -> String {
    let Some(EndpointMeta { labels }) = meta else {
        return String::new();
    };
    let mut text = String::new();
    let mut add = |key: &str, prefix: &str, value: &str| {
        write!(text, " {side}_{key}={prefix}{}", visible(value))
            .expect("a String takes everything");
    };
    let named = targets
        .iter()
        .find_map(|kind| Some((*kind, labels.get(kind.metric_label())?)));
    if let Some((kind, name)) = named {
        add("res", resource::prefix(kind), name);
    } else if let Some(pod) = labels.get("pod") {
        add("pod", "", pod);
    }
    if named.is_none_or(|(kind, _)| kind != ResourceType::Namespace)
        && let Some(namespace) = labels.get("namespace")
    {
        add("ns", "", namespace);
    }
    text
}

/// The outcome of TLS between two pods: known of the client where the proxy is the server's.
pub(crate) fn tls_label<'a>(event: &'a TapEvent, label: &str) -> Option<&'a str> {
    let meta = match event.proxy_direction() {
        ProxyDirection::Inbound => event.source_meta.as_ref(),
        ProxyDirection::Outbound => event.destination_meta.as_ref(),
        ProxyDirection::Unknown => None,
    };
    meta?.labels.get(label).map(String::as_str)
}

fn socket(address: Option<TcpAddress>) -> Option<SocketAddr> {
    SocketAddr::try_from(address?).ok()
}

fn address(address: Option<TcpAddress>) -> String {
    socket(address).map_or_else(|| "-".to_owned(), |address| address.to_string())
}

fn id(id: Option<StreamId>) -> String {
    let StreamId { base, stream } = id.unwrap_or_default();
    format!("{base}:{stream}")
}

pub(crate) fn method(method: Option<&HttpMethod>) -> String {
    match method.and_then(|method| method.r#type.as_ref()) {
        Some(http_method::Type::Registered(number)) => http_method::Registered::try_from(*number)
            .map_or("", |it| it.as_str_name())
            .to_owned(),
        Some(http_method::Type::Unregistered(name)) => visible(name),
        None => String::new(),
    }
}

fn scheme(scheme: Option<&Scheme>) -> String {
    match scheme.and_then(|scheme| scheme.r#type.as_ref()) {
        Some(scheme::Type::Registered(number)) => scheme::Registered::try_from(*number)
            .map_or("", |it| it.as_str_name())
            .to_ascii_lowercase(),
        Some(scheme::Type::Unregistered(name)) => visible(name),
        None => String::new(),
    }
}

fn micros(duration: Option<&prost_types::Duration>) -> u128 {
    duration
        .and_then(|duration| Duration::try_from(*duration).ok())
        .unwrap_or_default()
        .as_micros()
}

/// The name of a gRPC status, as Go writes it.
fn grpc_status(code: u32) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    let name = usize::try_from(code).ok().and_then(|code| NAMES.get(code));
    name.map_or_else(|| format!("Code({code})"), |name| (*name).to_owned())
}

/// One object in one line, with the keys that Linkerd's own `tap -o json` has.
pub(crate) fn json(event: &TapEvent) -> String {
    let mut object = Map::new();
    object.insert(
        "source".into(),
        end(event.source, event.source_meta.as_ref()),
    );
    object.insert(
        "destination".into(),
        end(event.destination, event.destination_meta.as_ref()),
    );
    object.insert(
        "proxyDirection".into(),
        json!(event.proxy_direction().as_str_name()),
    );
    if let Some(tls) = tls_label(event, "tls") {
        object.insert("tls".into(), json!(tls));
    }
    if let Some(reason) = tls_label(event, "no_tls_reason") {
        object.insert("noTlsReason".into(), json!(reason));
    }
    let told = match &event.event {
        Some(Event::Http(http)) => http.event.as_ref().map(http_event),
        Some(Event::Tcp(tcp)) => tcp.event.as_ref().map(connection_event),
        None => None,
    };
    if let Some((key, value)) = told {
        object.insert(key.into(), value);
    }
    json_text::line(&Value::Object(object))
}

fn json_id(id: Option<StreamId>) -> Value {
    let StreamId { base, stream } = id.unwrap_or_default();
    json!({"base": base, "stream": stream})
}

fn span(duration: Option<prost_types::Duration>) -> Value {
    match duration {
        Some(it) => json!({"seconds": it.seconds, "nanos": it.nanos}),
        None => Value::Null,
    }
}

fn http_event(event: &HttpEvent) -> (&'static str, Value) {
    match event {
        HttpEvent::RequestInit(init) => (
            "requestInitEvent",
            json!({
                "id": json_id(init.id),
                "method": method(init.method.as_ref()),
                "scheme": scheme(init.scheme.as_ref()),
                "authority": init.authority,
                "path": init.path,
            }),
        ),
        HttpEvent::ResponseInit(init) => (
            "responseInitEvent",
            json!({
                "id": json_id(init.id),
                "sinceRequestInit": span(init.since_request_init),
                "httpStatus": init.http_status,
            }),
        ),
        HttpEvent::ResponseEnd(end) => {
            let mut value = json!({
                "id": json_id(end.id),
                "sinceRequestInit": span(end.since_request_init),
                "sinceResponseInit": span(end.since_response_init),
                "responseBytes": end.response_bytes,
            });
            match end.eos {
                Some(Eos {
                    end: Some(eos::End::GrpcStatusCode(code)),
                }) => value["grpcStatusCode"] = json!(code),
                Some(Eos {
                    end: Some(eos::End::ResetErrorCode(code)),
                }) => value["resetErrorCode"] = json!(code),
                _ => {}
            }
            ("responseEndEvent", value)
        }
    }
}

fn end(address: Option<TcpAddress>, meta: Option<&EndpointMeta>) -> Value {
    let labels: BTreeMap<&str, &str> = meta
        .iter()
        .flat_map(|meta| &meta.labels)
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let address = socket(address);
    json!({
        "ip": address.map(|address| address.ip().to_string()),
        "port": address.map(|address| address.port()),
        "metadata": labels,
    })
}

#[cfg(test)]
mod tests;
