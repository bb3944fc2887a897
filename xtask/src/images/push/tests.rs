//! Pushes against a registry within the test, which is as strict as real ones.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request as HttpRequest, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::archive::Archive;
use super::*;

/// How the registry finds out who pushes.
#[derive(Clone, Copy, PartialEq)]
enum Asks {
    Nothing,
    Basic,
    /// For a token, which it gives to those who know the password.
    Bearer,
}

/// `me:secret`.
const BASIC: &str = "Basic bWU6c2VjcmV0";

#[derive(Default)]
struct Content {
    blobs: BTreeMap<String, Bytes>,
    manifests: BTreeMap<String, Bytes>,
    uploads: usize,
}

struct Registry {
    host: String,
    content: Arc<Mutex<Content>>,
}

impl Registry {
    async fn start(asks: Asks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let content = Arc::new(Mutex::new(Content::default()));
        let registry = Self {
            host: host.clone(),
            content: content.clone(),
        };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (host, content) = (host.clone(), content.clone());
                let service =
                    service_fn(move |request| answer(request, asks, host.clone(), content.clone()));
                let serve = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serve);
            }
        });
        registry
    }

    fn name(&self, image: &str) -> String {
        format!("{}/linkerd/{image}", self.host)
    }
}

async fn answer(
    request: HttpRequest<Incoming>,
    asks: Asks,
    host: String,
    content: Arc<Mutex<Content>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let who = parts
        .headers
        .get(header::AUTHORIZATION)
        .map(|value| value.to_str().unwrap());
    let query = parts.uri.query().unwrap_or_default();
    let path = parts.uri.path();

    if path == "/token" {
        assert_eq!(query, "scope=repository:linkerd/a:pull,push&service=test");
        let token = json!({ "token": "t0k3n" }).to_string();
        return Ok(match who {
            Some(BASIC) => Response::new(Full::from(token)),
            _ => status(StatusCode::FORBIDDEN, "no such user"),
        });
    }
    let (known, challenge) = match asks {
        Asks::Nothing => (true, String::new()),
        Asks::Basic => (who == Some(BASIC), "Basic realm=\"test\"".to_owned()),
        Asks::Bearer => (
            who == Some("Bearer t0k3n"),
            format!("Bearer realm=\"http://{host}/token\",service=\"test\""),
        ),
    };
    if !known {
        let mut refusal = status(StatusCode::UNAUTHORIZED, "who are you?");
        refusal
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        return Ok(refusal);
    }
    let mut content = content.lock().unwrap();
    let Some(path) = path.strip_prefix("/v2/linkerd/a/") else {
        return Ok(status(StatusCode::NOT_FOUND, "no such repository"));
    };
    Ok(
        match (
            &parts.method,
            path.split('/').collect::<Vec<_>>().as_slice(),
        ) {
            (&Method::HEAD, ["blobs", digest]) if content.blobs.contains_key(*digest) => {
                status(StatusCode::OK, "")
            }
            (&Method::HEAD, ["blobs", _]) => status(StatusCode::NOT_FOUND, ""),
            (&Method::POST, ["blobs", "uploads", ""]) => {
                let mut accepted = status(StatusCode::ACCEPTED, "");
                let place = "/v2/linkerd/a/blobs/uploads/7?state=x";
                accepted
                    .headers_mut()
                    .insert(header::LOCATION, place.parse().unwrap());
                accepted
            }
            (&Method::PUT, ["blobs", "uploads", "7"]) => {
                match query.strip_prefix("state=x&digest=") {
                    Some(digest) if digest == archive::digest(&body) => {
                        content.uploads += 1;
                        content.blobs.insert(digest.to_owned(), body);
                        status(StatusCode::CREATED, "")
                    }
                    _ => status(StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
                }
            }
            (&Method::PUT, ["manifests", tag]) => {
                let manifest: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(
                    parts.headers[header::CONTENT_TYPE],
                    manifest["mediaType"].as_str().unwrap()
                );
                let layers = manifest["layers"].as_array().unwrap();
                let named = layers.iter().chain([&manifest["config"]]);
                let missing = named.filter(|named| {
                    let blob = content.blobs.get(named["digest"].as_str().unwrap());
                    blob.is_none_or(|blob| named["size"] != blob.len())
                });
                if missing.count() > 0 {
                    status(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN")
                } else {
                    content.manifests.insert((*tag).to_owned(), body);
                    status(StatusCode::CREATED, "")
                }
            }
            _ => status(StatusCode::METHOD_NOT_ALLOWED, "unexpected"),
        },
    )
}

fn status(status: StatusCode, words: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(words));
    *response.status_mut() = status;
    response
}

/// An image with this name, read back from its archive.
fn image(name: &str, files: &[u8]) -> Blobs {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let config = json!({ "Entrypoint": ["/a"] });
    let archive = Archive {
        name,
        config,
        files,
        time: 0,
        created: "1970-01-01T00:00:00Z",
    };
    archive.write(&path).unwrap();
    Blobs::read(&path).unwrap()
}

fn access(password: Option<&str>) -> Access {
    let credentials = password.map(|password| Credentials {
        username: "me".into(),
        password: password.to_owned(),
    });
    Access {
        credentials,
        plain_http: false,
    }
}

#[tokio::test]
async fn the_manifest_names_blobs_that_are_there() {
    let registry = Registry::start(Asks::Nothing).await;
    let name = registry.name("a:1.0");
    let blobs = image(&name, b"files");
    let sent = push_one(&name, &blobs, &access(None)).await.unwrap();
    assert_eq!(sent.blobs, 2);

    let content = registry.content.lock().unwrap();
    assert_eq!(content.manifests["1.0"], blobs.manifest);
    for (digest, blob) in &blobs.referenced {
        assert_eq!(content.blobs[digest], blob);
    }
}

#[tokio::test]
async fn what_is_there_is_not_sent_again() {
    let registry = Registry::start(Asks::Nothing).await;
    let name = registry.name("a:1.0");
    push_one(&name, &image(&name, b"one"), &access(None))
        .await
        .unwrap();
    let sent = push_one(&name, &image(&name, b"one"), &access(None))
        .await
        .unwrap();
    assert_eq!(sent, Sent { blobs: 0, bytes: 0 });
    let sent = push_one(&name, &image(&name, b"two"), &access(None))
        .await
        .unwrap();
    assert_eq!(sent.blobs, 2);
    assert_eq!(registry.content.lock().unwrap().uploads, 4);
}

#[tokio::test]
async fn passwords_and_tokens_open_the_registry() {
    for asks in [Asks::Basic, Asks::Bearer] {
        let registry = Registry::start(asks).await;
        let name = registry.name("a:1.0");
        push_one(&name, &image(&name, b"files"), &access(Some("secret")))
            .await
            .unwrap();
        assert_eq!(registry.content.lock().unwrap().manifests.len(), 1);
    }
}

#[tokio::test]
async fn a_wrong_password_is_an_error_without_the_password() {
    for (asks, words) in [
        (Asks::Basic, "401 Unauthorized"),
        (Asks::Bearer, "no such user"),
    ] {
        let registry = Registry::start(asks).await;
        let name = registry.name("a:1.0");
        let pushed = push_one(&name, &image(&name, b"files"), &access(Some("wr0ng"))).await;
        let error = format!("{:#}", pushed.unwrap_err());
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("wr0ng"), "{error}");
        assert!(registry.content.lock().unwrap().blobs.is_empty());
    }
}

