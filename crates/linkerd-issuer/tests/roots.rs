//! A root that could not issue for proxies is refused when it is read, with the reason.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use linkerd_issuer::{InvalidRoot, ROOT_LIFETIME, Root};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
};
use x509_parser::prelude::{FromDer, X509Certificate};

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

/// A self-made root, valid from 2026 to 2027.
fn own(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    change(&mut params);
    params
}

fn read(change: impl FnOnce(&mut CertificateParams)) -> Result<Root, InvalidRoot> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let certificate = own(change).self_signed(&key).expect("a certificate");
    Root::from_pem(&certificate.pem(), &key.serialize_pem(), now())
}

#[test]
fn a_root_survives_being_written_and_read() {
    let root = Root::generate(now()).expect("a root");
    let read = Root::from_pem(&root.certificate_pem(), &root.private_key_pem(), now())
        .expect("the same root");
    assert_eq!(read.certificate_der(), root.certificate_der());
    assert_eq!(read.private_key_pem(), root.private_key_pem());
    let identity = "web.deployment.ns.linkerd-managed.linkerd.svc.cluster.local";
    let leaf = read
        .issue_leaf(
            &identity.parse().expect("a name"),
            Duration::from_secs(60),
            now(),
        )
        .expect("a leaf")
        .leaf;
    assert!(leaf.issued_by(&root));
}

#[test]
fn our_root_may_issue_leafs_and_no_intermediates() {
    let root = Root::generate(now()).expect("a root");
    let (_, certificate) = X509Certificate::from_der(root.certificate_der()).expect("parses");
    let constraints = certificate
        .basic_constraints()
        .expect("parses")
        .expect("there");
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = certificate
        .key_usage()
        .expect("parses")
        .expect("there")
        .value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    assert_eq!(root.not_after(), now() + ROOT_LIFETIME);
    assert_eq!(format!("{root:?}").matches("key").count(), 0);
}

#[test]
fn a_users_root_with_or_without_key_usage_is_read() {
    read(|_| ()).expect("no key usage");
    read(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]).expect("with key usage");
    read(|params| {
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CountryName, "DE");
    })
    .expect("a long subject");
}

/// Made with `openssl ecparam -name prime256v1 -genkey` and `openssl req -x509`: a SEC1 key with its
/// parameters before it.
#[test]
fn a_sec1_key_is_read_and_written_back_as_one() {
    let in_2027 = now() + Duration::from_secs(365 * 24 * 60 * 60);
    let root = Root::from_pem(SEC1_CERTIFICATE, SEC1_KEY, in_2027).expect("a root");
    let again = Root::from_pem(&root.certificate_pem(), &root.private_key_pem(), in_2027);
    assert_eq!(
        again.expect("the same root").certificate_der(),
        root.certificate_der()
    );
}

#[test]
fn what_is_no_root_is_refused_with_the_reason() {
    let refused = |change: &dyn Fn(&mut CertificateParams)| read(change).expect_err("refused");
    let error = refused(&|p| p.is_ca = IsCa::ExplicitNoCa);
    assert!(matches!(error, InvalidRoot::NotAnAuthority), "{error}");
    let error = refused(&|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert!(matches!(error, InvalidRoot::NotAnAuthority), "{error}");
    let error = refused(&|p| p.not_after = rcgen::date_time_ymd(2026, 2, 1));
    assert!(matches!(error, InvalidRoot::Expired), "{error}");
    let error = refused(&|p| p.not_before = rcgen::date_time_ymd(2026, 12, 31));
    assert!(matches!(error, InvalidRoot::NotYetValid), "{error}");
    let error = refused(&|p| p.not_before = rcgen::date_time_ymd(1960, 1, 1));
    assert!(matches!(error, InvalidRoot::ImpossibleValidity), "{error}");
}

#[test]
fn an_intermediate_is_not_a_root() {
    let root_key = KeyPair::generate().expect("a key");
    let issuer = Issuer::new(own(|_| ()), root_key);
    let key = KeyPair::generate().expect("a key");
    let params = own(|params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "between")
    });
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let error = Root::from_pem(&certificate.pem(), &key.serialize_pem(), now());
    assert!(
        matches!(error, Err(InvalidRoot::NotSelfSigned)),
        "{error:?}"
    );
}

#[test]
fn certificate_and_key_of_different_pairs_are_refused() {
    let (one, other) = (
        Root::generate(now()).expect("one"),
        Root::generate(now()).expect("two"),
    );
    let error = Root::from_pem(&one.certificate_pem(), &other.private_key_pem(), now());
    assert!(
        matches!(error, Err(InvalidRoot::KeyDoesNotFit)),
        "{error:?}"
    );
}

#[test]
fn broken_text_is_refused_by_the_part_that_is_broken() {
    let root = Root::generate(now()).expect("a root");
    let (certificate, key) = (root.certificate_pem(), root.private_key_pem());
    let twice = format!("{certificate}{certificate}");
    for text in [
        "",
        "junk",
        &certificate[..certificate.len() / 2],
        &twice,
        &key,
    ] {
        let error = Root::from_pem(text, &key, now());
        assert!(
            matches!(error, Err(InvalidRoot::Certificate)),
            "{text}: {error:?}"
        );
    }
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)
        .expect("a key")
        .serialize_pem();
    for text in ["", "junk", &key[..key.len() / 2], &p384, &certificate] {
        let error = Root::from_pem(&certificate, text, now());
        assert!(matches!(error, Err(InvalidRoot::Key)), "{text}: {error:?}");
    }
}

const SEC1_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBoDCCAUWgAwIBAgIUDLXAcfPHeAjnEmcQfDR+7L7LKAIwCgYIKoZIzj0EAwIw
JTEQMA4GA1UECgwHRXhhbXBsZTERMA8GA1UEAwwIT3VyIHJvb3QwHhcNMjYxMTI1
MDAwNTA3WhcNNDYwMTI0MDAwNTA3WjAlMRAwDgYDVQQKDAdFeGFtcGxlMREwDwYD
VQQDDAhPdXIgcm9vdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJhB+GQoX46R
dc8HRGsnUx8PNA3++tGlmcEIzyngDpZNL/4qM/vvsRB5VmqHhsFaWlBXzQRN5TXZ
21Gs1VuRWFOjUzBRMB0GA1UdDgQWBBTbZq01+ghVjXrzyATT3x1GfzEcCjAfBgNV
HSMEGDAWgBTbZq01+ghVjXrzyATT3x1GfzEcCjAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0kAMEYCIQD9K1948Vc7IsnDjClUZMdPlr+xMw8IJ+jMZCXOfAXu
8QIhAOkSfkVsH0gDSMT+exkK6pRZY3JEEIKxUOtjyvukTLVf
-----END CERTIFICATE-----
";

const SEC1_KEY: &str = "\
-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIDr/IaJi5+bEL7M/ek0G21e+fEHkHImfpUxcGIrcSInzoAoGCCqGSM49
AwEHoUQDQgAEmEH4ZChfjpF1zwdEaydTHw80Df760aWZwQjPKeAOlk0v/ioz+++x
EHlWaoeGwVpaUFfNBE3lNdnbUazVW5FYUw==
-----END EC PRIVATE KEY-----
";
