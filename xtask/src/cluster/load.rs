//! Brings images into every node. Entries: [`load`] for those of people, [`import`] for one node,
//! [`tag`] for another name of one that is there.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::layout::{Layout, node_name, word};
use crate::command;

/// The annotation of an image in an OCI archive that holds its full name.
const NAME_ANNOTATION: &str = "io.containerd.image.name";

/// What was done for one archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Loaded {
    /// Nodes that took it; the others had it already.
    pub(super) imported: usize,
}

/// Imports image archives (OCI or Docker) into `nodes` nodes at once; a node that has an image of
/// the same name and digest is left alone. Returns what was done, in the order of `archives`.
pub(super) fn load<P: AsRef<Path> + Sync>(
    layout: &Layout,
    nodes: usize,
    archives: &[P],
) -> Result<Vec<Loaded>> {
    let mut wanted = Vec::new();
    for archive in archives {
        wanted.push(images(archive.as_ref())?);
    }
    let load_node = |number: usize| -> Result<Vec<bool>> {
        let present = present(layout, number)?;
        let mut imported = Vec::new();
        for (archive, images) in archives.iter().zip(&wanted) {
            let skip = !images.is_empty() && images.iter().all(|image| present.contains(image));
            if !skip {
                import(layout, number, archive.as_ref())?;
            }
            imported.push(!skip);
        }
        Ok(imported)
    };
    let results: Vec<Result<Vec<bool>>> = thread::scope(|scope| {
        let threads: Vec<_> = (1..=nodes)
            .map(|number| scope.spawn(move || load_node(number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("loading does not panic"))
            .collect()
    });
    let results = results.into_iter().collect::<Result<Vec<_>>>()?;
    let count = |archive: usize| results.iter().filter(|imported| imported[archive]).count();
    Ok((0..archives.len())
        .map(|archive| Loaded {
            imported: count(archive),
        })
        .collect())
}

/// Imports an image archive into node `number`.
pub(super) fn import(layout: &Layout, number: usize, archive: &Path) -> Result<()> {
    command::output(ctr(layout, number).args(["images", "import"]).arg(archive)).with_context(
        || {
            format!(
                "cannot load {} into {}",
                archive.display(),
                node_name(number)
            )
        },
    )?;
    Ok(())
}

/// Gives an image of the nodes another name as well; it goes from an image that had that name before.
pub(super) fn tag(layout: &Layout, nodes: usize, image: &str, name: &str) -> Result<()> {
    for number in 1..=nodes {
        let mut tag = ctr(layout, number);
        tag.args(["images", "tag", "--force", image, name]);
        command::output(&mut tag)
            .with_context(|| format!("cannot call {image} {name} in {}", node_name(number)))?;
    }
    Ok(())
}

/// The name and digest of an image, as a node knows it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Image {
    name: String,
    digest: String,
}

/// Returns the images that node `number` has.
fn present(layout: &Layout, number: usize) -> Result<HashSet<Image>> {
    let table = command::output(ctr(layout, number).args(["images", "list"]))?;
    Ok(parse_list(&table))
}

/// Reads the table of `ctr images list`: name, media type, digest, and what does not matter here.
fn parse_list(table: &str) -> HashSet<Image> {
    let image = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, digest) = (words.next()?.to_owned(), words.nth(1)?.to_owned());
        digest
            .starts_with("sha256:")
            .then_some(Image { name, digest })
    };
    table.lines().filter_map(image).collect()
}

/// Returns the images of an OCI archive; none for a Docker archive, which does not say the digest
/// that its images will have.
///
/// # Errors
/// When it is no archive of images.
fn images(archive: &Path) -> Result<Vec<Image>> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Manifest>,
    }
    #[derive(Deserialize)]
    struct Manifest {
        digest: String,
        #[serde(default)]
        annotations: std::collections::HashMap<String, String>,
    }
    let file = File::open(archive).with_context(|| format!("cannot open {}", archive.display()))?;
    let context = || format!("{} is no image archive", archive.display());
    let mut is_docker = false;
    for entry in tar::Archive::new(file)
        .entries_with_seek()
        .with_context(context)?
    {
        let entry = entry.with_context(context)?;
        let path = entry.path().with_context(context)?.into_owned();
        if path == Path::new("index.json") {
            let index: Index = serde_json::from_reader(entry).with_context(context)?;
            let image = |mut manifest: Manifest| {
                let name = manifest.annotations.remove(NAME_ANNOTATION)?;
                Some(Image {
                    name,
                    digest: manifest.digest,
                })
            };
            return Ok(index.manifests.into_iter().filter_map(image).collect());
        }
        is_docker |= path == Path::new("manifest.json");
    }
    ensure!(is_docker, "{}", context());
    Ok(Vec::new())
}

fn ctr(layout: &Layout, number: usize) -> Command {
    let mut ctr = Command::new("ctr");
    ctr.args([
        "--address",
        &word(&layout.containerd_socket(number)),
        "--namespace",
        "k8s.io",
    ]);
    ctr
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = tar::Builder::new(file.reopen().unwrap());
        for (name, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            archive
                .append_data(&mut header, name, content.as_bytes())
                .unwrap();
        }
        archive.finish().unwrap();
        file
    }

    #[test]
    fn an_oci_archive_names_its_images() {
        let index = r#"{"schemaVersion": 2, "manifests": [{"digest": "sha256:aa", "size": 1,
            "annotations": {"io.containerd.image.name": "localhost/a:1"}}]}"#;
        let file = archive(&[
            ("oci-layout", "{}"),
            ("index.json", index),
            ("manifest.json", "[]"),
        ]);
        let image = Image {
            name: "localhost/a:1".into(),
            digest: "sha256:aa".into(),
        };
        assert_eq!(images(file.path()).unwrap(), [image]);
    }

    #[test]
    fn a_docker_archive_is_always_imported() {
        let file = archive(&[("config.json", "{}"), ("manifest.json", "[]")]);
        assert_eq!(images(file.path()).unwrap(), []);
    }

    #[test]
    fn what_is_no_archive_of_images_is_refused() {
        let file = archive(&[("README", "words")]);
        let error = images(file.path()).unwrap_err().to_string();
        assert!(error.ends_with(" is no image archive"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "no tar at all, but long enough to be looked at".repeat(99),
        )
        .unwrap();
        assert!(images(file.path()).is_err());
        let error = images(Path::new("/no/such.tar")).unwrap_err().to_string();
        assert_eq!(error, "cannot open /no/such.tar");
    }

    #[test]
    fn reads_what_a_node_lists() {
        let table = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n\
            localhost/a:1 application/x sha256:aa 1.0 MiB linux/amd64 io.cri=managed\n";
        let image = Image {
            name: "localhost/a:1".into(),
            digest: "sha256:aa".into(),
        };
        assert_eq!(parse_list(table), HashSet::from([image]));
    }
}
