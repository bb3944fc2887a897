//! A certificate of an application's own. Entry: [`Certificate::new`].

use anyhow::Result;
use rcgen::generate_simple_self_signed;
use serde_json::json;

use crate::document;

/// A certificate that signs itself, for one host name.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate, for those who are to trust it.
    pub der: Vec<u8>,
    cert_pem: String,
    key_pem: String,
}

impl Certificate {
    /// Makes one for `host`.
    ///
    /// # Errors
    /// When the name cannot stand in a certificate.
    pub fn new(host: &str) -> Result<Self> {
        let made = generate_simple_self_signed([host.to_owned()])?;
        Ok(Self {
            der: made.cert.der().to_vec(),
            cert_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
        })
    }

    /// The manifest of a Secret with it, and with its key.
    pub fn secret(&self, name: &str) -> String {
        document(&json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name },
            "type": "kubernetes.io/tls",
            "stringData": { "tls.crt": self.cert_pem, "tls.key": self.key_pem },
        }))
    }
}
