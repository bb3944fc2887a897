//! Requests to one registry, with its ways to ask who we are. Entry: [`Client::send`].

use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;

use super::credentials::Credentials;

/// Answers are short words, an error or a token.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A connection to a registry, for one repository.
pub(super) struct Client {
    http: HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Scheme and host.
    origin: String,
    credentials: Option<Credentials>,
    /// What a token is asked for.
    scope: String,
    /// The header `Authorization` that the registry took last.
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

/// A request that can be sent twice: the first answer may be the question who we are.
#[derive(Clone)]
pub(super) struct Request {
    method: Method,
    /// A path of the registry, or the absolute address that it gave us.
    target: String,
    body: Option<(&'static str, Bytes)>,
}

/// What the registry said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The header `Location`.
    pub(super) location: Option<String>,
    challenge: Option<String>,
    what: String,
    body: Bytes,
}

/// How the registry wants to know who we are.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

impl Request {
    pub(super) fn new(method: Method, target: String) -> Self {
        Self {
            method,
            target,
            body: None,
        }
    }

    pub(super) fn with_body(self, media_type: &'static str, body: Bytes) -> Self {
        Self {
            body: Some((media_type, body)),
            ..self
        }
    }
}

impl Client {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// When this machine has no certificates of public authorities, and they are needed.
    pub(super) fn new(
        host: &str,
        plain_http: bool,
        credentials: Option<Credentials>,
        scope: String,
        timeout: Duration,
    ) -> Result<Self> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let builder = HttpsConnectorBuilder::new();
        let connector = if plain_http {
            let empty = rustls::ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            builder
                .with_tls_config(empty)
                .https_or_http()
                .enable_http1()
                .build()
        } else {
            let builder = builder
                .with_provider_and_native_roots(provider)
                .context("cannot read this machine's certificates of authorities")?;
            builder.https_only().enable_http1().build()
        };
        let scheme = if plain_http { "http" } else { "https" };
        Ok(Self {
            http: HttpClient::builder(TokioExecutor::new()).build(connector),
            origin: format!("{scheme}://{host}"),
            credentials,
            scope,
            authorization: None,
            timeout,
        })
    }

    /// Sends a request, and once more with credentials when the registry asks for them.
    ///
    /// # Errors
    /// When the registry cannot be reached, does not answer in time, or wants to know who we are
    /// and we do not.
    pub(super) async fn send(&mut self, request: Request) -> Result<Answer> {
        // A place for a blob may be on another host, which has no business with our token.
        let ours = request.target.starts_with('/') || request.target.starts_with(&self.origin);
        let authorization = self.authorization.clone().filter(|_| ours);
        let answer = self.send_once(&request, authorization).await?;
        if !ours || answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let Some(challenge) = answer.challenge.as_deref().and_then(Challenge::parse) else {
            return Err(answer.unexpected());
        };
        let authorization = self
            .authorize(challenge)
            .await
            .context(answer.unexpected())?;
        self.authorization = Some(authorization.clone());
        self.send_once(&request, Some(authorization)).await
    }

    async fn authorize(&self, challenge: Challenge) -> Result<HeaderValue> {
        let basic = self.credentials.as_ref().map(Credentials::basic);
        let value = match challenge {
            Challenge::Basic => basic.context("no username and password are known for it")?,
            Challenge::Bearer { realm, service } => {
                let mut target = format!("{realm}?scope={}", self.scope);
                if let Some(service) = service {
                    target.push_str(&format!("&service={}", escape(&service)));
                }
                let request = Request::new(Method::GET, target);
                let basic = basic.map(HeaderValue::try_from).transpose()?;
                let answer = self.send_once(&request, basic).await?;
                let answer = answer.expect_status(&[StatusCode::OK])?;
                let Token { token } =
                    serde_json::from_slice(&answer.body).context("its answer has no token")?;
                format!("Bearer {token}")
            }
        };
        let mut value = HeaderValue::try_from(value).context("a token that fits no header")?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn send_once(&self, request: &Request, who: Option<HeaderValue>) -> Result<Answer> {
        let Request {
            method,
            target,
            body,
        } = request;
        let address = match target.starts_with('/') {
            true => format!("{}{target}", self.origin),
            false => target.clone(),
        };
        let what = format!("{method} {address}");
        let uri: Uri = address
            .parse()
            .with_context(|| format!("no address: {address}"))?;
        // Our password goes to nobody who cannot prove who he is.
        if self.origin.starts_with("https:") && uri.scheme_str() != Some("https") {
            bail!("the registry sends us to {address}, which is not https");
        }
        let mut message = http::Request::builder().method(method).uri(uri);
        if let Some(who) = who {
            message = message.header(header::AUTHORIZATION, who);
        }
        if let Some((media_type, _)) = body {
            message = message.header(header::CONTENT_TYPE, *media_type);
        }
        let body = body
            .as_ref()
            .map(|(_, body)| body.clone())
            .unwrap_or_default();
        let message = message.body(Full::new(body))?;
        let answer = async {
            let (parts, body) = self.http.request(message).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow!(error))?.to_bytes();
            Ok::<_, Error>((parts, body))
        };
        let (parts, body) = tokio::time::timeout(self.timeout, answer)
            .await
            .with_context(|| format!("no answer in {} s: {what}", self.timeout.as_secs()))?
            .with_context(|| what.clone())?;
        let text = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        Ok(Answer {
            status: parts.status,
            location: text(header::LOCATION),
            challenge: text(header::WWW_AUTHENTICATE),
            what,
            body,
        })
    }
}

impl Answer {
    /// Returns the answer when its status is one of these.
    pub(super) fn expect_status(self, expected: &[StatusCode]) -> Result<Self> {
        if expected.contains(&self.status) {
            Ok(self)
        } else {
            Err(self.unexpected())
        }
    }

    /// Returns the error for an answer that does not help, with the registry's own words.
    pub(super) fn unexpected(&self) -> Error {
        let words = String::from_utf8_lossy(&self.body);
        let words = words.trim();
        let separator = if words.is_empty() { "" } else { ": " };
        anyhow!(
            "the registry answered {} to {}{separator}{words}",
            self.status,
            self.what
        )
    }
}

impl Challenge {
    /// Reads a header such as `Bearer realm="https://auth.io/token",service="registry.io"`.
    fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameter = |name: &str| {
            let start = rest.find(&format!("{name}=\""))? + name.len() + 2;
            rest[start..].split('"').next().map(str::to_owned)
        };
        Some(Self::Bearer {
            realm: parameter("realm")?,
            service: parameter("service"),
        })
    }
}

/// The text as part of a query.
fn escape(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = Challenge::Bearer {
            realm: "https://auth.io/token".into(),
            service: Some("Docker registry".into()),
        };
        for (header, challenge) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://auth.io/token\",service=\"Docker registry\",scope=\"a:b\"",
                Some(bearer),
            ),
            ("Bearer service=\"x\"", None),
            ("Negotiate", None),
        ] {
            assert_eq!(Challenge::parse(header), challenge, "{header}");
        }
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escape("Docker registry/1"), "Docker%20registry%2F1");
    }
}
