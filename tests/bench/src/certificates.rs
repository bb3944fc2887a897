//! A root, and a key and certificate for each identity, in the forms that data planes read.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use linkerd_issuer::{LEAF_LIFETIME_DEFAULT, Root};
use linkerd_names::Identity;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to write `ca.crt`, `ca.key` and a folder for each identity
    folder: PathBuf,
    /// Folder and identity, such as `client=web.deployment.…`
    #[arg(required = true, value_parser = folder_and_identity)]
    identities: Vec<(String, Identity)>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let Args { folder, identities } = args;
    let root = Root::generate(SystemTime::now())?;
    write(&folder, "ca.crt", root.certificate_pem().as_bytes())?;
    write(&folder, "ca.key", root.private_key_pem().as_bytes())?;
    for (name, identity) in &identities {
        let folder = folder.join(name);
        let issued = root.issue_leaf(identity, LEAF_LIFETIME_DEFAULT, SystemTime::now())?;
        let (leaf, key) = (issued.leaf.as_der(), issued.key.as_pkcs8_der());
        write(&folder, "tls.der", leaf)?;
        write(&folder, "tls.crt", pem("CERTIFICATE", leaf).as_bytes())?;
        write(&folder, "key.p8", key)?;
        write(&folder, "tls.key", pem("PRIVATE KEY", key).as_bytes())?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|start| &text[start..text.len().min(start + 64)])
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

fn folder_and_identity(text: &str) -> Result<(String, Identity), String> {
    let (folder, identity) = text.split_once('=').ok_or("folder=identity is needed")?;
    let identity = identity
        .parse()
        .map_err(|error: linkerd_names::InvalidIdentity| error.to_string())?;
    Ok((folder.to_owned(), identity))
}
