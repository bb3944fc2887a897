//! What the watches ask the API server for.

use std::time::Duration;

use http::{Request, Response, header::ACCEPT};
use kube::{Client, client::Body};
use linkerd_ca::{metrics::Metrics, watches::watch_all, workloads::Source};
use prometheus_client::registry::Registry;
use tower_test::mock;

/// The first request of every watch: path, query and accepted type.
async fn first_requests() -> Vec<[String; 3]> {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "default");
    let metrics = Metrics::new(&mut Registry::default());
    let observed = watch_all(&client, "linkerd", Some(Source::Secret), &metrics);
    let watching = tokio::spawn(futures::StreamExt::for_each(observed, async |_| ()));
    let (mut requests, mut unanswered) = (Vec::new(), Vec::new());
    while let Ok(Some((request, answer))) =
        tokio::time::timeout(Duration::from_secs(1), handle.next_request()).await
    {
        let query = request.uri().query().unwrap_or_default();
        let query = query
            .replace("%21", "!")
            .replace("%3D", "=")
            .replace("%2C", ",");
        let accepted = request
            .headers()
            .get(ACCEPT)
            .and_then(|it| it.to_str().ok());
        let path = request.uri().path().to_owned();
        requests.push([path, query, accepted.unwrap_or_default().to_owned()]);
        unanswered.push(answer);
    }
    watching.abort();
    requests
}

#[tokio::test(start_paused = true)]
async fn no_watch_sees_the_keys_of_the_control_plane() {
    let requests = first_requests().await;
    let of_secrets = requests
        .iter()
        .filter(|[path, ..]| path.ends_with("/secrets"));
    let mut whole = 0;
    for [path, query, accepted] in of_secrets {
        if accepted.contains("as=PartialObjectMetadata") {
            continue;
        }
        whole += 1;
        assert_eq!(path, "/api/v1/secrets");
        let others =
            "fieldSelector=metadata.name!=linkerd-ca-root,metadata.name!=linkerd-injector-tls";
        assert!(query.contains(others), "{query}");
        assert!(query.contains("limit=20"), "{query}");
        let ours = "labelSelector=linkerd.io%2Fcontrol-plane-ns=linkerd";
        assert!(query.contains(ours), "{query}");
    }
    assert_eq!(whole, 1, "{requests:?}");
}
