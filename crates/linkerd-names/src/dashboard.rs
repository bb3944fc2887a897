//! What keeps other web sites away from the dashboard, on both of its servers: `linkerd-api`, and
//! `linkerd dashboard` in front of it. Entries: [`is_own_host`], [`HEADERS`].
//! A page of somebody else in the same browser may send requests to localhost, and by DNS rebinding under a
//! name that it owns. So only `localhost` and addresses are answered: no DNS can make them somebody's name.

use std::net::{IpAddr, SocketAddr};

/// Sent with every answer.
pub const HEADERS: [(&str, &str); 7] = [
    // Nothing is loaded from elsewhere, and no text becomes a script or a style.
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    // The page's files keep their names when the control plane is upgraded, and figures get old.
    ("cache-control", "no-store"),
];

/// The answer to other hosts.
pub const REFUSAL: &str = "The dashboard answers to localhost and to addresses, not to other names.\n\
                           Open the URL that linkerd dashboard prints.\n";

/// Header without which nobody begins a tap. A page of another site can send it only after the browser has
/// asked us whether it may, and the answer is no.
pub const TAP_HEADER: &str = "linkerd-dashboard-tap";

/// Whether a `Host` header, with or without a port, is `localhost` or an address.
pub fn is_own_host(host: &str) -> bool {
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
            assert!(is_own_host(own), "{own}");
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
            assert!(!is_own_host(other), "{other}");
        }
    }
}
