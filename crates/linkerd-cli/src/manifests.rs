//! Reads the manifests that a command line names: stdin, files and folders.
//! Entry: [`read`].

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use linkerd_inject::Source;
use thiserror::Error;

/// Why the manifests cannot be read.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    #[error(
        "{url}: URLs are not read; download it yourself and pipe it: \
         curl -sSfL {url} | linkerd {command} -"
    )]
    Url { url: String, command: &'static str },
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {path}: it is not text in UTF-8")]
    NotText { path: String },
}

/// Reads all of `paths`: `-` is stdin, a folder stands for every file in it and below it, in the
/// order of their names. `command` is who asks, for the error message.
///
/// # Errors
/// [`ReadError`] with the first path that cannot be read.
pub(crate) fn read(paths: &[PathBuf], command: &'static str) -> Result<Vec<Source>, ReadError> {
    let mut sources = Vec::new();
    for path in paths {
        let text = path.to_string_lossy();
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(ReadError::Url {
                url: text.into_owned(),
                command,
            });
        }
        if text == "-" {
            let name = "stdin".to_owned();
            let text = io::read_to_string(io::stdin()).map_err(|error| unreadable(&name, error))?;
            sources.push(Source { name, text });
        } else {
            read_path(path, &mut sources)?;
        }
    }
    Ok(sources)
}

fn read_path(path: &Path, sources: &mut Vec<Source>) -> Result<(), ReadError> {
    let name = path.display().to_string();
    if fs::metadata(path)
        .map_err(|error| unreadable(&name, error))?
        .is_dir()
    {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut paths: Vec<PathBuf> = entries
            .map_err(|error| unreadable(&name, error))?
            .into_iter()
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        // A pipe or a socket in a folder would never end.
        paths.retain(|path| path.is_file() || path.is_dir() || !path.exists());
        return paths.iter().try_for_each(|path| read_path(path, sources));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(&name, error))?;
    sources.push(Source { name, text });
    Ok(())
}

fn unreadable(path: &str, source: io::Error) -> ReadError {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::InvalidData {
        return ReadError::NotText { path };
    }
    ReadError::Read { path, source }
}
