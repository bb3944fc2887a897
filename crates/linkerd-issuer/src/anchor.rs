//! Which trust anchor vouches for a leaf, and what people are told of it. Entry: [`Anchor::of`].

use std::time::SystemTime;

use rustls_pki_types::CertificateDer;

use crate::{Leaf, bundle::verify_server, leaf::parse_one, time};

/// A trust anchor in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The common name in its subject; empty when there is none.
    pub name: String,
    /// Its serial number, in hexadecimal digits as `openssl x509 -serial` writes them.
    pub serial: String,
    /// Last moment at which it is valid.
    pub not_after: SystemTime,
}

impl Anchor {
    /// The first of `anchors` (DER) that has issued `leaf`. What is no certificate is passed over.
    pub fn of<'a>(
        leaf: &Leaf,
        anchors: impl IntoIterator<Item = CertificateDer<'a>>,
    ) -> Option<Self> {
        let mut anchors = anchors.into_iter();
        let issuer = anchors.find(|anchor| {
            let anchor = std::slice::from_ref(anchor);
            verify_server(anchor, leaf.as_der(), leaf.not_before()).is_ok()
        })?;
        let certificate = parse_one(&issuer)?;
        let name = certificate.subject().iter_common_name().next();
        let serial = certificate.raw_serial();
        Some(Self {
            name: name
                .and_then(|name| name.as_str().ok())
                .unwrap_or_default()
                .to_owned(),
            // A zero in front keeps the number positive, and is no part of it.
            serial: serial
                .strip_prefix(&[0])
                .unwrap_or(serial)
                .iter()
                .map(|byte| format!("{byte:02X}"))
                .collect(),
            not_after: time::from_x509(certificate.validity().not_after)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use linkerd_names::{Identity, OwnerKind};

    use super::*;
    use crate::Root;

    #[test]
    fn of_several_anchors_it_is_the_one_that_issued_the_leaf() {
        let now = SystemTime::now();
        let [old, new] = [(); 2].map(|()| Root::generate(now).expect("a root"));
        let web = Identity::new("web", OwnerKind::Deployment, "shop", "linkerd").expect("a name");
        let issued = new.issue_leaf(&web, crate::LEAF_LIFETIME_DEFAULT, now);
        let leaf = issued.expect("a leaf").leaf;
        let both = [&old, &new].map(|root| root.certificate_der().clone());
        let anchor = Anchor::of(&leaf, both.clone()).expect("it is among them");
        assert_eq!(anchor.name, "Cluster-local Managed Pod CA");
        assert_eq!(anchor.not_after, new.not_after());
        let [of_old, of_new] = both.map(|der| {
            let serial = parse_one(&der)
                .expect("a certificate")
                .raw_serial()
                .to_vec();
            serial
                .iter()
                .map(|byte| format!("{byte:02X}"))
                .collect::<String>()
        });
        assert!(of_new.ends_with(&anchor.serial) && !of_old.ends_with(&anchor.serial));
        assert_eq!(Anchor::of(&leaf, [old.certificate_der().clone()]), None);
    }
}
