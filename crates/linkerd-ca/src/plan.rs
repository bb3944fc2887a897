//! Decides whether a workload's certificate must be issued. Entry: [`plan`].
//! Pure: no clock, no Kubernetes client; `issue.rs` acts on the answer.

use std::time::{Duration, SystemTime};

use linkerd_issuer::Root;
use linkerd_names::Identity;

use crate::{secret::Held, workloads::Workload};

/// What to do about one workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The Secret is good; look again at this time.
    Keep {
        /// When the certificate is due.
        renew_at: SystemTime,
    },
    /// Write a new certificate with a new key.
    Issue {
        /// What is wrong with what is there.
        reason: Reason,
    },
}

/// Why a certificate is issued. The words are values of the metric label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// There is no Secret.
    Missing,
    /// The Secret holds no certificate that could be one of ours.
    Unreadable,
    /// Issued by another root than the present one.
    OtherRoot,
    /// For another workload.
    WrongName,
    /// The key is of another pair, or broken.
    KeyDoesNotFit,
    /// The Secret belongs to an earlier workload of this name and would vanish with it.
    OtherOwner,
    /// The Secret has lost the label by which we watch it, so nobody would notice the next change.
    Unlabelled,
    /// Valid only in the future: a clock was wrong when it was issued.
    NotYetValid,
    /// Two thirds of its life are over.
    Expiring,
    /// Valid for much longer than certificates are to be by now.
    TooLong,
}

/// Decides whether `workload`, whose name is `identity`, keeps the certificate in its Secret at `now`, when
/// new ones are valid for `lifetime`. Never fails; a bad Secret is a reason.
pub fn plan(
    identity: &Identity,
    workload: &Workload,
    held: Option<&Held>,
    root: &Root,
    lifetime: Duration,
    now: SystemTime,
) -> Plan {
    let Some(held) = held else {
        return Plan::Issue {
            reason: Reason::Missing,
        };
    };
    let Some(leaf) = &held.leaf else {
        return Plan::Issue {
            reason: Reason::Unreadable,
        };
    };
    // Nothing would live longer than the root: such a leaf is kept until it ends.
    let renew_at = if leaf.not_after() < root.not_after() {
        leaf.renew_at()
    } else {
        leaf.not_after()
    };
    let reason = if !leaf.issued_by(root) {
        Reason::OtherRoot
    } else if leaf.identity() != identity {
        Reason::WrongName
    } else if !held.key_fits {
        Reason::KeyDoesNotFit
    } else if !held.owner_uids.contains(&workload.uid) {
        Reason::OtherOwner
    } else if !held.is_labelled {
        Reason::Unlabelled
    } else if leaf.not_before() > now {
        Reason::NotYetValid
    } else if renew_at <= now {
        Reason::Expiring
    } else if leaf.lifetime() > lifetime + lifetime / 4 {
        Reason::TooLong
    } else {
        return Plan::Keep { renew_at };
    };
    Plan::Issue { reason }
}

impl Reason {
    /// Value of the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::OtherRoot => "other_root",
            Self::WrongName => "wrong_name",
            Self::KeyDoesNotFit => "key_does_not_fit",
            Self::OtherOwner => "other_owner",
            Self::Unlabelled => "unlabelled",
            Self::NotYetValid => "not_yet_valid",
            Self::Expiring => "expiring",
            Self::TooLong => "too_long",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use linkerd_issuer::{CLOCK_SKEW_MAX, ROOT_LIFETIME};
    use linkerd_names::{Owner, OwnerKind};

