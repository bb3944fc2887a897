//! The files of an image, as one tar. Entry: [`Tree::tar`].
//! The same files give the same bytes, whoever packs them and when.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Files by their absolute path in the image. Folders above a file are there of themselves,
/// readable by all and owned by root.
#[derive(Default)]
pub(super) struct Tree(BTreeMap<PathBuf, Node>);

/// Permission bits and owner of a file or folder. User and group have the same number.
#[derive(Clone, Copy)]
pub(super) struct Rights {
    pub(super) mode: u32,
    pub(super) owner: u32,
}

enum Node {
    Folder(Rights),
    File(Rights, Vec<u8>),
    Link(PathBuf),
}

impl Rights {
    /// A program or folder of root.
    pub(super) const EXECUTABLE: Self = Self {
        mode: 0o755,
        owner: 0,
    };
    /// A file of root that all may read.
    pub(super) const READABLE: Self = Self {
        mode: 0o644,
        owner: 0,
    };
}

impl Tree {
    /// Adds a file with this content.
    pub(super) fn file(&mut self, path: impl Into<PathBuf>, rights: Rights, content: Vec<u8>) {
        self.add(path.into(), Node::File(rights, content));
    }

    /// Adds an empty folder.
    pub(super) fn folder(&mut self, path: impl Into<PathBuf>, rights: Rights) {
        self.add(path.into(), Node::Folder(rights));
    }

    /// Adds a program of this machine, at `to`.
    pub(super) fn program(&mut self, from: &Path, to: impl Into<PathBuf>) -> Result<()> {
        self.file(to, Rights::EXECUTABLE, read(from)?);
        Ok(())
    }

    /// Adds a file or symbolic link of this machine, at the same path. Executable stays executable.
    pub(super) fn same(&mut self, path: &Path) -> Result<()> {
        let metadata = fs::symlink_metadata(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if metadata.is_symlink() {
            self.add(path.to_owned(), Node::Link(fs::read_link(path)?));
        } else if metadata.is_file() {
            let executable = metadata.permissions().mode() & 0o111 != 0;
            let rights = if executable {
                Rights::EXECUTABLE
            } else {
                Rights::READABLE
            };
            self.file(path, rights, read(path)?);
        } else {
            bail!("{} is neither a file nor a link", path.display());
        }
        Ok(())
    }

    /// Adds the file that lies behind `path`, at `path`: a library, whose name is often a link.
    pub(super) fn library(&mut self, path: &Path) -> Result<()> {
        self.file(path, Rights::EXECUTABLE, read(path)?);
        Ok(())
    }

    /// How many bytes the files have.
    pub(super) fn len(&self) -> u64 {
        let file = |node: &Node| match node {
            Node::File(_, content) => content.len() as u64,
            Node::Folder(_) | Node::Link(_) => 0,
        };
        self.0.values().map(file).sum()
    }

    /// Packs the files, sorted by path, all of them last changed at `mtime` (seconds since 1970).
    ///
    /// # Errors
    /// When a path is too long for the format.
    pub(super) fn tar(&self, mtime: u64) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, node) in &self.0 {
            let mut header = tar::Header::new_ustar();
            header.set_mtime(mtime);
            header.set_size(0);
            let name = path.strip_prefix("/").unwrap_or(path);
            let packed = match node {
                Node::Folder(rights) => {
                    header.set_entry_type(tar::EntryType::Directory);
                    rights.write(&mut header);
                    archive.append_data(&mut header, name, std::io::empty())
                }
                Node::File(rights, content) => {
                    rights.write(&mut header);
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, name, content.as_slice())
                }
                Node::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    Rights {
                        mode: 0o777,
                        owner: 0,
                    }
                    .write(&mut header);
                    archive.append_link(&mut header, name, target)
                }
            };
            packed.with_context(|| format!("cannot pack {}", path.display()))?;
        }
        archive.into_inner().context("cannot end the archive")
    }

    fn add(&mut self, path: PathBuf, node: Node) {
        let folders = path
            .ancestors()
            .skip(1)
            .filter(|folder| folder.parent().is_some());
        for folder in folders {
            let folder = folder.to_owned();
            self.0
                .entry(folder)
                .or_insert(Node::Folder(Rights::EXECUTABLE));
        }
        self.0.insert(path, node);
    }
}

impl Rights {
    fn write(self, header: &mut tar::Header) {
        header.set_mode(self.mode);
        header.set_uid(self.owner.into());
        header.set_gid(self.owner.into());
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tar: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap();
        entries
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn files_come_sorted_with_their_folders_before_them() {
        let mut tree = Tree::default();
        tree.file("/usr/bin/b", Rights::EXECUTABLE, b"b".to_vec());
        tree.file("/etc/passwd", Rights::READABLE, b"root".to_vec());
        tree.folder(
            "/data",
            Rights {
                mode: 0o700,
                owner: 7,
            },
        );
        assert_eq!(tree.len(), 5);
        let names = names(&tree.tar(0).unwrap());
        assert_eq!(
            names,
            ["data", "etc", "etc/passwd", "usr", "usr/bin", "usr/bin/b"]
        );
    }

    #[test]
    fn the_order_of_adding_does_not_change_the_bytes() {
        let mut one = Tree::default();
        one.file("/a", Rights::READABLE, b"a".to_vec());
        one.file("/b/c", Rights::EXECUTABLE, b"c".to_vec());
        let mut other = Tree::default();
        other.file("/b/c", Rights::EXECUTABLE, b"c".to_vec());
        other.file("/a", Rights::READABLE, b"a".to_vec());
        assert_eq!(one.tar(1).unwrap(), other.tar(1).unwrap());
        assert_ne!(one.tar(1).unwrap(), one.tar(2).unwrap());
    }

    #[test]
    fn mode_owner_and_links_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("target", &link).unwrap();
        let mut tree = Tree::default();
        tree.same(&link).unwrap();
        tree.folder(
            "/data",
            Rights {
                mode: 0o700,
                owner: 65534,
            },
        );
        let tar = tree.tar(5).unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 5);
            match entry.path().unwrap().file_name().unwrap().to_str().unwrap() {
                "link" => {
                    assert_eq!(entry.link_name().unwrap().unwrap(), Path::new("target"));
                }
                "data" => {
                    assert_eq!(header.mode().unwrap(), 0o700);
                    assert_eq!(header.uid().unwrap(), 65534);
                }
                _ => assert_eq!(header.mode().unwrap(), 0o755),
            }
        }
    }
}
