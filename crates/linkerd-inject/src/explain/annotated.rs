//! What annotations of a pod make of its proxy that its owner may not expect. Entry: [`find`]. Most are left over from
//! Linkerd, whose annotations ours have the names of.

use linkerd_names::{VERSION, annotations};

use super::{Finding, findings::degrades, pod::Pod};
use crate::object::unknown_word;

/// Where Linkerd's images come from, the later ones first.
const LINKERDS_IMAGES: [&str; 3] = ["cr.l5d.io/", "ghcr.io/linkerd/", "gcr.io/linkerd-io/"];

/// Finds images that are not ours, and a wish for injection that is no word.
pub(super) fn find(pod: &Pod<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let version = pod.annotation(annotations::PROXY_IMAGE_VERSION);
    if let Some(version) = version.filter(|version| *version != VERSION) {
        findings.push(degrades(
            format!(
                "the annotation {}: {version} makes nodes pull another version than this one, {VERSION}: pods do not \
                 start where the registry has none (ErrImagePull)",
                annotations::PROXY_IMAGE_VERSION
            ),
            "take the annotation off, unless that version is meant".to_owned(),
        ));
    }
    for key in [annotations::PROXY_IMAGE, annotations::INIT_IMAGE] {
        let image = pod.annotation(key).unwrap_or_default();
        if LINKERDS_IMAGES
            .iter()
            .any(|theirs| image.starts_with(theirs))
        {
            findings.push(degrades(
                format!(
                    "the annotation {key} names an image of Linkerd, {image}, which is not ours"
                ),
                "take the annotation off".to_owned(),
            ));
        }
    }
    if let Some(word) = unknown_word(&pod.before["metadata"]) {
        findings.push(degrades(
            format!(
                "{} is {word:?}, which is neither \"enabled\" nor \"disabled\": `linkerd inject` adds the proxy all the same, \
                 and linkerd-injector adds none",
                annotations::INJECT
            ),
            "write one of the two words".to_owned(),
        ));
    }
    findings
}
