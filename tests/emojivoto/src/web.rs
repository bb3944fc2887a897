//! The web front end: HTTP in, gRPC out to `emoji` and `voting`. Entry: [`run`].

use std::{collections::HashMap, convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

use crate::{
    api::{
        FindRequest, ListRequest, ResultsRequest, VoteRequest, emojis_client::EmojisClient,
        votes_client::VotesClient,
    },
    page, process,
};

/// How long requests in flight may take after SIGTERM.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// A connection that sends no complete request head for this long is closed.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves the pages and the JSON API (HTTP).
#[derive(clap::Args)]
pub struct Args {
    /// Where to listen
    #[arg(long, default_value = "0.0.0.0:8080")]
    addr: SocketAddr,
    /// host:port of the emoji service
    #[arg(long, env = "EMOJI_HOST", default_value = "emoji-svc.emojivoto:8080")]
    emoji_host: String,
    /// host:port of the voting service
    #[arg(long, env = "VOTING_HOST", default_value = "voting-svc.emojivoto:8080")]
    voting_host: String,
}

/// The front end without its listener; clones share the two channels.
#[derive(Clone)]
pub struct Web {
    emoji: EmojisClient<Channel>,
    voting: VotesClient<Channel>,
}

/// Serves until `shutdown`.
///
/// # Errors
/// When the address cannot be bound, or a host is not `host:port`.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Args {
        addr,
        emoji_host,
        voting_host,
    } = args;
    let web = Web::new(&emoji_host, &voting_host)?;
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot bind {addr}"))?;
    tracing::info!(%addr, emoji_host, voting_host, "listening");
    serve(listener, web, shutdown).await;
    Ok(())
}

/// Serves on `listener` until `shutdown`, then lets the requests in flight end.
pub async fn serve(listener: TcpListener, web: Web, shutdown: CancellationToken) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT);
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, mostly: existing connections must end first.
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let web = web.clone();
        let service = hyper::service::service_fn(move |request| {
            let web = web.clone();
            async move { Ok::<_, Infallible>(web.answer(&request).await) }
        });
        let connection = graceful.watch(
            server
                .serve_connection(TokioIo::new(stream), service)
                .into_owned(),
        );
        // The task ends with its connection, which `graceful` closes and waits for.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_MAX, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests in flight were cut off");
    }
}

impl Web {
    /// Makes a front end of two services given as `host:port`. Connects when asked.
    ///
    /// # Errors
    /// When a text is not `host:port`.
    pub fn new(emoji_host: &str, voting_host: &str) -> anyhow::Result<Self> {
        Ok(Self {
            emoji: EmojisClient::new(process::channel(emoji_host)?),
            voting: VotesClient::new(process::channel(voting_host)?),
        })
    }

    /// Answers one request; errors of the services become 404, 500 or 503.
    pub async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
        }
        let answer = match request.uri().path() {
            "/" => self.ballot().await,
            "/leaderboard" => self.leaderboard().await,
            "/api/list" => self.list().await,
            "/api/leaderboard" => self.results().await,
            "/api/vote" => match choice(request.uri().query().unwrap_or_default()) {
                Some(choice) => self.vote(choice).await,
                None => {
                    return text(
                        StatusCode::BAD_REQUEST,
                        "say /api/vote?choice=:shortcode:\n",
                    );
                }
            },
            _ => return text(StatusCode::NOT_FOUND, "there is no such page\n"),
        };
        answer.unwrap_or_else(|status| {
            tracing::debug!(%status, uri = %request.uri(), "a service refused");
            text(http_status(&status), &format!("{}\n", status.message()))
        })
    }

    async fn ballot(&self) -> Result<Response<Full<Bytes>>, Status> {
        let emoji = self
            .emoji
            .clone()
            .list(ListRequest {})
            .await?
            .into_inner()
            .emoji;
        Ok(html_page(page::ballot(&emoji)))
    }

    async fn leaderboard(&self) -> Result<Response<Full<Bytes>>, Status> {
        let results = self
            .voting
            .clone()
            .results(ResultsRequest {})
            .await?
            .into_inner()
            .results;
        let emoji = self
            .emoji
            .clone()
            .list(ListRequest {})
            .await?
            .into_inner()
            .emoji;
        let unicode: HashMap<_, _> = emoji
            .into_iter()
            .map(|e| (e.shortcode, e.unicode))
            .collect();
        let rows: Vec<_> = results
            .into_iter()
            .map(|result| {
                let unicode = unicode
                    .get(&result.shortcode)
                    .unwrap_or(&result.shortcode)
                    .clone();
                (result.shortcode, unicode, result.votes)
            })
            .collect();
        Ok(html_page(page::leaderboard(&rows)))
    }

    async fn list(&self) -> Result<Response<Full<Bytes>>, Status> {
        let emoji = self
            .emoji
            .clone()
            .list(ListRequest {})
            .await?
            .into_inner()
            .emoji;
        let emoji: Vec<_> = emoji
            .into_iter()
            .map(|emoji| json!({ "shortcode": emoji.shortcode, "unicode": emoji.unicode }))
            .collect();
        Ok(json_document(&json!(emoji)))
    }

    async fn results(&self) -> Result<Response<Full<Bytes>>, Status> {
        let results = self
            .voting
            .clone()
            .results(ResultsRequest {})
            .await?
            .into_inner()
            .results;
        let results: Vec<_> = results
            .into_iter()
            .map(|result| json!({ "shortcode": result.shortcode, "votes": result.votes }))
            .collect();
        Ok(json_document(&json!(results)))
    }

    async fn vote(&self, shortcode: String) -> Result<Response<Full<Bytes>>, Status> {
        let found = self
            .emoji
            .clone()
            .find(FindRequest { shortcode })
            .await?
            .into_inner();
        let vote = VoteRequest {
            shortcode: found.shortcode.clone(),
        };
        let votes = self.voting.clone().vote(vote).await?.into_inner().votes;
        let answer = json!({ "shortcode": found.shortcode, "votes": votes });
        Ok(json_document(&answer))
    }
}

/// The value of `choice` in a query; shortcodes need no more decoding than the colon.
fn choice(query: &str) -> Option<String> {
    let value = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("choice="))?;
    Some(value.replace("%3A", ":").replace("%3a", ":"))
}

fn http_status(status: &Status) -> StatusCode {
    match status.code() {
        tonic::Code::NotFound => StatusCode::NOT_FOUND,
        tonic::Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn html_page(text: String) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, "text/html; charset=utf-8", text)
}

fn json_document(value: &Value) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, "application/json", value.to_string())
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body.to_owned())
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = header::HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_read_from_the_query() {
        assert_eq!(choice("choice=:tada:").as_deref(), Some(":tada:"));
        assert_eq!(choice("a=b&choice=%3Atada%3a").as_deref(), Some(":tada:"));
        assert_eq!(choice("choices=:tada:"), None);
        assert_eq!(choice(""), None);
    }
}
