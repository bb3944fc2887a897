//! Reads the credentials' files. Certificate and key come through one resolution of the volume's
//! `..data` link, so that a rotation by kubelet is never seen half-done.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::config::TlsFiles;

/// A bundle of a hundred roots has less.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// The folder may be swapped while we read; after so many swaps the next poll tries again.
const ATTEMPTS: usize = 3;
/// The link that kubelet swaps.
const DATA_LINK: &str = "..data";

/// What was read. `Debug` shows no bytes of the key; they are wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) trust_anchors: Vec<u8>,
    pub(super) certificate: Vec<u8>,
    pub(super) private_key: Zeroizing<Vec<u8>>,
}

/// A file cannot be read.
#[derive(Debug)]
pub(crate) struct ReadError {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

/// Reads all three files.
///
/// # Errors
/// The first file that could not be read, that is too large, or that vanished again and again.
pub(super) fn read(files: &TlsFiles) -> Result<Contents, ReadError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match read_once(files) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {}
            result => return result,
        }
    }
}

fn read_once(files: &TlsFiles) -> Result<Contents, ReadError> {
    let trust_anchors = read_file(&files.trust_anchors)?;
    let folder = files.certificate.parent();
    let version = folder.and_then(|folder| std::fs::canonicalize(folder.join(DATA_LINK)).ok());
    let within = |path: &Path| match (&version, path.file_name()) {
        (Some(version), Some(name)) if path.parent() == folder => version.join(name),
        _ => path.to_owned(),
    };
    let certificate = read_file(&within(&files.certificate))?;
    let private_key = Zeroizing::new(read_file(&within(&files.private_key))?);
    Ok(Contents {
        trust_anchors,
        certificate,
        private_key,
    })
}

/// Reads one file.
///
/// # Errors
/// It cannot be read, or is too large.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, ReadError> {
    let fail = |source| ReadError {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(fail)?;
    // Large enough from the start: a buffer that grows would leave copies of the key behind.
    let mut bytes = Vec::with_capacity(8 * 1024);
    let n = file
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if n as u64 > FILE_BYTES_MAX {
        let message = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(fail(io::Error::new(io::ErrorKind::FileTooLarge, message)));
    }
    Ok(bytes)
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents")
            .field("private_key", &"<redacted>")
            .finish_non_exhaustive()
    }
}
