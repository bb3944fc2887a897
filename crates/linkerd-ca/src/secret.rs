//! A workload's Secret: how it is built, and what is remembered of one that was read.
//! Private keys are compared and wiped on the way in; none is kept.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use linkerd_issuer::{IssuedLeaf, Leaf};
use linkerd_names::{
    FIELD_MANAGER, Owner,
    component::{CERTIFICATE_KEY, PRIVATE_KEY_KEY},
    labels,
};
use zeroize::Zeroize;

use crate::{workloads::Workload, write::Version};

/// A certificate of ours has some 700 bytes, and with the longest names less than two thousand. What is larger is
/// somebody else's work, and not worth remembering.
const CERTIFICATE_LENGTH_MAX: usize = 4096;
/// A Secret of ours has one owner. More are not ours, but as many do no harm.
const OWNERS_MAX: usize = 16;
/// Kubernetes makes UUIDs of 36 characters.
const UID_LENGTH_MAX: usize = 64;

/// What is remembered of a workload's Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which state of the Secret this is.
    pub version: Version,
    /// The certificate; none when it is missing or has not the shape of a leaf of ours.
    pub leaf: Option<Leaf>,
    /// Whether the private key is the certificate's.
    pub key_fits: bool,
    /// The uids of the objects with which the Secret goes.
    pub owner_uids: Vec<String>,
    /// Whether it has the label by which it is watched.
    pub is_labelled: bool,
}

/// Whose an object of a name of ours is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// We may write it.
    Us,
    /// The `linkerd-ca` in this other namespace has written it.
    ControlPlane(String),
    /// Somebody else has made it.
    Stranger,
}

