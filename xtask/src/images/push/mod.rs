//! Pushes image archives to a registry, by the API of the OCI distribution specification. Entry:
//! [`push`]. Blobs that the registry has already are not sent again.

mod blobs;
mod client;
mod credentials;
mod reference;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::{Method, StatusCode};

use self::blobs::Blobs;
use self::client::{Client, Request};
pub(super) use self::credentials::Credentials;
use self::reference::Reference;
use super::{Image, archive};

/// How long the registry may take for one answer; a blob on a slow line is the longest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// How to reach the registry.
#[derive(Default)]
pub(super) struct Access {
    /// Instead of those in Docker's configuration.
    pub(super) credentials: Option<Credentials>,
    /// http also where the registry is not on this machine.
    pub(super) plain_http: bool,
}

/// What a push sent.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    blobs: usize,
    bytes: usize,
}

/// Pushes the images to the registries in their names.
///
/// # Errors
/// At the first image that the registry does not take; those before it are there.
pub(super) fn push(images: &[Image], access: &Access) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the network runtime")?;
    for Image {
        name,
        archive,
        short: _,
    } in images
    {
        let sent = runtime
            .block_on(push_one(name, &Blobs::read(archive)?, access))
            .with_context(|| format!("cannot push {name}"))?;
        let Sent { blobs, bytes } = sent;
        anstream::eprintln!(
            "{:>8}  {name}: {blobs} blobs sent, {}",
            "pushed",
            super::megabytes(bytes as u64)
        );
    }
    Ok(())
}

async fn push_one(name: &str, blobs: &Blobs, access: &Access) -> Result<Sent> {
    let reference: Reference = name.parse()?;
    let credentials = match &access.credentials {
        Some(credentials) => Some(credentials.clone()),
        None => credentials::configured(&reference.registry)?,
    };
    let plain_http = access.plain_http || reference.is_on_this_machine();
    let scope = format!("repository:{}:pull,push", reference.repository);
    let mut client = Client::new(
        reference.host(),
        plain_http,
        credentials,
        scope,
        ANSWER_TIMEOUT,
    )?;

    let mut sent = Sent { blobs: 0, bytes: 0 };
    for (digest, content) in &blobs.referenced {
        if send_blob(&mut client, &reference.repository, digest, content).await? {
            sent.blobs += 1;
            sent.bytes += content.len();
        }
    }
    let Reference {
        repository, tag, ..
    } = &reference;
    let request = Request::new(Method::PUT, format!("/v2/{repository}/manifests/{tag}"))
        .with_body(archive::MANIFEST, blobs.manifest.clone());
    client
        .send(request)
        .await?
        .expect_status(&[StatusCode::CREATED])?;
    Ok(sent)
}

/// Sends a blob unless it is there. True when it was sent.
async fn send_blob(
    client: &mut Client,
    repository: &str,
    digest: &str,
    content: &bytes::Bytes,
) -> Result<bool> {
    let look = Request::new(Method::HEAD, format!("/v2/{repository}/blobs/{digest}"));
    let answer = client.send(look).await?;
    match answer.status {
        StatusCode::OK => return Ok(false),
        StatusCode::NOT_FOUND => {}
        _ => return Err(answer.unexpected()),
    }
    let start = Request::new(Method::POST, format!("/v2/{repository}/blobs/uploads/"))
        .with_body("application/octet-stream", bytes::Bytes::new());
    let answer = client
        .send(start)
        .await?
        .expect_status(&[StatusCode::ACCEPTED])?;
    let Some(location) = answer.location else {
        bail!("the registry named no place for a blob")
    };
    // The place may have a query of its own, which has to stay.
    let separator = if location.contains('?') { '&' } else { '?' };
    let finish = Request::new(Method::PUT, format!("{location}{separator}digest={digest}"))
        .with_body("application/octet-stream", content.clone());
    client
        .send(finish)
        .await?
        .expect_status(&[StatusCode::CREATED])?;
    Ok(true)
}

#[cfg(test)]
mod tests;
