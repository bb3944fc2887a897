//! The three services together, over real sockets of one process.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use emojivoto::{
    emoji,
    http_client::{Connections, HttpClient},
    voting,
    web::{self, Web},
};
use http::StatusCode;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

struct Application {
    web: String,
    client: HttpClient,
    stop_voting: CancellationToken,
    voting: JoinHandle<anyhow::Result<()>>,
    _stop: DropGuard,
}

impl Application {
    async fn start() -> Self {
        let stop = CancellationToken::new();
        let stop_voting = stop.child_token();
        let listen = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
        let (emoji_listener, voting_listener) = (listen().await, listen().await);
        let web_listener = listen().await;
        let web = Web::new(
            &emoji_listener.local_addr().unwrap().to_string(),
            &voting_listener.local_addr().unwrap().to_string(),
        )
        .unwrap();
        let addr = web_listener.local_addr().unwrap();
        tokio::spawn(emoji::serve(emoji_listener, stop.clone()));
        let voting = tokio::spawn(voting::serve(voting_listener, stop_voting.clone()));
        tokio::spawn(web::serve(web_listener, web, stop.clone()));
        let client = HttpClient::new(Duration::from_secs(10), Connections::Kept);
        Self {
            web: format!("http://{addr}"),
            client,
            stop_voting,
            voting,
            _stop: stop.drop_guard(),
        }
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let uri = format!("{}{path}", self.web).parse().unwrap();
        let (status, body) = self.client.get(&uri, &[]).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn votes_reach_the_leaderboard() {
    let app = Application::start().await;
    let (status, list) = app.get("/api/list").await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        list.contains(r#"{"shortcode":":doughnut:","unicode":"🍩"}"#),
        "{list}"
    );
    let (status, page) = app.get("/").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("data-choice=\":tada:\""));
    assert_eq!(app.get("/api/vote?choice=:tada:").await.0, StatusCode::OK);
    let (status, vote) = app.get("/api/vote?choice=%3Atada%3A").await;
    assert_eq!(
        (status, vote.as_str()),
        (StatusCode::OK, r#"{"shortcode":":tada:","votes":2}"#)
    );
    let (_, results) = app.get("/api/leaderboard").await;
    assert_eq!(results, r#"[{"shortcode":":tada:","votes":2}]"#);
    let (status, page) = app.get("/leaderboard").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("🎉"));
}

#[tokio::test]
async fn a_vote_for_the_doughnut_always_fails() {
    let app = Application::start().await;
    for _ in 0..3 {
        let (status, body) = app.get("/api/vote?choice=:doughnut:").await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{body}");
    }
    assert_eq!(app.get("/api/leaderboard").await.1, "[]");
}

#[tokio::test]
async fn wrong_requests_are_answered_with_their_reason() {
    let app = Application::start().await;
    assert_eq!(
        app.get("/api/vote?choice=:nothing:").await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(app.get("/api/vote").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(app.get("/elsewhere").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_service_that_is_gone_does_not_take_the_others_along() {
    let mut app = Application::start().await;
    app.stop_voting.cancel();
    (&mut app.voting).await.unwrap().unwrap();
    let (status, _) = app.get("/api/vote?choice=:tada:").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.get("/api/list").await.0, StatusCode::OK);
}
