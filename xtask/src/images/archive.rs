//! One image as an archive that containerd, Docker, podman and registries understand. Entry:
//! [`Archive::write`]. It has both tables of contents, OCI's and Docker's, over the same blobs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Media types of the OCI image specification.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Raise it when this module packs the same files differently.
const FORMAT: u32 = 1;

/// An image that is not packed yet.
pub(super) struct Archive<'a> {
    /// Full name, with the tag.
    pub(super) name: &'a str,
    /// What the container runtime needs: entrypoint, user, environment, labels.
    pub(super) config: Value,
    /// All files, as an uncompressed tar.
    pub(super) files: &'a [u8],
    /// Seconds since 1970 for everything that has a time.
    pub(super) time: u64,
    /// The same moment in the words of RFC 3339.
    pub(super) created: &'a str,
}

/// Whether an archive had to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It was there, for the same inputs.
    Kept,
    /// It is new.
    New,
}

impl Archive<'_> {
    /// Writes the archive to `path`, unless one for the same inputs is there.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<Written> {
        let config = self.image_config().to_string().into_bytes();
        let inputs = format!("{FORMAT} {} {} {}\n", self.name, self.time, digest(&config));
        let note = note_beside(path);
        if path.exists() && fs::read_to_string(&note).is_ok_and(|known| known == inputs) {
            return Ok(Written::Kept);
        }
        let unfinished = path.with_extension("unfinished");
        write(&unfinished, &self.pack(config)?)?;
        fs::rename(&unfinished, path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        write(&note, inputs.as_bytes())?;
        Ok(Written::New)
    }

    fn pack(&self, config: Vec<u8>) -> Result<Vec<u8>> {
        let layer = gzip(self.files)?;
        let layer_descriptor = descriptor(LAYER, &layer);
        let config_descriptor = descriptor(CONFIG, &config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config_descriptor,
            "layers": [layer_descriptor],
        })
        .to_string()
        .into_bytes();
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        let mut in_index = descriptor(MANIFEST, &manifest);
        in_index["platform"] = json!({ "architecture": architecture(), "os": "linux" });
        in_index["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [in_index] });
        let docker = json!([{
            "Config": blob_path(&digest(&config)),
            "RepoTags": [self.name],
            "Layers": [blob_path(&digest(&layer))],
        }]);

        let mut entries = BTreeMap::new();
        for blob in [layer, config, manifest] {
            entries.insert(blob_path(&digest(&blob)), blob);
        }
        for (name, content) in [("index.json", index), ("manifest.json", docker)] {
            entries.insert(name.to_owned(), content.to_string().into_bytes());
        }
        let layout = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
        entries.insert("oci-layout".to_owned(), layout.into_bytes());
        self.tar(&entries)
    }

    fn image_config(&self) -> Value {
        json!({
            "created": self.created,
            "architecture": architecture(),
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": [digest(self.files)] },
            "history": [{ "created": self.created, "created_by": "cargo xtask images" }],
        })
    }

    fn tar(&self, entries: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_mtime(self.time);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(content.len() as u64);
            archive
                .append_data(&mut header, name, content.as_slice())
                .with_context(|| format!("cannot pack {name}"))?;
        }
        archive.into_inner().context("cannot end the archive")
    }
}

/// Returns `sha256:` and the hash of `content`, as image formats write it.
pub(super) fn digest(content: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(content))
}

/// Returns where an archive keeps the blob with this digest.
pub(super) fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

/// The name by which image formats know this machine's processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    // No file name and no time in the header: they would differ from build to build.
    let mut packed = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::default());
    packed.write_all(content).context("cannot compress")?;
    packed.finish().context("cannot compress")
}

/// The file that says from which inputs an archive was made.
fn note_beside(path: &Path) -> PathBuf {
    path.with_extension("inputs")
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn archive<'a>(name: &'a str, files: &'a [u8]) -> Archive<'a> {
        let config = json!({ "Entrypoint": ["/app"], "User": "2102:2102" });
        Archive {
            name,
            config,
            files,
            time: 0,
            created: "1970-01-01T00:00:00Z",
        }
    }

    fn unpack(path: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
        let mut entries = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            entries.insert(entry.path().unwrap().display().to_string(), content);
        }
        entries
    }

    fn json_at(entries: &BTreeMap<String, Vec<u8>>, path: &str) -> Value {
        serde_json::from_slice(&entries[path]).unwrap()
    }

    #[test]
    fn both_tables_of_contents_lead_to_the_same_blobs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        archive("localhost/linkerd/a:1.0", b"files")
            .write(&path)
            .unwrap();
        let entries = unpack(&path);

        for (name, content) in entries
            .iter()
            .filter(|(name, _)| name.starts_with("blobs/"))
        {
            assert_eq!(*name, blob_path(&digest(content)));
        }
        let in_index = &json_at(&entries, "index.json")["manifests"][0];
        let annotations = &in_index["annotations"];
        assert_eq!(
            annotations["io.containerd.image.name"],
            "localhost/linkerd/a:1.0"
        );
        assert_eq!(annotations["org.opencontainers.image.ref.name"], "1.0");
        let blob = |value: &Value| blob_path(value["digest"].as_str().unwrap());
        let manifest = json_at(&entries, &blob(in_index));
        let docker = &json_at(&entries, "manifest.json")[0];
        assert_eq!(docker["RepoTags"][0], "localhost/linkerd/a:1.0");
        assert_eq!(docker["Config"], blob(&manifest["config"]));
        assert_eq!(docker["Layers"][0], blob(&manifest["layers"][0]));

        let config = json_at(&entries, &blob(&manifest["config"]));
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(b"files"));
        assert_eq!(config["config"]["User"], "2102:2102");
        let mut layer = Vec::new();
        flate2::read::GzDecoder::new(entries[&blob(&manifest["layers"][0])].as_slice())
            .read_to_end(&mut layer)
            .unwrap();
        assert_eq!(layer, b"files");
    }

    #[test]
    fn an_archive_is_written_again_only_for_other_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        assert_eq!(archive("a:1", b"one").write(&path).unwrap(), Written::New);
        let first = fs::read(&path).unwrap();
        assert_eq!(archive("a:1", b"one").write(&path).unwrap(), Written::Kept);
        assert_eq!(archive("a:2", b"one").write(&path).unwrap(), Written::New);
        assert_eq!(archive("a:1", b"two").write(&path).unwrap(), Written::New);
        assert_eq!(archive("a:1", b"one").write(&path).unwrap(), Written::New);
        assert_eq!(fs::read(&path).unwrap(), first);
        fs::remove_file(&path).unwrap();
        assert_eq!(archive("a:1", b"one").write(&path).unwrap(), Written::New);
    }
}
