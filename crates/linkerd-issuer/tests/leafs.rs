//! What we issue is what a TLS library accepts, and nothing that was altered counts as ours.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use linkerd_issuer::{
    Anchor, CLOCK_SKEW_MAX, InvalidLeaf, InvalidRequest, IssueError, Leaf, NewRequest,
    ROOT_LIFETIME, Root, SigningRequest, TrustBundle,
};
use linkerd_names::Identity;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SanType,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

fn identity() -> Identity {
    "web.deployment.emojivoto.linkerd-managed.linkerd.svc.cluster.local"
        .parse()
        .expect("a name")
}

fn root() -> Root {
    Root::generate(now()).expect("a root")
}

/// Verifies as a proxy does: chain, validity at `at`, usage and name.
fn accepted(leaf: &Leaf, root: &Root, usage: KeyUsage, at: SystemTime) -> bool {
    let certificate = CertificateDer::from(leaf.as_der());
    let end_entity = EndEntityCert::try_from(&certificate).expect("a certificate");
    let anchors = [anchor_from_trusted_cert(root.certificate_der()).expect("an anchor")];
    let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).expect("after 1970"));
    let name = ServerName::try_from(leaf.identity().as_str()).expect("a DNS name");
    end_entity
        .verify_for_usage(
            &[webpki::aws_lc_rs::ECDSA_P256_SHA256],
            &anchors,
            &[],
            at,
            usage,
            None,
            None,
        )
        .is_ok()
        && end_entity.verify_is_valid_for_subject_name(&name).is_ok()
}

#[test]
fn a_tls_library_accepts_the_leaf_for_servers_and_clients() {
    let root = root();
    let issued = root.issue_leaf(&identity(), DAY, now()).expect("a leaf");
    assert!(accepted(
        &issued.leaf,
        &root,
        KeyUsage::server_auth(),
        now()
    ));
    assert!(accepted(
        &issued.leaf,
        &root,
        KeyUsage::client_auth(),
        now()
    ));
    assert!(issued.leaf.key_fits(issued.key.as_pkcs8_der()));
    assert!(issued.leaf.issued_by(&root));
    assert_eq!(issued.leaf.identity(), &identity());
}

#[test]
fn a_leaf_is_valid_for_its_lifetime_and_the_skew_before_and_no_second_longer() {
    let root = Root::generate(now() - DAY).expect("a root");
    let leaf = root
        .issue_leaf(&identity(), DAY, now())
        .expect("a leaf")
        .leaf;
    assert_eq!(leaf.not_before(), now() - CLOCK_SKEW_MAX);
    assert_eq!(leaf.not_after(), now() + DAY);
    let second = Duration::from_secs(1);
    for (at, valid) in [
        (now() - CLOCK_SKEW_MAX - second, false),
        (now() - CLOCK_SKEW_MAX, true),
        (now() + DAY, true),
        (now() + DAY + second, false),
    ] {
        assert_eq!(
            accepted(&leaf, &root, KeyUsage::server_auth(), at),
            valid,
            "{at:?}"
        );
    }
}

#[test]
fn a_leaf_has_the_fields_of_a_leaf_and_nothing_more() {
    let root = root();
    let leaf = root
        .issue_leaf(&identity(), DAY, now())
        .expect("a leaf")
        .leaf;
    let (_, certificate) = X509Certificate::from_der(leaf.as_der()).expect("a certificate");
    assert_eq!(certificate.subject().iter().count(), 0);
    let names = certificate
        .subject_alternative_name()
        .expect("parses")
        .expect("there");
    assert_eq!(names.value.general_names.len(), 1);
    assert!(names.critical, "a name outside of the subject is critical");
    let constraints = certificate
        .basic_constraints()
        .expect("parses")
        .expect("there");
    assert!(!constraints.value.ca);
    let usage = certificate
        .key_usage()
        .expect("parses")
        .expect("there")
        .value;
    assert!(usage.digital_signature());
    assert!(!usage.key_cert_sign() && !usage.crl_sign() && !usage.key_encipherment());
    let oids: Vec<_> = certificate
        .extensions()
        .iter()
        .map(|e| e.oid.to_id_string())
        .collect();
    assert!(
        oids.contains(&"2.5.29.35".to_owned()),
        "authority key identifier: {oids:?}"
    );
}