    use super::*;
    use crate::{
        workloads::{Source, Wanted},
        write::Version,
    };

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }

    fn workload() -> Workload {
        let owner = Owner {
            namespace: "ns".into(),
            kind: OwnerKind::Deployment,
            name: "web".into(),
        };
        Workload {
            owner,
            uid: "1".into(),
            source: Source::Secret,
            wanted: Wanted::Marked,
        }
    }

    fn identity() -> Identity {
        workload().owner.identity("linkerd").expect("a name")
    }

    fn root() -> Root {
        Root::generate(now() - DAY).expect("a root")
    }

    fn held(root: &Root, lifetime: Duration, issued_at: SystemTime) -> Held {
        let issued = root
            .issue_leaf(&identity(), lifetime, issued_at)
            .expect("a leaf");
        Held {
            version: Version {
                uid: "2".into(),
                resource_version: "3".into(),
            },
            key_fits: issued.leaf.key_fits(issued.key.as_pkcs8_der()),
            leaf: Some(issued.leaf),
            owner_uids: vec!["1".into()],
            is_labelled: true,
        }
    }

    /// What is planned for a good Secret after `change`, a day after the root was made.
    fn after(change: impl FnOnce(&mut Held)) -> Plan {
        let root = root();
        let mut held = held(&root, DAY, now());
        change(&mut held);
        plan(&identity(), &workload(), Some(&held), &root, DAY, now())
    }

    #[test]
    fn a_good_certificate_is_kept_until_it_is_due() {
        let Plan::Keep { renew_at } = after(|_| ()) else {
            panic!("issued")
        };
        assert!(renew_at > now() + DAY / 2 && renew_at <= now() + DAY * 2 / 3);
    }

    #[test]
    fn each_thing_that_can_be_wrong_is_a_reason_of_its_own() {
        let missing = plan(&identity(), &workload(), None, &root(), DAY, now());
        assert_eq!(
            missing,
            Plan::Issue {
                reason: Reason::Missing
            }
        );

        let stranger = root();
        for (expected, got) in [
            (Reason::Unreadable, after(|held| held.leaf = None)),
            (Reason::KeyDoesNotFit, after(|held| held.key_fits = false)),
            (
                Reason::OtherOwner,
                after(|held| held.owner_uids = vec!["another".into()]),
            ),
            (Reason::OtherOwner, after(|held| held.owner_uids.clear())),
            (Reason::Unlabelled, after(|held| held.is_labelled = false)),
            (
                Reason::OtherRoot,
                after(|held| {
                    let other = stranger
                        .issue_leaf(&identity(), DAY, now())
                        .expect("a leaf");
                    held.leaf = Some(other.leaf);
                }),
            ),
        ] {
            assert_eq!(got, Plan::Issue { reason: expected });
        }
    }

    #[test]
    fn the_certificate_of_another_workload_is_not_kept() {
        let root = root();
        let held = held(&root, DAY, now());
        let other = "other.deployment.ns.linkerd-managed.linkerd.svc.cluster.local";
        let planned = plan(
            &other.parse().expect("a name"),
            &workload(),
            Some(&held),
            &root,
            DAY,
            now(),
        );
        assert_eq!(
            planned,
            Plan::Issue {
                reason: Reason::WrongName
            }
        );
    }

    #[test]
    fn renews_when_two_thirds_of_the_lifetime_are_over() {
        let root = root();
        let held = held(&root, DAY, now());
        let at = |now| plan(&identity(), &workload(), Some(&held), &root, DAY, now);
        assert!(matches!(
            at(now() + DAY * 2 / 3 - DAY / 20 - CLOCK_SKEW_MAX),
            Plan::Keep { .. }
        ));
        for late in [now() + DAY * 2 / 3, now() + DAY, now() + 100 * DAY] {
            assert_eq!(
                at(late),
                Plan::Issue {
                    reason: Reason::Expiring
                }
            );
        }
    }

    #[test]
    fn a_shorter_lifetime_holds_for_the_certificates_of_before() {
        let root = root();
        let planned = |lifetime| {
            let held = held(&root, lifetime, now());
            plan(&identity(), &workload(), Some(&held), &root, DAY, now())
        };
        let reason = Reason::TooLong;
        assert_eq!(planned(365 * DAY), Plan::Issue { reason });
        assert_eq!(planned(DAY * 13 / 10), Plan::Issue { reason });
        for about_as_long in [DAY * 12 / 10, DAY, DAY / 10] {
            assert!(matches!(planned(about_as_long), Plan::Keep { .. }));
        }
    }

    #[test]
    fn a_certificate_from_the_future_is_replaced() {
        let root = root();
        let held = held(&root, DAY, now());
        let planned = plan(
            &identity(),
            &workload(),
            Some(&held),
            &root,
            DAY,
            now() - 2 * CLOCK_SKEW_MAX,
        );
        assert_eq!(
            planned,
            Plan::Issue {
                reason: Reason::NotYetValid
            }
        );
    }

    #[test]
    fn a_certificate_that_ends_with_its_root_is_not_renewed_in_a_loop() {
        let root = root();
        let last_hour = root.not_after() - Duration::from_secs(60 * 60);
        let held = held(&root, ROOT_LIFETIME, last_hour);
        let planned = plan(
            &identity(),
            &workload(),
            Some(&held),
            &root,
            ROOT_LIFETIME,
            root.not_after() - Duration::from_secs(1),
        );
        assert_eq!(
            planned,
            Plan::Keep {
                renew_at: root.not_after()
            }
        );
    }
}
