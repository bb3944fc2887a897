//! An HTTP/1.1 client with a bound on everything. Entry: [`HttpClient::get`].

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// Largest body that is read; the largest page of ours has a few KiB, a proxy's metrics some hundred.
const BODY_BYTES_MAX: usize = 8 << 20;

/// Whether requests share connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// A connection is kept for the next request.
    Kept,
    /// Each request has its own.
    Fresh,
}

/// A client; clones share its connections.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpConnector, Empty<Bytes>>,
    timeout: Duration,
}

impl HttpClient {
    /// Makes a client whose requests take at most `timeout`, connecting included.
    pub fn new(timeout: Duration, connections: Connections) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.set_host(false);
        if connections == Connections::Fresh {
            builder.pool_max_idle_per_host(0);
        }
        Self {
            client: builder.build(connector),
            timeout,
        }
    }

    /// Fetches `uri`. The `Host` header is the URI's authority as written, with its port.
    ///
    /// # Errors
    /// When no complete answer came in time.
    pub async fn get(
        &self,
        uri: &Uri,
        headers: &[(HeaderName, HeaderValue)],
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let authority = uri
            .authority()
            .with_context(|| format!("{uri} names no host"))?
            .as_str();
        let mut request = Request::get(uri).header(HOST, authority);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::new())?;
        let exchange = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
                .collect()
                .await;
            let body = body.map_err(|error| anyhow::anyhow!("the body broke off: {error}"))?;
            anyhow::Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .with_context(|| format!("no answer within {:?}", self.timeout))?
            .with_context(|| format!("cannot fetch {uri}"))
    }
}

/// Reads `Name: value`.
///
/// # Errors
/// When the text is no header.
pub fn parse_header(text: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = text
        .split_once(':')
        .context("a header is written `name: value`")?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_a_name_a_colon_and_a_value() {
        let (name, value) = parse_header("X-Marker:  a:b ").unwrap();
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("x-marker", b"a:b".as_slice())
        );
        for wrong in ["x", "", "a b: c", "x: a\nb"] {
            assert!(parse_header(wrong).is_err(), "{wrong:?}");
        }
    }
}
