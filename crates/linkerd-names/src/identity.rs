//! The DNS-like name that a workload proves with its certificate.
//! `<owner>.<kind>.<namespace>.linkerd-managed.<control-plane namespace>.svc.cluster.local`

use std::{fmt, str::FromStr, sync::Arc};

use crate::{CLUSTER_DOMAIN, OwnerKind};

/// Limits of DNS names, RFC 1035 section 2.3.4.
const NAME_LENGTH_MAX: usize = 253;
const LABEL_LENGTH_MAX: usize = 63;

/// A valid identity, in lower case and without a trailing dot. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(Arc<str>);

/// The text is not a DNS name that could be an identity; the text says why.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidIdentity {
    /// What was read.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Identity {
    /// Builds the identity of a workload.
    ///
    /// The owner's name may contain dots: the parts after it have none, so the name stays unambiguous.
    ///
    /// # Errors
    /// [`InvalidIdentity`] when the result is not a DNS name.
    pub fn new(
        owner: &str,
        kind: OwnerKind,
        namespace: &str,
        control_plane_namespace: &str,
    ) -> Result<Self, InvalidIdentity> {
        format!(
            "{owner}.{kind}.{namespace}.linkerd-managed.{control_plane_namespace}.svc.{CLUSTER_DOMAIN}"
        )
        .parse()
    }

    /// Builds the name that proxies of Linkerd use: that of a ServiceAccount.
    ///
    /// # Errors
    /// [`InvalidIdentity`] when the result is not a DNS name, or the ServiceAccount's name has a dot:
    /// Linkerd refuses those as well.
    pub fn of_service_account(
        service_account: &str,
        namespace: &str,
        control_plane_namespace: &str,
    ) -> Result<Self, InvalidIdentity> {
        if service_account.contains('.') {
            return Err(InvalidIdentity {
                text: service_account.to_owned(),
                reason: "a ServiceAccount's name with a dot makes no identity",
            });
        }
        format!(
            "{service_account}.{namespace}.serviceaccount.identity.{control_plane_namespace}.{CLUSTER_DOMAIN}"
        )
        .parse()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` has the shape of a mesh identity of *any* workload. A proxy that meets such a
    /// name in an SNI never passes the connection on to its application.
    pub fn is_mesh_name(name: &str) -> bool {
        name.to_ascii_lowercase()
            .strip_suffix(&format!(".svc.{CLUSTER_DOMAIN}"))
            .and_then(|rest| rest.rsplit_once('.'))
            .is_some_and(|(rest, _namespace)| rest.ends_with(".linkerd-managed"))
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        let invalid = |reason| InvalidIdentity {
            text: text.to_owned(),
            reason,
        };
        if text.len() > NAME_LENGTH_MAX {
            return Err(invalid("it has more than 253 characters"));
        }
        for label in text.split('.') {
            if label.is_empty() {
                return Err(invalid("a part between dots is empty"));
            }
            if label.len() > LABEL_LENGTH_MAX {
                return Err(invalid("a part between dots has more than 63 characters"));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(invalid("a part begins or ends with a dash"));
            }
            if !label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            {
                return Err(invalid(
                    "it has characters other than letters, digits, dashes and dots",
                ));
            }
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Identity {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InvalidIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a valid identity: {}",
            self.text, self.reason
        )
    }
}

impl std::error::Error for InvalidIdentity {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_name_with_dots_is_kept() {
        let identity = Identity::new("a.b", OwnerKind::Job, "ns", "linkerd").expect("valid");
        assert_eq!(
            identity.as_str(),
            "a.b.job.ns.linkerd-managed.linkerd.svc.cluster.local"
        );
        assert!(Identity::is_mesh_name(identity.as_str()));
    }

    #[test]
    fn names_that_are_no_dns_names_are_refused() {
        for text in [
            "",
            "a..b",
            "-a",
            "a b",
            "*.a",
            "a\0b",
            &"a".repeat(64),
            &"a.".repeat(127),
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_of_service_accounts_are_those_of_linkerd() {
        let identity = Identity::of_service_account("web", "emojivoto", "linkerd").expect("valid");
        assert_eq!(
            identity.as_str(),
            "web.emojivoto.serviceaccount.identity.linkerd.cluster.local"
        );
        assert!(!Identity::is_mesh_name(identity.as_str()));
        assert!(Identity::of_service_account("a.b", "ns", "linkerd").is_err());
    }

    #[test]
    fn names_of_applications_are_not_mesh_names() {
        for name in [
            "example.com",
            "web.emojivoto.svc.cluster.local",
            "linkerd-managed.x",
        ] {
            assert!(!Identity::is_mesh_name(name), "{name}");
        }
    }
}