#[tokio::test]
async fn the_words_of_a_refusing_registry_are_in_the_error() {
    let registry = Registry::start(Asks::Nothing).await;
    let name = registry.name("b:1.0");
    let pushed = push_one(&name, &image(&name, b"files"), &access(None)).await;
    let error = format!("{:#}", pushed.unwrap_err());
    assert!(
        error.contains("404 Not Found") && error.contains("/v2/linkerd/b/"),
        "{error}"
    );
}

#[tokio::test]
async fn no_registry_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = format!("{}/linkerd/a:1.0", listener.local_addr().unwrap());
    drop(listener);
    let pushed = push_one(&name, &image(&name, b"files"), &access(None)).await;
    let error = format!("{:#}", pushed.unwrap_err());
    assert!(error.contains("Connection refused"), "{error}");
}

#[test]
fn a_damaged_archive_is_not_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let config = json!({});
    let name = "localhost/a:1";
    let archive = Archive {
        name,
        config,
        files: b"f",
        time: 0,
        created: "1970-01-01T00:00:00Z",
    };
    archive.write(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes
        .windows(14)
        .position(|window| window == b"\"architecture\"")
        .unwrap();
    bytes[at + 1] = b'A';
    std::fs::write(&path, bytes).unwrap();
    let error = format!("{:#}", Blobs::read(&path).unwrap_err());
    assert!(error.contains("is damaged"), "{error}");
}
