//! Whether the pod that a token proves has the identity that it asks for. Entry: [`prove`].
//! Pure: what is known of the pod comes in. A workload's identity is the very one that discovery
//! announces; a ServiceAccount's is what proxies of Linkerd ask for, and follows from the token alone.

use linkerd_names::Identity;

use super::{refusal::Refusal, review::Subject};
use crate::{index::KnownPod, pod::Stage};

/// Says yes when `subject` may have a certificate for `requested`.
///
/// # Errors
/// [`Refusal`] for everything else; [`Refusal::PodUnknown`] passes by itself.
pub fn prove(
    requested: &Identity,
    subject: &Subject,
    pod: Option<&KnownPod>,
    control_plane_namespace: &str,
) -> Result<(), Refusal> {
    // A pod of the same name and another uid: the watch has not told of the new one yet.
    let pod = pod
        .filter(|pod| pod.uid == subject.pod_uid)
        .ok_or(Refusal::PodUnknown)?;
    if pod.stage == Stage::Ended {
        return Err(Refusal::PodEnded);
    }
    let workload = &pod.workload;
    if workload.control_plane_namespace.as_deref() != Some(control_plane_namespace) {
        return Err(Refusal::NoIdentity);
    }
    let account = Identity::of_service_account(
        &subject.service_account,
        &subject.pod.namespace,
        control_plane_namespace,
    );
    if account.as_ref() == Ok(requested) || workload.identity.as_ref() == Some(requested) {
        return Ok(());
    }
    Err(match &workload.identity {
        Some(other) => Refusal::OtherIdentity(other.clone()),
        None if workload.owner.is_none() => Refusal::PodUnknown,
        None => Refusal::NoIdentity,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use linkerd_names::{Owner, OwnerKind};

    use super::*;
    use crate::{endpoints::Workload, pod::PodKey, port_set::PortSet};

    const WEB: &str = "web.deployment.ns.linkerd-managed.linkerd.svc.cluster.local";
    const ACCOUNT: &str = "robot.ns.serviceaccount.identity.linkerd.cluster.local";

    fn subject() -> Subject {
        Subject {
            service_account: "robot".to_owned(),
            pod: PodKey {
                namespace: "ns".to_owned(),
                name: "web-a".to_owned(),
            },
            pod_uid: "1".to_owned(),
        }
    }

    fn workload() -> Workload {
        let owner = Owner {
            namespace: "ns".to_owned(),
            kind: OwnerKind::Deployment,
            name: "web".to_owned(),
        };
        Workload {
            pod: subject().pod,
            identity: owner.identity("linkerd").ok(),
            owner: Some(owner),
            control_plane_namespace: Some("linkerd".to_owned()),
            template_hash: None,
            skip_inbound_ports: PortSet::default(),
            opaque_ports: PortSet::default(),
            inbound_port: None,
        }
    }

    /// `yes`, or the refusal's word, for a good pod after `change`.
    fn after(requested: &str, change: impl FnOnce(&mut KnownPod, &mut Workload)) -> &'static str {
        let mut pod = KnownPod {
            uid: "1".to_owned(),
            stage: Stage::Pending,
            workload: Arc::new(workload()),
        };
        let mut workload = workload();
        change(&mut pod, &mut workload);
        pod.workload = Arc::new(workload);
        let requested = requested.parse().expect("a name");
        match prove(&requested, &subject(), Some(&pod), "linkerd") {
            Ok(()) => "yes",
            Err(refusal) => refusal.label(),
        }
    }

    #[test]
    fn a_pod_has_its_workloads_identity_and_its_service_accounts() {
        assert_eq!(after(WEB, |_, _| ()), "yes");
        assert_eq!(after(ACCOUNT, |_, _| ()), "yes");
    }

    #[test]
    fn a_pod_has_nobody_elses_identity() {
        for other in [
            "emoji.deployment.ns.linkerd-managed.linkerd.svc.cluster.local",
            "web.deployment.other.linkerd-managed.linkerd.svc.cluster.local",
            "web.statefulset.ns.linkerd-managed.linkerd.svc.cluster.local",
            "web.deployment.ns.linkerd-managed.other.svc.cluster.local",
            "other.ns.serviceaccount.identity.linkerd.cluster.local",
            "robot.other.serviceaccount.identity.linkerd.cluster.local",
            "robot.ns.serviceaccount.identity.other.cluster.local",
            "example.com",
        ] {
            assert_eq!(after(other, |_, _| ()), "other_identity", "{other}");
        }
    }

    #[test]
    fn a_pod_without_the_marks_of_this_mesh_has_no_identity() {
        let other = |_: &mut KnownPod, workload: &mut Workload| {
            workload.control_plane_namespace = Some("other".to_owned());
        };
        assert_eq!(after(WEB, other), "no_identity");
        assert_eq!(after(ACCOUNT, other), "no_identity");
        assert_eq!(
            after(ACCOUNT, |_, workload| workload.control_plane_namespace =
                None),
            "no_identity"
        );
        assert_eq!(
            after(WEB, |_, workload| workload.identity = None),
            "no_identity"
        );
    }

    #[test]
    fn a_pod_that_was_not_seen_yet_is_asked_to_come_again() {
        let requested = WEB.parse().expect("a name");
        let unknown = prove(&requested, &subject(), None, "linkerd").expect_err("refused");
        assert_eq!(unknown.label(), "pod_unknown");
        assert_eq!(after(WEB, |pod, _| pod.uid = "2".to_owned()), "pod_unknown");
        let no_owner = |_: &mut KnownPod, workload: &mut Workload| {
            workload.owner = None;
            workload.identity = None;
        };
        assert_eq!(after(WEB, no_owner), "pod_unknown");
    }

    #[test]
    fn a_pod_that_has_ended_gets_nothing() {
        assert_eq!(after(WEB, |pod, _| pod.stage = Stage::Ended), "pod_ended");
    }
}