#[test]
fn serial_numbers_are_positive_128_bits_long_and_never_the_same() {
    let root = root();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..200 {
        let leaf = root
            .issue_leaf(&identity(), DAY, now())
            .expect("a leaf")
            .leaf;
        let (_, certificate) = X509Certificate::from_der(leaf.as_der()).expect("parses");
        let serial = certificate.raw_serial();
        assert_eq!(serial.len(), 16);
        assert_eq!(serial[0] >> 6, 1, "positive, and no leading zeros");
        assert!(seen.insert(serial.to_vec()));
    }
}

#[test]
fn every_leaf_has_a_key_of_its_own() {
    let root = root();
    let one = root.issue_leaf(&identity(), DAY, now()).expect("a leaf");
    let other = root.issue_leaf(&identity(), DAY, now()).expect("a leaf");
    assert_ne!(one.key, other.key);
    assert!(!one.leaf.key_fits(other.key.as_pkcs8_der()));
    assert!(!one.leaf.key_fits(b"garbage"));
    assert!(!one.leaf.key_fits(b""));
}

#[test]
fn a_leaf_never_outlives_its_root() {
    let root = root();
    for lifetime in [2 * ROOT_LIFETIME, Duration::MAX] {
        let leaf = root
            .issue_leaf(&identity(), lifetime, now())
            .expect("a leaf")
            .leaf;
        assert_eq!(leaf.not_after(), root.not_after());
    }
}

#[test]
fn nothing_is_issued_outside_of_the_roots_validity_or_for_no_time() {
    let root = root();
    let error = root
        .issue_leaf(&identity(), DAY, now() + ROOT_LIFETIME)
        .expect_err("too late");
    assert!(matches!(error, IssueError::RootExpired), "{error}");
    let error = root
        .issue_leaf(&identity(), DAY, now() - HOUR)
        .expect_err("too early");
    assert!(matches!(error, IssueError::RootNotYetValid), "{error}");
    let error = root
        .issue_leaf(&identity(), Duration::ZERO, now())
        .expect_err("no time");
    assert!(matches!(error, IssueError::LifetimeTooShort), "{error}");
}

#[test]
fn a_leaf_is_renewed_at_two_thirds_of_its_life_or_a_little_before() {
    let root = Root::generate(now() - DAY).expect("a root");
    let mut moments = std::collections::HashSet::new();
    for lifetime in [Duration::from_secs(30), HOUR, DAY] {
        for _ in 0..20 {
            let leaf = root
                .issue_leaf(&identity(), lifetime, now())
                .expect("a leaf")
                .leaf;
            assert!(leaf.renew_at() <= now() + lifetime * 2 / 3);
            assert!(leaf.renew_at() >= now() + lifetime * 2 / 3 - lifetime / 20);
            moments.insert(leaf.renew_at());
        }
    }
    assert!(
        moments.len() > 40,
        "only {} different moments",
        moments.len()
    );
}

/// A root as `openssl req -x509` makes one, valid from this second on.
fn root_of_this_second() -> Root {
    let at = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).expect("after 1970");
        time::OffsetDateTime::UNIX_EPOCH + since
    };
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = at(now());
    params.not_after = at(now() + 30 * DAY);
    let key = new_key();
    let certificate = params.self_signed(&key).expect("a certificate");
    Root::from_pem(&certificate.pem(), &key.serialize_pem(), now()).expect("a root")
}

