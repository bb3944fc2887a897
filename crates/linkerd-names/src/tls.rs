//! What became of TLS on one connection: the same value is the metric label, the tap field and the
//! word in `stat`. It records the outcome, never the intention.

use crate::Identity;

/// The outcome of TLS on one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Tls {
    /// A finished mutual handshake; the peer proved this identity.
    On(Identity),
    /// Plaintext, and why.
    Off(NoTls),
}

/// What `stat` calls requests that the proxy has answered itself, because it reached no endpoint, among the reasons for
/// plaintext: they were on no connection, so they are neither. Their series have no word for TLS.
pub const NOT_SENT: &str = "not_sent";

/// Why a connection is plaintext. A closed list: a new reason is a new variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoTls {
    /// The proxy was injected without `--tls`.
    Disabled,
    /// This proxy has no valid certificate yet.
    NoCredentials,
    /// The destination service knows the peer, and the peer has no identity: it is not meshed, not
    /// marked for TLS, or meshed by another control plane.
    PeerNotMeshed,
    /// The destination service does not know the address: it is outside of the cluster.
    OffCluster,
    /// The destination service could not be asked.
    DiscoveryUnavailable,
    /// The connection stays within the pod.
    Loopback,
    /// The peer proxy's handshake was refused or broke off.
    HandshakeFailed,
    /// The peer did not finish its handshake in time.
    HandshakeTimeout,
    /// The peer's certificate does not chain to our trust anchors, or is out of its time.
    CertificateInvalid,
    /// An earlier handshake with this endpoint failed; it is tried again after a pause.
    HandshakeBackoff,
    /// Inbound: the peer sent no mesh handshake.
    PeerSentPlaintext,
    /// Inbound: kubelet's probe, which cannot speak mesh TLS. Of requests only: a connection does not
    /// say who it is from.
    Probe,
}

impl Tls {
    /// Value of the metric label `tls`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::On(_) => "true",
            Self::Off(reason) => reason.label(),
        }
    }

    /// Value of the metric label `no_tls_reason`; none when the connection is encrypted.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::On(_) => None,
            Self::Off(reason) => Some(reason.as_str()),
        }
    }
}

impl NoTls {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Disabled,
        Self::NoCredentials,
        Self::PeerNotMeshed,
        Self::OffCluster,
        Self::DiscoveryUnavailable,
        Self::Loopback,
        Self::HandshakeFailed,
        Self::HandshakeTimeout,
        Self::CertificateInvalid,
        Self::HandshakeBackoff,
        Self::PeerSentPlaintext,
        Self::Probe,
    ];

    /// Value of the metric label `tls`: the words of Linkerd v18.8, which users' dashboards know.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::NoCredentials => "no_config",
            Self::PeerNotMeshed | Self::OffCluster | Self::DiscoveryUnavailable => "no_identity",
            Self::Loopback => "internal_traffic",
            Self::HandshakeFailed
            | Self::HandshakeTimeout
            | Self::CertificateInvalid
            | Self::HandshakeBackoff => "handshake_failed",
            Self::PeerSentPlaintext | Self::Probe => "no_proxy_tls",
        }
    }

    /// Value of the metric label `no_tls_reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::NoCredentials => "no_credentials",
            Self::PeerNotMeshed => "peer_not_meshed",
            Self::OffCluster => "off_cluster",
            Self::DiscoveryUnavailable => "discovery_unavailable",
            Self::Loopback => "loopback",
            Self::HandshakeFailed => "handshake_failed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::CertificateInvalid => "certificate_invalid",
            Self::HandshakeBackoff => "handshake_backoff",
            Self::PeerSentPlaintext => "peer_sent_plaintext",
            Self::Probe => "probe",
        }
    }
}
