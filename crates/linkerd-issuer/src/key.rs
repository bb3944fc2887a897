//! A private key that is never printed and that is wiped when it is dropped.

use std::fmt;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::{Zeroize, Zeroizing};

/// A workload's private key, PKCS#8 DER.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    /// The key as PKCS#8 DER. Whoever copies the bytes has to wipe the copy.
    pub fn as_pkcs8_der(&self) -> &[u8] {
        &self.0
    }
}

/// Reads the first key in a PEM text, into memory that is wiped on drop. What the library that reads it had in
/// between is out of reach.
pub(crate) fn from_pem(pem: &[u8]) -> Option<Zeroizing<PrivateKeyDer<'static>>> {
    let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
    Some(Zeroizing::new(key))
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// An ECDSA P-256 key that can sign; its serialised form is wiped on drop.
pub(crate) struct SecretKeyPair(KeyPair);

impl SecretKeyPair {
    /// Makes a new key.
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self)
    }

    /// Reads a key; fails unless it is an ECDSA key on P-256 (PKCS#8 or SEC1).
    pub(crate) fn from_der(key: &PrivateKeyDer<'_>) -> Result<Self, rcgen::Error> {
        KeyPair::from_der_and_sign_algo(key, &PKCS_ECDSA_P256_SHA256).map(Self)
    }

    /// Reads a P-256 key from PKCS#8 DER.
    pub(crate) fn from_pkcs8_der(key: &[u8]) -> Result<Self, rcgen::Error> {
        let key = PrivatePkcs8KeyDer::from(key);
        KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).map(Self)
    }

    /// The key in the form in which it was read; PKCS#8 when it was generated.
    pub(crate) fn serialized_der(&self) -> &[u8] {
        self.0.serialized_der()
    }

    /// The key as a type of its own; only for keys in PKCS#8 form.
    pub(crate) fn into_private_key(self) -> PrivateKey {
        PrivateKey(Zeroizing::new(self.0.serialized_der().to_vec()))
    }
}

impl Drop for SecretKeyPair {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for SecretKeyPair {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for SecretKeyPair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    use super::*;

    #[test]
    fn a_key_is_wiped_whatever_it_was_read_from() {
        fn wiped_on_drop(_: &impl ZeroizeOnDrop) {}
        let key = SecretKeyPair::generate().expect("a key").into_private_key();
        wiped_on_drop(&key.0);
        let pem = crate::bundle::to_pem("PRIVATE KEY", key.as_pkcs8_der());
        let read = from_pem(pem.as_bytes()).expect("a key");
        wiped_on_drop(&read);
        assert_eq!(read.secret_der(), key.as_pkcs8_der());
        assert!(from_pem(b"garbage").is_none());
    }

    #[test]
    fn debug_output_holds_no_byte_of_the_key() {
        let key = SecretKeyPair::generate().expect("a key").into_private_key();
        assert_eq!(format!("{key:?}"), "<redacted>");
        assert!(SecretKeyPair::from_pkcs8_der(key.as_pkcs8_der()).is_ok());
    }

    #[test]
    fn keys_of_other_curves_and_garbage_are_refused() {
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
        for der in [
            p384.serialized_der(),
            b"",
            b"garbage",
            &[0x30, 0x82, 0xff, 0xff],
        ] {
            assert!(SecretKeyPair::from_pkcs8_der(der).is_err());
        }
    }
}