#[test]
fn under_a_root_of_this_second_certificates_are_renewed_when_two_thirds_are_over_too() {
    let root = root_of_this_second();
    assert_eq!(root.not_before(), now());
    let minute = Duration::from_secs(60);
    for lifetime in [Duration::from_secs(10), 6 * minute, 10 * minute, DAY] {
        let leaf = root
            .issue_leaf(&identity(), lifetime, now())
            .expect("a leaf")
            .leaf;
        assert_eq!(leaf.lifetime(), lifetime);
        assert!(leaf.renew_at() <= now() + lifetime * 2 / 3);
        assert!(leaf.renew_at() >= now() + lifetime * 2 / 3 - lifetime / 20);
        assert!(leaf.issued_by(&root));
        // Whose clock is slow is served too.
        for at in [now(), now() - minute] {
            for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
                assert!(accepted(&leaf, &root, usage, at));
            }
        }
        let webhook = root
            .issue_webhook("linkerd-injector", "linkerd", lifetime, now())
            .expect("a certificate")
            .certificate;
        assert_eq!(webhook.issued_at(), now());
        assert!(webhook.renew_at() < webhook.not_after());
    }
}

#[test]
fn an_altered_leaf_is_not_ours() {
    let root = root();
    let der = root
        .issue_leaf(&identity(), DAY, now())
        .expect("a leaf")
        .leaf
        .as_der()
        .to_vec();
    for index in 0..der.len() {
        let mut altered = der.clone();
        altered[index] ^= 0x01;
        if let Ok(leaf) = Leaf::parse(&altered) {
            assert!(!leaf.issued_by(&root), "byte {index}");
        }
    }
}

#[test]
fn the_same_name_with_another_key_is_another_root() {
    let ours = root();
    let other = root();
    let leaf = ours
        .issue_leaf(&identity(), DAY, now())
        .expect("a leaf")
        .leaf;
    assert!(!leaf.issued_by(&other));
    assert!(!accepted(&leaf, &other, KeyUsage::server_auth(), now()));
}

#[test]
fn what_is_no_leaf_is_refused_with_the_reason() {
    let root = root();
    let good = root
        .issue_leaf(&identity(), DAY, now())
        .expect("a leaf")
        .leaf;
    let mut longer = good.as_der().to_vec();
    longer.push(0);
    let truncated = &good.as_der()[..good.as_der().len() / 2];
    for der in [&b""[..], b"garbage", truncated, &longer] {
        assert_eq!(Leaf::parse(der), Err(InvalidLeaf::NotACertificate));
    }
    assert_eq!(
        Leaf::parse(root.certificate_der()),
        Err(InvalidLeaf::IsAuthority)
    );

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let own = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(vec!["a.b".to_owned()]).expect("params");
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        change(&mut params);
        Leaf::parse(params.self_signed(&key).expect("a certificate").der())
    };
    assert!(own(&|_| ()).is_ok());
    assert_eq!(
        own(&|p| p.extended_key_usages.clear()),
        Err(InvalidLeaf::WrongUsage)
    );
    assert_eq!(
        own(&|p| p.subject_alt_names.clear()),
        Err(InvalidLeaf::WrongName)
    );
    let second = SanType::DnsName("c.d".try_into().expect("a name"));
    assert_eq!(
        own(&|p| p.subject_alt_names.push(second.clone())),
        Err(InvalidLeaf::WrongName)
    );
    let wildcard = SanType::DnsName("*.b".try_into().expect("a name"));
    assert_eq!(
        own(&|p| p.subject_alt_names = vec![wildcard.clone()]),
        Err(InvalidLeaf::WrongName)
    );
    let past = |p: &mut CertificateParams| p.not_before = rcgen::date_time_ymd(1960, 1, 1);
    assert_eq!(own(&past), Err(InvalidLeaf::ImpossibleValidity));
}

fn request(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::new(vec![identity().as_str().to_owned()]).expect("params");
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    params
        .serialize_request(key)
        .expect("a request")
        .der()
        .to_vec()
}

fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

