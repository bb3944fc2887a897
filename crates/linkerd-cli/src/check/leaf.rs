//! Whether the certificate in a workload's Secret is good. Entry: [`judge`].
//! Pure: no clock, no Kubernetes.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use k8s_openapi::ByteString;
use linkerd_issuer::{Leaf, TrustBundle, Untrusted};
use linkerd_names::{Identity, component};

/// What is wrong with a Secret. The texts follow the workload's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("the Secret has no {0:?}")]
    Missing(&'static str),
    #[error("the certificate is broken: {0}")]
    Broken(String),
    #[error("the certificate is for {0}")]
    WrongName(Identity),
    #[error("the private key is of another certificate")]
    WrongKey,
    #[error("the certificate is not valid before {0}")]
    NotYetValid(String),
    #[error("the certificate expired {0} ago")]
    Expired(String),
    #[error("the certificate does not chain to the trust bundle: {0}")]
    Untrusted(Untrusted),
}

/// Returns the certificate in a Secret's `data` when a proxy with `identity` can use it at `now`.
///
/// # Errors
/// The first [`Problem`].
pub(super) fn judge(
    data: &BTreeMap<String, ByteString>,
    identity: &Identity,
    bundle: &TrustBundle,
    now: SystemTime,
) -> Result<Leaf, Problem> {
    let part = |key: &'static str| match data.get(key) {
        Some(part) if !part.0.is_empty() => Ok(part.0.as_slice()),
        _ => Err(Problem::Missing(key)),
    };
    let certificate = part(component::CERTIFICATE_KEY)?;
    let key = part(component::PRIVATE_KEY_KEY)?;
    let leaf = Leaf::parse(certificate).map_err(|error| Problem::Broken(error.to_string()))?;
    if leaf.identity() != identity {
        return Err(Problem::WrongName(leaf.identity().clone()));
    }
    if !leaf.key_fits(key) {
        return Err(Problem::WrongKey);
    }
    if let Ok(early) = leaf.not_before().duration_since(now)
        && !early.is_zero()
    {
        return Err(Problem::NotYetValid(format!("{} from now", human(early))));
    }
    if let Ok(late) = now.duration_since(leaf.not_after()) {
        return Err(Problem::Expired(human(late)));
    }
    bundle
        .verify_server(certificate, now)
        .map_err(Problem::Untrusted)?;
    Ok(leaf)
}

/// A duration in its two largest units: `15h 59m`.
pub(super) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use linkerd_issuer::Root;
    use linkerd_names::OwnerKind;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn identity(name: &str) -> Identity {
        Identity::new(name, OwnerKind::Deployment, "ns", "linkerd").expect("valid")
    }

    fn root() -> Root {
        Root::generate(now()).expect("a root")
    }

    fn secret(root: &Root, name: &str, issued: SystemTime) -> BTreeMap<String, ByteString> {
        let issued = root
            .issue_leaf(&identity(name), 24 * HOUR, issued)
            .expect("a leaf");
        BTreeMap::from([
            (
                "certificate.crt".to_owned(),
                ByteString(issued.leaf.as_der().to_vec()),
            ),
            (
                "private-key.p8".to_owned(),
                ByteString(issued.key.as_pkcs8_der().to_vec()),
            ),
        ])
    }

    fn problem(
        data: &BTreeMap<String, ByteString>,
        bundle: &TrustBundle,
        now: SystemTime,
    ) -> Problem {
        judge(data, &identity("web"), bundle, now).expect_err("a problem")
    }

    #[test]
    fn a_certificate_of_the_issuer_is_good() {
        let root = root();
        let leaf = judge(
            &secret(&root, "web", now()),
            &identity("web"),
            &root.trust_bundle(),
            now(),
        );
        assert_eq!(leaf.map(|leaf| leaf.not_after()), Ok(now() + 24 * HOUR));
    }

    #[test]
    fn each_thing_that_can_be_wrong_has_a_name() {
        let root = root();
        let bundle = root.trust_bundle();
        let good = secret(&root, "web", now());
        let other = secret(&root, "emoji", now());
        assert_eq!(
            problem(&other, &bundle, now()),
            Problem::WrongName(identity("emoji"))
        );
        assert_eq!(
            problem(&BTreeMap::new(), &bundle, now()),
            Problem::Missing("certificate.crt")
        );
        let mut mixed = good.clone();
        mixed.insert("private-key.p8".into(), other["private-key.p8"].clone());
        assert_eq!(problem(&mixed, &bundle, now()), Problem::WrongKey);
        let mut broken = good.clone();
        broken.insert("certificate.crt".into(), ByteString(b"x".to_vec()));
        assert!(matches!(
            problem(&broken, &bundle, now()),
            Problem::Broken(_)
        ));
        let late = problem(&good, &bundle, now() + 25 * HOUR);
        assert_eq!(late, Problem::Expired("1h 0m".into()));
        assert!(matches!(
            problem(&good, &bundle, now() - HOUR),
            Problem::NotYetValid(_)
        ));
        let stranger = Root::generate(now()).expect("a root").trust_bundle();
        assert!(matches!(
            problem(&good, &stranger, now()),
            Problem::Untrusted(_)
        ));
    }

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [
            (5, "5s"),
            (65, "1m 5s"),
            (3_660, "1h 1m"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }
}
