//! Answers of the proxy itself: status, `l5d-proxy-error`, and for gRPC its own status.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{
    headers::ERROR,
    http2::{Fault, Refusal},
};
use crate::{endpoints::Census, tls::connect::ConnectError};

/// gRPC status UNAVAILABLE.
const GRPC_UNAVAILABLE: &str = "14";

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// The Service is there, and nobody is behind it.
    #[error("{service} has no ready endpoints ({census})")]
    NoEndpoints { service: String, census: Census },
    /// None of the tried endpoints could be reached.
    #[error("{service}: tried {tried} of {} endpoints, the last at {address}: {source} ({census})", .census.known)]
    Connect {
        service: String,
        census: Census,
        tried: usize,
        address: std::net::SocketAddr,
        source: ConnectError,
    },
    /// Finding and reaching an endpoint took too long.
    #[error("{service}: no endpoint reached within {bound:?}, the last was {address}{} ({census})",
        .last.as_ref().map(|last| format!(", before that: {last}")).unwrap_or_default())]
    Timeout {
        service: String,
        census: Census,
        bound: std::time::Duration,
        address: std::net::SocketAddr,
        /// Of the attempt before.
        last: Option<ConnectError>,
    },
    /// The endpoint took the request and broke off; it may have been processed.
    #[error("{service}: {address} broke off: {source} ({census})")]
    Broken {
        service: String,
        census: Census,
        address: std::net::SocketAddr,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ForwardError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoEndpoints { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect { .. } | Self::Broken { .. } => StatusCode::BAD_GATEWAY,
            Self::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The reason for which the endpoint has reset the request's stream, if it has. What it has not
    /// processed before it went away is refused, so that the client may send it again.
    pub(super) fn reset(&self) -> Option<h2::Reason> {
        let Self::Broken { source, .. } = self else {
            return None;
        };
        let fault: &Fault = source.downcast_ref()?;
        match fault.refusal() {
            Some(Refusal::GoAway) => Some(h2::Reason::REFUSED_STREAM),
            _ => fault.reset(),
        }
    }

    /// The answer to the client.
    pub(super) fn response(&self, is_grpc: bool) -> Response<()> {
        let mut response = Response::new(());
        let text = self.to_string();
        if is_grpc {
            let headers: &mut HeaderMap = response.headers_mut();
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/grpc"),
            );
            headers.insert("grpc-status", HeaderValue::from_static(GRPC_UNAVAILABLE));
            headers.insert("grpc-message", grpc_message(&text));
        } else {
            *response.status_mut() = self.status();
        }
        response.headers_mut().insert(ERROR, header_text(&text));
        response
    }
}

/// The answer's message is cut after so many characters.
const CHARACTERS_MAX: usize = 512;

/// Percent-encoded as the specification of gRPC over HTTP/2 says: clients decode it.
fn grpc_message(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for c in text.chars().take(CHARACTERS_MAX) {
        if (' '..='~').contains(&c) && c != '%' {
            encoded.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    HeaderValue::from_str(&encoded).unwrap_or_else(|_| HeaderValue::from_static("error"))
}

/// Whatever was in the message, it is one line of ASCII.
fn header_text(text: &str) -> HeaderValue {
    let clean: String = text
        .chars()
        .map(|c| if (' '..='~').contains(&c) { c } else { '?' })
        .take(CHARACTERS_MAX)
        .collect();
    HeaderValue::from_str(&clean).unwrap_or_else(|_| HeaderValue::from_static("error"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CENSUS: Census = Census {
        known: 3,
        ready: 1,
        ejected: 2,
    };

    #[test]
    fn the_answer_names_the_service() {
        let error = ForwardError::NoEndpoints {
            service: "web.shop".to_owned(),
            census: CENSUS,
        };
        let text = "web.shop has no ready endpoints (endpoints: 3 known, 1 ready, 2 ejected)";
        let response = error.response(false);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[ERROR], text);
        let response = error.response(true);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], text);
    }

    #[test]
    fn a_timeout_names_the_endpoint_and_the_error_before() {
        let mut error = ForwardError::Timeout {
            service: "web.shop".to_owned(),
            census: CENSUS,
            bound: std::time::Duration::from_secs(10),
            address: ([10, 0, 0, 1], 80).into(),
            last: None,
        };
        assert_eq!(
            error.to_string(),
            "web.shop: no endpoint reached within 10s, the last was 10.0.0.1:80 \
             (endpoints: 3 known, 1 ready, 2 ejected)"
        );
        if let ForwardError::Timeout { last, .. } = &mut error {
            *last = Some(ConnectError::Timeout);
        }
        assert!(
            error
                .to_string()
                .contains(", before that: cannot connect: no answer in time (")
        );
        assert_eq!(error.response(false).status(), StatusCode::GATEWAY_TIMEOUT);
    }

    #[test]
    fn the_message_for_grpc_is_percent_encoded() {
        for (text, encoded) in [
            ("", ""),
            (
                "web.shop: no answer (3 known)",
                "web.shop: no answer (3 known)",
            ),
            ("[fe80::1%eth0]: 100%", "[fe80::1%25eth0]: 100%25"),
            ("a\r\n\tb\x7f\0", "a%0D%0A%09b%7F%00"),
            ("Tür 門 \u{1f600}", "T%C3%BCr %E9%96%80 %F0%9F%98%80"),
        ] {
            assert_eq!(grpc_message(text), encoded, "{text:?}");
        }
        // Cut between characters, never within the escape of one.
        assert_eq!(grpc_message(&"ü".repeat(600)), "%C3%BC".repeat(512));
    }

    #[test]
    fn no_message_breaks_the_header() {
        assert_eq!(header_text("a\r\nb\x1b[0mü"), "a??b?[0m?");
    }
}
