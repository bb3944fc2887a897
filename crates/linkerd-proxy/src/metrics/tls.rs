//! Counts attempts to load the credentials, and says what certificate is in use.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use linkerd_issuer::{Anchor, Leaf};
use parking_lot::Mutex;

use super::{head, label, sample};

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReloadStatus {
    Reloaded,
    IoError { path: String, errno: Option<i32> },
    InvalidTrustAnchors,
    InvalidPrivateKey,
    InvalidEndEntityCertificate,
    CertifyFailed,
}

impl ReloadStatus {
    /// A file that cannot be read.
    pub(crate) fn io_error(path: impl ToString, error: &std::io::Error) -> Self {
        Self::IoError {
            path: path.to_string(),
            errno: error.raw_os_error(),
        }
    }
}

/// The counters.
#[derive(Default)]
pub(crate) struct TlsMetrics {
    /// Seconds since 1970; 0 = never.
    last_reload: AtomicU64,
    reloads: Mutex<BTreeMap<ReloadStatus, u64>>,
    certificate: Mutex<Option<Certificate>>,
}

/// What people are told of the certificate in use.
struct Certificate {
    not_after: SystemTime,
    renew_at: SystemTime,
    anchor: Option<Anchor>,
}

impl TlsMetrics {
    pub(crate) fn reload(&self, status: ReloadStatus) {
        if status == ReloadStatus::Reloaded {
            self.last_reload.store(seconds(SystemTime::now()), Relaxed);
        }
        *self.reloads.lock().entry(status).or_default() += 1;
    }

    /// Notes the certificate in use, and the trust anchor that vouches for it.
    pub(crate) fn in_use(&self, leaf: &Leaf, anchor: Option<Anchor>) {
        let not_after = leaf.not_after();
        let ends_with_anchor = anchor.as_ref().is_some_and(|it| it.not_after <= not_after);
        *self.certificate.lock() = Some(Certificate {
            not_after,
            // Nothing would live longer than the anchor.
            renew_at: if ends_with_anchor {
                not_after
            } else {
                leaf.renew_at()
            },
            anchor,
        });
    }

    pub(super) fn render(&self, out: &mut String) {
        self.render_certificate(out);
        let last = self.last_reload.load(Relaxed);
        if last > 0 {
            let name = "tls_config_last_reload_seconds";
            head(
                out,
                name,
                "gauge",
                "When credentials were last loaded, seconds since 1970.",
            );
            sample(out, name, "", last);
        }
        head(
            out,
            "tls_config_reload_total",
            "counter",
            "Attempts to load credentials.",
        );
        for (status, count) in &*self.reloads.lock() {
            sample(out, "tls_config_reload_total", &labels(status), count);
        }
    }

    fn render_certificate(&self, out: &mut String) {
        let certificate = self.certificate.lock();
        let Some(Certificate {
            not_after,
            renew_at,
            anchor,
        }) = &*certificate
        else {
            return;
        };
        let mut gauge = |name, help, labels: &str, at: SystemTime| {
            head(out, name, "gauge", help);
            sample(out, name, labels, seconds(at));
        };
        gauge(
            "identity_cert_expiration_timestamp_seconds",
            "When the certificate in use ends, seconds since 1970.",
            "",
            *not_after,
        );
        gauge(
            "identity_cert_renewal_timestamp_seconds",
            "When the certificate in use is due for renewal, seconds since 1970.",
            "",
            *renew_at,
        );
        if let Some(anchor) = anchor {
            let mut labels = String::new();
            label(&mut labels, "name", &anchor.name);
            label(&mut labels, "serial", &anchor.serial);
            gauge(
                "identity_trust_anchor_expiration_timestamp_seconds",
                "When the trust anchor that vouches for it ends, seconds since 1970.",
                &labels,
                anchor.not_after,
            );
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn labels(status: &ReloadStatus) -> String {
    let mut out = String::new();
    let word = match status {
        ReloadStatus::Reloaded => "reloaded",
        ReloadStatus::IoError { .. } => "io_error",
        ReloadStatus::InvalidTrustAnchors => "invalid_trust_anchors",
        ReloadStatus::InvalidPrivateKey => "invalid_private_key",
        ReloadStatus::InvalidEndEntityCertificate => "invalid_end_entity_cert",
        ReloadStatus::CertifyFailed => "certify_failed",
    };
    label(&mut out, "status", word);
    if let ReloadStatus::IoError { path, errno } = status {
        label(&mut out, "path", path);
        if let Some(errno) = errno {
            label(&mut out, "errno", &errno.to_string());
        }
    }
    out
}