/// Builds the Secret of `workload`.
pub fn build(workload: &Workload, issued: &IssuedLeaf, control_plane_namespace: &str) -> Secret {
    let owner = &workload.owner;
    let data = BTreeMap::from([
        (
            CERTIFICATE_KEY.to_owned(),
            ByteString(issued.leaf.as_der().to_vec()),
        ),
        (
            PRIVATE_KEY_KEY.to_owned(),
            ByteString(issued.key.as_pkcs8_der().to_vec()),
        ),
    ]);
    Secret {
        metadata: ObjectMeta {
            name: Some(owner.secret_name()),
            namespace: Some(owner.namespace.clone()),
            labels: Some(our_labels(control_plane_namespace)),
            // The workload does not wait for the Secret when it is deleted, hence no
            // blockOwnerDeletion; and the workload's own controller stays its only one.
            owner_references: Some(vec![OwnerReference {
                api_version: owner.kind.api_version().to_owned(),
                kind: owner.kind.api_kind().to_owned(),
                name: owner.name.clone(),
                uid: workload.uid.clone(),
                controller: None,
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

/// The labels by which objects of this control plane are watched.
pub fn our_labels(control_plane_namespace: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(
        labels::CONTROL_PLANE_NAMESPACE.to_owned(),
        control_plane_namespace.to_owned(),
    )])
}

/// Reads a Secret and wipes it.
pub fn read(mut secret: Secret, control_plane_namespace: &str) -> Held {
    let data = secret.data.take().unwrap_or_default();
    let bytes = |key| data.get(key).map(|bytes: &ByteString| bytes.0.as_slice());
    let leaf = bytes(CERTIFICATE_KEY)
        .filter(|der| der.len() <= CERTIFICATE_LENGTH_MAX)
        .and_then(|der| Leaf::parse(der).ok());
    let key_fits = leaf
        .as_ref()
        .zip(bytes(PRIVATE_KEY_KEY))
        .is_some_and(|(leaf, key)| leaf.key_fits(key));
    let held = Held {
        version: Version::of(&secret.metadata),
        leaf,
        key_fits,
        owner_uids: secret
            .metadata
            .owner_references
            .iter()
            .flatten()
            .map(|reference| &reference.uid)
            .filter(|uid| uid.len() <= UID_LENGTH_MAX)
            .take(OWNERS_MAX)
            .cloned()
            .collect(),
        is_labelled: has_our_label(&secret.metadata, control_plane_namespace),
    };
    secret.data = Some(data);
    wipe(&mut secret);
    held
}

/// Says whose the object is: its label tells, and without one it is ours if we have written it before.
pub fn holder(metadata: &ObjectMeta, control_plane_namespace: &str) -> Holder {
    let label = control_plane_label(metadata);
    let mut managers = metadata.managed_fields.iter().flatten();
    let is_written_by_a_ca = managers.any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    match label {
        Some(label) if label == control_plane_namespace => Holder::Us,
        // Every control plane writes under the same name.
        Some(other) if is_written_by_a_ca => Holder::ControlPlane(other.clone()),
        None if is_written_by_a_ca => Holder::Us,
        Some(_) | None => Holder::Stranger,
    }
}

fn has_our_label(metadata: &ObjectMeta, control_plane_namespace: &str) -> bool {
    control_plane_label(metadata).is_some_and(|label| label == control_plane_namespace)
}

fn control_plane_label(metadata: &ObjectMeta) -> Option<&String> {
    let labels = metadata.labels.as_ref()?;
    labels.get(labels::CONTROL_PLANE_NAMESPACE)
}

/// Whose Secret this is: the inverse of [`Owner::secret_name`]. None for every other name.
pub fn owner_of(namespace: &str, secret_name: &str) -> Option<Owner> {
    let (name, kind) = secret_name
        .strip_suffix("-tls-linkerd-io")?
        .rsplit_once('-')?;
    let owner = Owner {
        namespace: namespace.to_owned(),
        kind: kind.parse().ok()?,
        name: name.to_owned(),
    };
    (owner.secret_name() == secret_name).then_some(owner)
}

/// Overwrites the Secret's values in memory.
pub fn wipe(secret: &mut Secret) {
    for value in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
        value.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
    use linkerd_issuer::Root;
    use linkerd_names::OwnerKind;

    use super::*;
    use crate::workloads::{Source, Wanted};

    fn workload() -> Workload {
        let owner = Owner {
            namespace: "ns".into(),
            kind: OwnerKind::CronJob,
            name: "a.b-job".into(),
        };
        Workload {
            owner,
            uid: "1".into(),
            source: Source::Secret,
            wanted: Wanted::Marked,
        }
    }

    fn secret() -> Secret {
        let now = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let identity = workload().owner.identity("linkerd").expect("a name");
        let issued = Root::generate(now)
            .expect("a root")
            .issue_leaf(&identity, Duration::from_secs(60), now)
            .expect("a leaf");
        build(&workload(), &issued, "linkerd")
    }

    #[test]
    fn what_was_built_is_read_back_as_good() {
        let held = read(secret(), "linkerd");
        assert!(held.key_fits && held.is_labelled);
        assert_eq!(held.owner_uids, ["1"]);
        let identity = workload().owner.identity("linkerd").expect("a name");
        assert_eq!(held.leaf.expect("a leaf").identity(), &identity);
    }

    #[test]
    fn damage_is_noticed() {
        let damaged = |change: &dyn Fn(&mut BTreeMap<String, ByteString>)| {
            let mut secret = secret();
            change(secret.data.as_mut().expect("data"));
            read(secret, "linkerd")
        };
        let garbage = || ByteString(b"garbage".to_vec());
        assert_eq!(damaged(&|data| data.clear()).leaf, None);
        assert_eq!(
            damaged(&|data| drop(data.insert(CERTIFICATE_KEY.into(), garbage()))).leaf,
            None
        );
        assert!(!damaged(&|data| drop(data.insert(PRIVATE_KEY_KEY.into(), garbage()))).key_fits);
        assert!(!damaged(&|data| drop(data.remove(PRIVATE_KEY_KEY))).key_fits);
        let other = secret().data.expect("data")[PRIVATE_KEY_KEY].clone();
        let swapped = damaged(&|data| drop(data.insert(PRIVATE_KEY_KEY.into(), other.clone())));
        assert!(!swapped.key_fits);
        assert!(!read(Secret::default(), "linkerd").key_fits);
    }

    #[test]
    fn no_more_is_remembered_than_a_secret_of_ours_can_hold() {
        let mut large = secret();
        // Valid, and large: nothing of ours checks the extensions that it does not know.
        let mut params = rcgen::CertificateParams::new(vec![
            workload()
                .owner
                .identity("linkerd")
                .expect("a name")
                .to_string(),
        ])
        .expect("a name");
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let padding =
            |length| rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 99], vec![4; length]);
        let key = rcgen::KeyPair::generate().expect("a key");
        for (length, is_kept) in [(1000, true), (5000, false)] {
            params.custom_extensions = vec![padding(length)];
            let der = params
                .self_signed(&key)
                .expect("a certificate")
                .der()
                .to_vec();
            assert!(Leaf::parse(&der).is_ok());
            let data = large.data.as_mut().expect("data");
            data.insert(CERTIFICATE_KEY.into(), ByteString(der));
            assert_eq!(read(large.clone(), "linkerd").leaf.is_some(), is_kept);
        }

        let owner = large.metadata.owner_references.as_mut().expect("an owner");
        let with_uid = |uid: String| OwnerReference {
            uid,
            ..owner[0].clone()
        };
        let more: Vec<_> = (0..1000).map(|n| with_uid(n.to_string())).collect();
        owner.insert(0, with_uid("x".repeat(1 << 20)));
        owner.extend(more);
        let held = read(large, "linkerd");
        assert_eq!(held.owner_uids.len(), OWNERS_MAX);
        assert_eq!(held.owner_uids[0], "1");
    }

    #[test]
    fn the_holder_is_told_by_the_label_and_else_by_who_has_written() {
        let mut metadata = secret().metadata;
        assert_eq!(holder(&metadata, "linkerd"), Holder::Us);
        assert_eq!(holder(&metadata, "other"), Holder::Stranger);
        let manager = Some(FIELD_MANAGER.to_owned());
        metadata.managed_fields = Some(vec![ManagedFieldsEntry {
            manager,
            ..ManagedFieldsEntry::default()
        }]);
        assert_eq!(holder(&metadata, "linkerd"), Holder::Us);
        let another = Holder::ControlPlane("linkerd".to_owned());
        assert_eq!(holder(&metadata, "other"), another);
        metadata.labels = None;
        assert_eq!(holder(&metadata, "linkerd"), Holder::Us);
        metadata.managed_fields = None;
        assert_eq!(holder(&metadata, "linkerd"), Holder::Stranger);
    }

    #[test]
    fn the_owner_is_read_back_from_the_secrets_name() {
        for kind in OwnerKind::ALL {
            for name in ["web", "a.b", "a-deployment", "x-tls-linkerd-io"] {
                let owner = Owner {
                    namespace: "ns".into(),
                    kind,
                    name: name.into(),
                };
                assert_eq!(owner_of("ns", &owner.secret_name()), Some(owner));
            }
        }
        for name in [
            "linkerd-ca-root",
            "web-tls-linkerd-io",
            "web-service-tls-linkerd-io",
            "",
        ] {
            assert_eq!(owner_of("ns", name), None, "{name}");
        }
    }
}
