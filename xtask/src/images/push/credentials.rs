//! Who we are to a registry: from flags, or from the file that `docker login` writes. Entry:
//! [`configured`].

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A name and a password or token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::images) struct Credentials {
    pub(in crate::images) username: String,
    pub(in crate::images) password: String,
}

/// Docker's `config.json`, as far as we look at it.
#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    auth: Option<String>,
}

impl Credentials {
    /// Returns the value of the header `Authorization`.
    pub(super) fn basic(&self) -> String {
        format!(
            "Basic {}",
            STANDARD.encode(format!("{}:{}", self.username, self.password))
        )
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Returns what `docker login` has kept for the registry, if anything.
///
/// # Errors
/// When the file is damaged, or keeps the password in a program of its own.
pub(super) fn configured(registry: &str) -> Result<Option<Credentials>> {
    let folder = match std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => match std::env::home_dir() {
            Some(home) => home.join(".docker"),
            None => return Ok(None),
        },
    };
    let path = folder.join("config.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    in_config(&text, registry).with_context(|| format!("in {}", path.display()))
}

fn in_config(text: &str, registry: &str) -> Result<Option<Credentials>> {
    let Config {
        auths,
        store,
        helpers,
    } = serde_json::from_str(text).context("not a configuration of Docker")?;
    // Docker Hub has kept the name that it had first.
    let key = if registry == "docker.io" {
        "https://index.docker.io/v1/"
    } else {
        registry
    };
    let with_scheme = format!("https://{registry}");
    let entry = auths.get(key).or_else(|| auths.get(&with_scheme));
    if let Some(auth) = entry.and_then(|entry| entry.auth.as_deref()) {
        return decode(auth).map(Some);
    }
    match helpers
        .get(key)
        .or(store.as_ref().filter(|_| entry.is_some()))
    {
        Some(helper) => bail!(
            "the password for {registry} is kept by docker-credential-{helper}, which is not asked; \
             give --username and --password-stdin"
        ),
        None => Ok(None),
    }
}

fn decode(auth: &str) -> Result<Credentials> {
    let bytes = STANDARD.decode(auth).context("its auth is not base64")?;
    let text = String::from_utf8(bytes).context("its auth is not text")?;
    let (username, password) = text.split_once(':').context("its auth has no password")?;
    Ok(Credentials {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
        "auths": {
            "ghcr.io": {"auth": "bWU6c2VjcmV0OndpdGggY29sb24="},
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "quay.io": {},
            "broken.io": {"auth": "bm8gY29sb24="}
        },
        "credsStore": "desktop",
        "credHelpers": {"gcr.io": "gcloud"}
    }"#;

    #[test]
    fn passwords_of_docker_login_are_found() {
        let found = in_config(CONFIG, "ghcr.io").unwrap().unwrap();
        let (username, password) = (found.username.as_str(), found.password.as_str());
        assert_eq!((username, password), ("me", "secret:with colon"));
        assert_eq!(
            in_config(CONFIG, "docker.io").unwrap().unwrap().username,
            "hub"
        );
        assert_eq!(in_config(CONFIG, "localhost:5000").unwrap(), None);
        assert_eq!(in_config("{}", "ghcr.io").unwrap(), None);
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        for (registry, message) in [
            ("quay.io", "docker-credential-desktop"),
            ("gcr.io", "docker-credential-gcloud"),
            ("broken.io", "no password"),
        ] {
            let error = in_config(CONFIG, registry).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert!(in_config("[", "ghcr.io").is_err());
    }

    #[test]
    fn a_password_is_not_printed() {
        let credentials = Credentials {
            username: "me".into(),
            password: "secret".into(),
        };
        assert_eq!(format!("{credentials:?}"), "<redacted>");
        assert_eq!(credentials.basic(), "Basic bWU6c2VjcmV0");
    }
}
