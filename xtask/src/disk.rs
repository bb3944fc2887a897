//! Room on disks, looked at before the work: a build that fills the last of it ends with an error that
//! names some file, and a node of Kubernetes quietly takes no pods. Entries: [`require`] and [`used`].

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

const GIB: f64 = (1 << 30) as f64;

/// Checks that the disk of `folder`, which need not exist yet, has `needed` bytes free for `what`.
///
/// # Errors
/// When it has less: the error says how much, and what to do.
pub(crate) fn require(what: &str, folder: &Path, needed: u64) -> Result<()> {
    let existing = folder.ancestors().find(|it| it.exists());
    let existing = existing.unwrap_or(Path::new("/"));
    let disk = rustix::fs::statvfs(existing).with_context(|| {
        format!(
            "cannot ask for the room on the disk of {}",
            existing.display()
        )
    })?;
    let free = disk.f_bavail * disk.f_frsize;
    ensure!(
        free >= needed,
        "{what} needs {:.1} GiB in {}, and its disk has {:.1} GiB free: delete what you can spare, such as \
         the target folders of other clones",
        needed as f64 / GIB,
        folder.display(),
        free as f64 / GIB
    );
    Ok(())
}

/// Returns the bytes of the files in `folder`; 0 when there is none. A file that goes while this looks does
/// not count.
pub(crate) fn used(folder: &Path) -> Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        bytes += match entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Ok(metadata) if metadata.is_dir() => used(&entry.path())?,
            metadata => metadata
                .with_context(|| format!("cannot look at {}", entry.path().display()))?
                .len(),
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_told_with_figures() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("not/yet/there");
        require("nothing", &deep, 0).expect("it fits");
        let told = require("all of it", &deep, u64::MAX).expect_err("no disk has as much");
        let told = told.to_string();
        let start = format!(
            "all of it needs 17179869184.0 GiB in {}, and its disk has ",
            deep.display()
        );
        assert!(told.starts_with(&start), "{told}");
    }

    #[test]
    fn the_files_of_a_folder_and_of_those_in_it_count() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("inner")).expect("a folder is made");
        for (name, bytes) in [("one", 3), ("inner/two", 4)] {
            fs::write(folder.path().join(name), vec![0; bytes]).expect("a file is written");
        }
        assert_eq!(used(folder.path()).expect("it can be read"), 7);
        assert_eq!(used(&folder.path().join("none")).expect("that is fine"), 0);
    }
}