#[test]
fn our_own_signing_request_becomes_a_leaf_for_its_key() {
    let root = root();
    let request = NewRequest::generate(&identity()).expect("a request");
    let key = request.key.as_pkcs8_der();
    let parsed = SigningRequest::parse(&request.der).expect("a request");
    let leaf = root
        .issue_from_request(&parsed, HOUR, now())
        .expect("a leaf");
    assert!(leaf.key_fits(key) && leaf.issued_by(&root));
}

#[test]
fn nothing_but_name_and_public_key_of_a_signing_request_is_used() {
    let root = root();
    let key = new_key();
    let der = request(&key, |params| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "evil");
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]));
    });
    let parsed = SigningRequest::parse(&der).expect("a request");
    let leaf = root
        .issue_from_request(&parsed, HOUR, now())
        .expect("a leaf");
    assert_eq!(leaf.identity(), &identity());
    assert!(leaf.key_fits(key.serialized_der()));
    assert!(accepted(&leaf, &root, KeyUsage::server_auth(), now()));
    let own = root
        .issue_leaf(&identity(), HOUR, now())
        .expect("a leaf")
        .leaf;
    let shape = |leaf: &Leaf| {
        let (_, certificate) = X509Certificate::from_der(leaf.as_der()).expect("a certificate");
        let extensions = certificate.extensions().iter();
        let oids: Vec<String> = extensions.map(|e| e.oid.to_id_string()).collect();
        (certificate.subject().to_string(), oids)
    };
    assert_eq!(shape(&leaf), shape(&own));
}

#[test]
fn signing_requests_without_proof_or_with_another_kind_of_key_are_refused() {
    let good = request(&new_key(), |_| ());
    let refused = |der: &[u8]| SigningRequest::parse(der).expect_err("refused");
    let mut altered = good.clone();
    *altered.last_mut().expect("bytes") ^= 1;
    assert_eq!(refused(&altered), InvalidRequest::WrongSignature);
    let longer = [good.as_slice(), &[0]].concat();
    assert_eq!(refused(&longer), InvalidRequest::NotASigningRequest);
    assert_eq!(refused(b"garbage"), InvalidRequest::NotASigningRequest);
    assert_eq!(refused(b""), InvalidRequest::NotASigningRequest);
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    assert_eq!(
        refused(&request(&p384, |_| ())),
        InvalidRequest::WrongKeyKind
    );
}

/// The signature of one request does not vouch for the public key of another.
#[test]
fn a_signing_request_with_the_public_key_of_somebody_else_is_refused() {
    let (mine, theirs) = (new_key(), new_key());
    let mut der = request(&mine, |_| ());
    let own = mine.public_key_raw();
    let at = der
        .windows(own.len())
        .position(|part| part == own)
        .expect("in it");
    der[at..at + own.len()].copy_from_slice(theirs.public_key_raw());
    assert_eq!(
        SigningRequest::parse(&der).expect_err("refused"),
        InvalidRequest::WrongSignature
    );
}

#[test]
fn signing_requests_for_other_than_exactly_one_name_are_refused() {
    let name = |text: &str| SanType::DnsName(text.try_into().expect("a name"));
    let address = SanType::IpAddress([10, 0, 0, 1].into());
    let uri = SanType::URI("spiffe://a/b".try_into().expect("a name"));
    let mail = SanType::Rfc822Name("a@b.c".try_into().expect("a name"));
    for names in [
        vec![],
        vec![name(identity().as_str()), name("second.example")],
        vec![name(identity().as_str()), name(identity().as_str())],
        vec![name(identity().as_str()), address.clone()],
        vec![name(identity().as_str()), uri],
        vec![name(identity().as_str()), mail],
        vec![address],
        vec![name("*.example")],
    ] {
        let der = request(&new_key(), |params| {
            params.subject_alt_names = names.clone()
        });
        let error = SigningRequest::parse(&der).expect_err("refused");
        assert_eq!(error, InvalidRequest::WrongName, "{names:?}");
    }
    let common_name = |text: &str| {
        let der = request(&new_key(), |params| {
            params.distinguished_name.push(DnType::CommonName, text);
        });
        SigningRequest::parse(&der).err()
    };
    assert_eq!(common_name("evil"), Some(InvalidRequest::WrongName));
    assert_eq!(common_name(""), None);
    assert_eq!(common_name(identity().as_str()), None);
}

