//! What of an archive goes to a registry: the manifest, and the blobs that it names. Entry:
//! [`Blobs::read`]. Every digest is checked: a damaged archive is not pushed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::Deserialize;

use super::archive;

/// An image, ready to be sent.
#[derive(Debug)]
pub(super) struct Blobs {
    pub(super) manifest: Bytes,
    /// Digest and content of what the manifest names.
    pub(super) referenced: Vec<(String, Bytes)>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

impl Blobs {
    /// Reads the one image in the archive at `path`.
    ///
    /// # Errors
    /// When the archive is not one of ours, or a blob is missing or not what its digest says.
    pub(super) fn read(path: &Path) -> Result<Self> {
        Self::from_archive(path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn from_archive(path: &Path) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for entry in tar::Archive::new(File::open(path)?).entries()? {
            let mut entry = entry?;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            entries.insert(entry.path()?.display().to_string(), Bytes::from(content));
        }
        let index = entries.get("index.json").context("it has no index.json")?;
        let Index { manifests } = serde_json::from_slice(index).context("index.json")?;
        ensure!(
            manifests.len() == 1,
            "it has {} images instead of one",
            manifests.len()
        );
        let (_, manifest) = blob(&entries, &manifests[0])?;
        let Manifest { config, layers } = serde_json::from_slice(&manifest).context("manifest")?;
        let referenced = layers.iter().chain([&config]);
        let referenced = referenced
            .map(|descriptor| blob(&entries, descriptor))
            .collect::<Result<_>>()?;
        Ok(Self {
            manifest,
            referenced,
        })
    }
}

fn blob(entries: &BTreeMap<String, Bytes>, descriptor: &Descriptor) -> Result<(String, Bytes)> {
    let digest = &descriptor.digest;
    let content = entries
        .get(&archive::blob_path(digest))
        .with_context(|| format!("the blob {digest} is missing"))?;
    ensure!(
        archive::digest(content) == *digest,
        "the blob {digest} is damaged"
    );
    Ok((digest.clone(), content.clone()))
}
