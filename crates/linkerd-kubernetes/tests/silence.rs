//! An API server that takes requests and says nothing: its machine is gone, and no packet tells of it.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    runtime::{WatchStreamExt, watcher},
};
use linkerd_kubernetes::{client_of, watch_config};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

/// A test fails then, instead of waiting for ever.
const PATIENCE: Duration = Duration::from_secs(600);

const LIST: &str =
    r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[]}"#;

async fn server() -> (TcpListener, Client) {
    linkerd_process::install_crypto_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let config = Config::new(format!("http://{address}").parse().expect("a URL"));
    (listener, client_of(config).expect("a client"))
}

/// Reads the head of a request on a connection of its own.
async fn request(listener: &TcpListener) -> (TcpStream, String) {
    let (mut connection, _) = listener.accept().await.expect("a connection");
    let head = head(&mut connection).await;
    (connection, head)
}

async fn head(connection: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.expect("more of the head"));
    }
    String::from_utf8(head).expect("text")
}

async fn answer(connection: &mut TcpStream, text: &str) {
    connection
        .write_all(text.as_bytes())
        .await
        .expect("a reader");
}

#[tokio::test]
async fn a_call_to_a_silent_server_ends() {
    let (listener, client) = server().await;
    let pods: Api<Pod> = Api::all(client);
    let call = tokio::spawn(async move { pods.list(&Default::default()).await });
    let (_connection, _) = request(&listener).await;
    // From here on nobody says anything, and time passes by itself.
    tokio::time::pause();
    let start = Instant::now();
    let answer = timeout(PATIENCE, call).await.expect("an end");
    assert!(answer.expect("no panic").is_err());
    let waited = start.elapsed();
    assert!(waited <= Duration::from_secs(75), "{waited:?}");
}

#[tokio::test]
async fn a_watch_whose_server_goes_silent_is_taken_up_again() {
    for says_that_it_begins in [true, false] {
        let (listener, client) = server().await;
        let pods: Api<Pod> = Api::all(client);
        let watch = tokio::spawn(
            watcher(pods, watch_config())
                .default_backoff()
                .for_each(async |_| ()),
        );
        let (mut connection, list) = request(&listener).await;
        assert!(!list.contains("watch=true"), "{list}");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", LIST.len());
        answer(&mut connection, &(head + LIST)).await;
        let watched = self::head(&mut connection).await;
        assert!(watched.contains("timeoutSeconds=60"), "{watched}");
        if says_that_it_begins {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            answer(&mut connection, head).await;
            // Until the client has read it.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::time::pause();
        let start = Instant::now();
        let again = timeout(PATIENCE, request(&listener)).await;
        let (_connection, again) = again.expect("another watch");
        assert!(again.contains("watch=true"), "{again}");
        let waited = start.elapsed();
        assert!(waited >= Duration::from_secs(60), "{waited:?}");
        assert!(waited <= Duration::from_secs(80), "{waited:?}");
        tokio::time::resume();
        watch.abort();
    }
}
