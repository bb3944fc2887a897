//! Counts attempts to load the credentials.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

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
}

impl TlsMetrics {
    pub(crate) fn reload(&self, status: ReloadStatus) {
        if status == ReloadStatus::Reloaded {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            self.last_reload.store(now.as_secs(), Relaxed);
        }
        *self.reloads.lock().entry(status).or_default() += 1;
    }

    pub(super) fn render(&self, out: &mut String) {
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
