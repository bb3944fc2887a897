//! An authority whose certificates lie in folders, as kubelet projects them.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use linkerd_issuer::{IssuedLeaf, Root};

pub struct Authority {
    pub root: Root,
    folder: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        Self {
            root: Root::generate(SystemTime::now()).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A folder with the certificate of the workload `name`.
    pub fn issue(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        project(&folder, &self.root, &self.leaf(name));
        folder
    }

    /// A folder in which nothing is yet.
    pub fn empty(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub fn leaf(&self, name: &str) -> IssuedLeaf {
        self.leaf_for(name, Duration::from_secs(24 * 3600))
    }

    /// A leaf that is valid from now on for `lifetime`, in whole seconds.
    pub fn leaf_for(&self, name: &str, lifetime: Duration) -> IssuedLeaf {
        self.root
            .issue_leaf(&super::identity(name), lifetime, SystemTime::now())
            .unwrap()
    }
}

/// Puts the files into a folder the way kubelet does: a new version, then one rename of `..data`.
pub fn project(folder: &Path, root: &Root, leaf: &IssuedLeaf) {
    // A certificate ends with its signature, which is never the same twice.
    let version = format!(
        "..{}",
        leaf.leaf
            .as_der()
            .iter()
            .rev()
            .take(16)
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    );
    let into = folder.join(&version);
    std::fs::create_dir_all(&into).unwrap();
    std::fs::write(into.join("trust-anchors.pem"), root.trust_bundle().to_pem()).unwrap();
    std::fs::write(into.join("certificate.crt"), leaf.leaf.as_der()).unwrap();
    std::fs::write(into.join("private-key.p8"), leaf.key.as_pkcs8_der()).unwrap();
    let old = std::fs::read_link(folder.join("..data")).ok();
    symlink(&version, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    for file in ["trust-anchors.pem", "certificate.crt", "private-key.p8"] {
        let link = folder.join(file);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(file), link).unwrap();
        }
    }
    if let Some(old) = old.filter(|old| old != Path::new(&version)) {
        std::fs::remove_dir_all(folder.join(old)).unwrap();
    }
}
