//! Mesh TLS: what both ends agree on. Handshakes are in `accept.rs` and `connect.rs`, keys in
//! `credentials.rs`, from files, or from `renewal.rs` and the identity service.

pub(crate) mod accept;
mod certify;
pub(crate) mod client_hello;
pub(crate) mod connect;
pub(crate) mod credentials;
pub(crate) mod either;
mod files;
mod headed;
pub(crate) mod renewal;
mod sessions;
pub(crate) mod stream;
mod verify;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

use crate::detect::Protocol;

/// What the client's proxy tells the server's in ALPN about the bytes to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    /// The client was silent so far: the server's proxy looks for itself.
    Detect,
    /// The client's proxy has looked; nobody needs to guess.
    Known(Protocol),
}

impl Verdict {
    pub(crate) const ALL: [Self; 4] = [
        Self::Detect,
        Self::Known(Protocol::Http1),
        Self::Known(Protocol::Http2),
        Self::Known(Protocol::Opaque),
    ];

    /// Private ALPN names, ours alone.
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Detect => b"linkerd/detect",
            Self::Known(Protocol::Http1) => b"linkerd/http1",
            Self::Known(Protocol::Http2) => b"linkerd/h2",
            Self::Known(Protocol::Opaque) => b"linkerd/opaque",
        }
    }

    /// A peer that offers no ALPN leaves the question open.
    pub(crate) fn from_alpn(alpn: Option<&[u8]>) -> Self {
        Self::ALL
            .into_iter()
            .find(|v| Some(v.alpn()) == alpn)
            .unwrap_or(Self::Detect)
    }

    /// The same in one byte, at the beginning of a stream of a shared connection.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Detect => 0,
            Self::Known(Protocol::Http1) => 1,
            Self::Known(Protocol::Http2) => 2,
            Self::Known(Protocol::Opaque) => 3,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.byte() == byte)
    }

    /// Whether such bytes may share a connection with others. HTTP/2 shares one by itself: not its bytes are
    /// shared, but its requests.
    pub(crate) fn may_share(self) -> bool {
        self != Self::Known(Protocol::Http2)
    }

    fn index(self) -> usize {
        usize::from(self.byte())
    }
}

/// The verdict with which requests of HTTP/2 travel.
pub(crate) const REQUESTS: Verdict = Verdict::Known(Protocol::Http2);

/// What the client's proxy wants of a connection for HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// To speak it there.
    One,
    /// To send requests as streams, `mux/`, if the peer can.
    Streams,
}

/// What the streams of a shared connection may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shares {
    /// Clients' bytes.
    Bytes,
    /// Those, and requests of HTTP/2.
    Requests,
}

impl Shares {
    /// What peers prefer comes first.
    pub(crate) const ALL: [Self; 2] = [Self::Requests, Self::Bytes];

    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Bytes => b"linkerd/mux1",
            Self::Requests => b"linkerd/mux2",
        }
    }

    /// None when the connection is not shared.
    pub(crate) fn from_alpn(alpn: Option<&[u8]>) -> Option<Self> {
        Self::ALL.into_iter().find(|s| Some(s.alpn()) == alpn)
    }

    /// Whether such a connection takes what `verdict` announces.
    pub(crate) fn take(self, verdict: Verdict) -> bool {
        verdict.may_share() || self == Self::Requests
    }
}

/// The cryptography of the mesh: TLS 1.3 with AES-128-GCM and X25519MLKEM768 first.
fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::{cipher_suite, kx_group};
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    })
}
