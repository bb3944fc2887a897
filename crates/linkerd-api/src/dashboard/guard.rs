//! What keeps other web sites away from the dashboard. Entry: [`guard`].
//! A page of somebody else in the same browser may send requests to localhost, and by DNS rebinding under a
//! name that it owns. So only `localhost` and addresses are answered: no DNS can make them somebody's name.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Sent with every answer.
const HEADERS: [(HeaderName, &str); 7] = [
    // Nothing is loaded from elsewhere, and no text becomes a script or a style.
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    // The page's files keep their names when the control plane is upgraded, and figures get old.
    (header::CACHE_CONTROL, "no-store"),
];

/// Refuses requests for other hosts, and adds the headers to every answer.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut response = if is_own(host) {
        next.run(request).await
    } else {
        let refusal = "The dashboard answers to localhost and to addresses, not to other names.\n\
                       Open the URL that linkerd dashboard prints.\n";
        (StatusCode::MISDIRECTED_REQUEST, refusal).into_response()
    };
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// Whether a `Host` header, with or without a port, is `localhost` or an address.
fn is_own(host: &str) -> bool {
    if host.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    if bare.unwrap_or(host).parse::<IpAddr>().is_ok() {
        return true;
    }
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    name.eq_ignore_ascii_case("localhost") && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_dns_could_give_to_anybody_are_not_ours() {
        for own in [
            "localhost",
            "localhost:50750",
            "LOCALHOST:1",
            "127.0.0.1:50750",
            "192.0.2.7",
            "[::1]:50750",
            "[::1]",
        ] {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "",
            "evil.example:50750",
            "localhost.evil.example",
            "127.0.0.1.evil.example:50750",
            "localhost:50750:1",
            "localhost:x",
            "evil.example:127.0.0.1",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }
}