#[test]
fn a_leaf_knows_how_long_it_is_valid_from_when_it_was_issued() {
    let between_seconds = now() + Duration::from_millis(700);
    let root = Root::generate(between_seconds).expect("a root");
    let issued = root.issue_leaf(&identity(), HOUR, between_seconds);
    let issued = issued.expect("a leaf");
    assert_eq!(issued.leaf.lifetime(), HOUR);
}

#[test]
fn a_bundle_reads_back_what_it_wrote_and_refuses_anything_else() {
    let (one, other) = (root(), root());
    let text = format!(
        "{}junk\n{}",
        one.trust_bundle().to_pem(),
        other.trust_bundle().to_pem()
    );
    let bundle = TrustBundle::from_pem(&text).expect("a bundle");
    let certificates = [&one, &other].map(|root| root.certificate_der().clone());
    assert_eq!(bundle.certificates(), certificates);
    assert_eq!(TrustBundle::from_pem(&bundle.to_pem()), Ok(bundle));

    use linkerd_issuer::InvalidBundle::{Empty, NotAnAuthority, NotPem};
    assert_eq!(TrustBundle::from_pem(""), Err(Empty));
    assert_eq!(TrustBundle::from_pem("junk"), Err(Empty));
    let cut = text.replace("-----END CERTIFICATE-----", "");
    assert_eq!(TrustBundle::from_pem(&cut), Err(NotPem));
    let leaf = KeyPair::generate()
        .and_then(|key| CertificateParams::new(vec!["a.b".to_owned()])?.self_signed(&key))
        .expect("a certificate");
    let with_leaf = format!("{}{}", one.certificate_pem(), leaf.pem());
    assert_eq!(TrustBundle::from_pem(&with_leaf), Err(NotAnAuthority(2)));
}

#[test]
fn a_bundle_is_believed_as_proxies_believe_it_whatever_the_kind_of_its_roots() {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "of others");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    let root = params.self_signed(&key).expect("a certificate");
    let mut params = CertificateParams::new(vec![identity().as_str().to_owned()]).expect("a name");
    params.extended_key_usages = vec![
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        rcgen::ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let issuer = Issuer::from_ca_cert_der(root.der(), &key).expect("an issuer");
    let leaf = params.signed_by(&new_key(), &issuer).expect("a leaf");
    let bundle = TrustBundle::from_pem(&root.pem()).expect("a bundle");
    assert_eq!(bundle.verify_server(leaf.der(), now()), Ok(()));
    let parsed = Leaf::parse(leaf.der()).expect("a leaf");
    let anchor = Anchor::of(&parsed, bundle.certificates().iter().cloned());
    assert_eq!(anchor.expect("it vouches").name, "of others");

    let refused = self::root().trust_bundle().verify_server(leaf.der(), now());
    assert_eq!(
        refused.expect_err("a stranger").to_string(),
        "UnknownIssuer"
    );
    assert!(bundle.verify_server(b"garbage", now()).is_err());
}

#[test]
fn what_cannot_be_a_root_hides_no_root_beside_it() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    // Name constraints that are none.
    let constraints = CustomExtension::from_oid_content(&[2, 5, 29, 30], vec![5, 0]);
    params.custom_extensions = vec![constraints];
    let odd = params.self_signed(&new_key()).expect("a certificate");
    let ours = root();
    let issued = ours.issue_leaf(&identity(), DAY, now()).expect("a leaf");
    let both = format!("{}{}", odd.pem(), ours.certificate_pem());
    let bundle = TrustBundle::from_pem(&both).expect("a bundle");
    assert_eq!(bundle.verify_server(issued.leaf.as_der(), now()), Ok(()));
}
