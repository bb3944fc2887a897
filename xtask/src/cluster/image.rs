//! An image around one static binary of ours. Entry: [`write`].

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Writes an archive with the one image `name`, which runs `binary`.
pub(super) fn write(name: &str, binary: &Path, archive: &Path) -> Result<()> {
    let program = binary
        .file_name()
        .context("a binary has a name")?
        .to_string_lossy();
    let content = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, &program, 0o755, &content)?;
    let layer = layer.into_inner()?;
    let layer_name = "layer.tar";
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": [format!("/{program}")], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{:x}", Sha256::digest(&layer))]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": [layer_name]}]);
    let file =
        File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
    let mut image = tar::Builder::new(file);
    append(
        &mut image,
        "config.json",
        0o644,
        config.to_string().as_bytes(),
    )?;
    append(&mut image, layer_name, 0o644, &layer)?;
    append(
        &mut image,
        "manifest.json",
        0o644,
        manifest.to_string().as_bytes(),
    )?;
    image.finish().context("cannot end the image archive")
}

fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    mode: u32,
    content: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    archive
        .append_data(&mut header, name, content)
        .with_context(|| format!("cannot pack {name}"))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
