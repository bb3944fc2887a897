//! The dashboard over HTTP: routes, headers, whom it answers, figures from a Prometheus that says what the
//! test wants.

mod support;

use std::sync::Arc;

use axum::{body::Body, http::Request};
use http_body_util::BodyExt as _;
use linkerd_api::{Cluster, Controller, Metrics, Pod, Prometheus, Workload, dashboard};
use serde_json::{Value, json};
use support::{FakePrometheus, closed_url, kubernetes, matrix, series, service, vector};
use tokio::{net::TcpListener, sync::Barrier};
use tower::ServiceExt as _;

/// Status, headers and text of an answer.
struct Answer {
    status: u16,
    headers: http::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

async fn ask(cluster: &Arc<Cluster>, prometheus: &str, request: Request<Body>) -> Answer {
    let prometheus = Prometheus::new(prometheus).expect("a URL");
    let metrics = Metrics::Prometheus(Box::new(prometheus));
    let service = service(cluster.clone(), metrics, kubernetes());
    let response = dashboard(service).oneshot(request).await.expect("answered");
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        text: String::from_utf8(bytes.to_vec()).expect("text"),
    }
}

fn get(path: &str) -> Request<Body> {
    request("GET", path, "localhost:50750")
}

fn request(method: &str, path: &str, host: &str) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path);
    builder
        .header("host", host)
        .body(Body::empty())
        .expect("valid")
}

/// `shop` with the Deployment `web`, a pod of it, and a pod that stands for itself.
fn shop() -> Arc<Cluster> {
    let cluster = Cluster::default();
    let key = |name: &str| ("shop".to_owned(), name.to_owned());
    let managed_by = |kind: &str, name: &str| {
        Some(Controller {
            api_version: "apps/v1".into(),
            kind: kind.into(),
            name: name.into(),
            uid: String::new(),
        })
    };
    let running = |controller| Pod {
        phase: "Running".into(),
        labels: [("linkerd.io/control-plane-ns".into(), "linkerd".into())].into(),
        ip: "192.0.2.1".into(),
        controller,
        ..Pod::default()
    };
    let namespace = (String::new(), "shop".to_owned());
    cluster.namespaces.insert(namespace, Workload::default());
    cluster.deployments.insert(key("web"), Workload::default());
    let replica_set = Workload {
        controller: managed_by("Deployment", "web"),
        ..Workload::default()
    };
    cluster.replica_sets.insert(key("web-1"), replica_set);
    for name in ["web-1-a", "web-1-b"] {
        let pod = running(managed_by("ReplicaSet", "web-1"));
        cluster.pods.insert(key(name), pod);
    }
    cluster.pods.insert(key("alone"), running(None));
    Arc::new(cluster)
}

fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[tokio::test]
async fn every_page_is_one_page_and_other_paths_are_none() {
    let cluster = shop();
    let page = ask(&cluster, &closed_url(), get("/")).await;
    assert!(
        page.text.contains("<title>Linkerd dashboard"),
        "{}",
        page.text
    );
    for path in [
        "/graph",
        "/unencrypted",
        "/namespaces/shop",
        "/namespaces/shop/deployment/web",
    ] {
        let answer = ask(&cluster, &closed_url(), get(path)).await;
        assert_eq!(
            (answer.status, &answer.text),
            (page.status, &page.text),
            "{path}"
        );
    }
    for path in [
        "/no",
        "/namespaces",
        "/api",
        "/api/no",
        // Only the command knows who looks.
        "/api/tap",
        "/assets/no.js",
        "/assets/..%2findex.html",
        "/assets/.gitignore",
    ] {
        let answer = ask(&cluster, &closed_url(), get(path)).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn every_answer_forbids_what_the_page_does_not_need() {
    let other = request("GET", "/", "evil.example:50750");
    for request in [get("/"), get("/api/version"), get("/no"), other] {
        let answer = ask(&shop(), &closed_url(), request).await;
        let header = |name: &str| answer.headers[name].to_str().expect("text").to_owned();
        assert!(header("content-security-policy").starts_with("default-src 'none';"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cache-control"), "no-store");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn pages_of_other_names_get_nothing() {
    for (host, status) in [
        ("127.0.0.1:50750", 200),
        ("[::1]:50750", 200),
        ("evil.example:50750", 421),
    ] {
        let answer = ask(&shop(), &closed_url(), request("GET", "/api/version", host)).await;
        assert_eq!(answer.status, status, "{host}");
        assert_eq!(
            answer.text.contains("control_plane_namespace"),
            status == 200
        );
    }
}

#[tokio::test]
async fn nothing_can_be_changed() {
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = ask(
            &shop(),
            &closed_url(),
            request(method, "/api/overview", "localhost"),
        )
        .await;
        assert_eq!(answer.status, 405, "{method}");
    }
}

#[tokio::test]
async fn the_overview_has_namespaces_and_workloads_with_their_figures() {
    let prometheus = FakePrometheus::start(|query| {
        // Of the responses half are successes; of these some came in plaintext.
        let one = |more: &[(&str, &str)], value| {
            let all = [&[("namespace", "shop"), ("deployment", "web")], more].concat();
            series(&labels(&all), value)
        };
        if query.contains("histogram_quantile") {
            return vector(&[one(&[], "7")]);
        }
        if query.contains("response_total") {
            let plain = [
                ("classification", "failure"),
                ("tls", "no_proxy_tls"),
                ("no_tls_reason", "peer_sent_plaintext"),
            ];
            return vector(&[
                one(&[("classification", "success"), ("tls", "true")], "30"),
                one(&plain, "10"),
            ]);
        }
        vector(&[])
    })
    .await;
    let answer = ask(&shop(), &prometheus.url(), get("/api/overview")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let overview = answer.json();
    assert_eq!(overview["window_seconds"], 60.0);
    assert_eq!(overview["namespaces"][0]["name"], "shop");
    let workloads = overview["workloads"].as_array().expect("a list");
    assert_eq!(workloads.len(), 1, "{workloads:#?}");
    assert_eq!(workloads[0]["kind"], "deployment");
    assert_eq!(
        workloads[0]["requests"],
        json!({
            "success": 30, "failure": 10, "tls": 30,
            "latency_ms_p50": 7, "latency_ms_p95": 7, "latency_ms_p99": 7,
            "no_tls_reasons": {"peer_sent_plaintext": 10},
        })
    );
}

/// The labels of an end such as `deployment/web`.
fn end_labels(prefix: &str, end: &str) -> [(String, String); 2] {
    let (kind, name) = end.split_once('/').expect("a kind and a name");
    [
        (format!("{prefix}namespace"), "shop".to_owned()),
        (format!("{prefix}{kind}"), name.to_owned()),
    ]
}

/// Source, destination, labels of TLS, and how many responses. An unknown source is empty.
type Told<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

#[tokio::test]
async fn edges_are_between_workloads_and_pods_that_stand_for_themselves() {
    let prometheus = FakePrometheus::start(|query| {
        // One sum for each kind of end: workloads, pods that stand for themselves, and as servers what is no pod.
        let sums = query.split("sum(").skip(1);
        let ends = if query.contains("\"outbound\"") { 6 } else { 2 };
        assert_eq!(sums.clone().count(), ends, "{query}");
        vector(&sums.flat_map(edges_of_sum).collect::<Vec<_>>())
    })
    .await;
    let answer = ask(&shop(), &prometheus.url(), get("/api/edges")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let graph = answer.json();
    assert_eq!(graph["window_seconds"], 600);
    assert_eq!(graph["control_plane_namespace"], "linkerd");
    let edges = graph["edges"].as_array().expect("a list").iter();
    let end = |end: &Value| match end {
        Value::Null => "unknown".to_owned(),
        end => format!("{}/{}", end["kind"], end["name"]).replace('"', ""),
    };
    let edges: Vec<Value> = edges
        .map(|it| {
            json!([
                end(&it["src"]),
                end(&it["dst"]),
                it["secured"],
                it["no_tls_reason"],
                it["responses"],
            ])
        })
        .collect();
    assert_eq!(
        edges,
        [
            json!(["unknown", "deployment/web", false, "peer_sent_plaintext", 4]),
            json!(["deployment/gone", "statefulset/db", true, "", 9]),
            json!(["deployment/web", "unknown", false, "off_cluster", 3]),
            json!(["deployment/web", "unknown", false, "peer_not_meshed", 8]),
            json!(["deployment/web", "pod/alone", true, "", 7]),
            json!(["pod/alone", "deployment/web", false, "peer_not_meshed", 5]),
            json!(["pod/alone", "pod/other", true, "", 2]),
            json!(["pod/old", "pod/other", false, "no_identity", 1]),
        ]
    );
    let client = graph["edges"][4]["client_id"].as_str().expect("text");
    assert!(client.starts_with("web.deployment.shop."), "{client}");
}

/// The series of a sum of responses.
fn edges_of_sum(sum: &str) -> Vec<Value> {
    let (_, by) = sum.rsplit_once(" by (").expect("labels");
    let (by, _) = by.split_once(')').expect("an end");
    let by: Vec<&str> = by.split(", ").collect();
    for prefix in ["", "dst_"] {
        // There may be thousands of pods: the workloads' are never told apart.
        let of_pods = by.contains(&format!("{prefix}pod").as_str());
        let without_owner = sum.contains(&format!(" {prefix}daemonset=\"\","));
        assert_eq!(of_pods, without_owner, "{sum}");
    }
    let plain = [("tls", "no_identity"), ("no_tls_reason", "peer_not_meshed")];
    let unknown = [
        ("tls", "no_proxy_tls"),
        ("no_tls_reason", "peer_sent_plaintext"),
    ];
    let outside = [("tls", "no_identity"), ("no_tls_reason", "off_cluster")];
    let secured = [("tls", "true")];
    let edges: &[Told<'_>] = &[
        ("deployment/web", "pod/alone", &secured, "7"),
        ("deployment/gone", "statefulset/db", &secured, "9"),
        ("pod/alone", "deployment/web", &plain, "5"),
        ("pod/alone", "pod/other", &secured, "2"),
        // A proxy of 2018 has no other label for it.
        ("pod/old", "pod/other", &[("tls", "no_identity")], "1"),
        ("", "deployment/web", &unknown, "4"),
        ("deployment/web", "service/kubernetes", &plain, "8"),
        ("deployment/web", "", &outside, "3"),
    ];
    let direction = |src: &str| {
        if src.is_empty() {
            "inbound"
        } else {
            "outbound"
        }
    };
    let asked = edges.iter().filter(|(src, dst, ..)| {
        let pods = |end: &str| end.starts_with("pod/");
        let (src_by, dst_by) = match *src {
            "" => (false, by.contains(&"pod")),
            _ => (by.contains(&"pod"), by.contains(&"dst_pod")),
        };
        sum.contains(&format!("direction=\"{}\"", direction(src)))
            && sum.contains("response_total")
            && !sum.contains("\"probe\"")
            && (pods(src), pods(dst)) == (src_by, dst_by)
            && dst.starts_with("service/") == by.contains(&"dst_service")
    });
    let series = asked.map(|(src, dst, tls, value)| {
        let mut all = labels(tls);
        match *src {
            "" => all.extend(end_labels("", dst)),
            src => {
                all.extend(end_labels("", src));
                if !dst.is_empty() {
                    all.extend(end_labels("dst_", dst));
                }
            }
        }
        series(&all, value)
    });
    series.collect()
}

#[tokio::test]
async fn pods_have_owners_and_an_unknown_namespace_has_none() {
    let answer = ask(&shop(), &closed_url(), get("/api/pods/shop")).await;
    let pods = answer.json();
    let pods: Vec<Value> = pods
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| {
            json!([
                it["name"],
                it["owner_kind"],
                it["owner_name"],
                it["meshed"],
                it["status"]
            ])
        })
        .collect();
    assert_eq!(
        pods,
        [
            json!(["alone", "pod", "alone", true, "Running"]),
            json!(["web-1-a", "deployment", "web", true, "Running"]),
            json!(["web-1-b", "deployment", "web", true, "Running"]),
        ]
    );
    let answer = ask(&shop(), &closed_url(), get("/api/pods/nowhere")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"], "namespace \"nowhere\" not found");
}

#[tokio::test]
async fn the_past_of_a_workload_is_an_hour_by_the_minute() {
    let prometheus = FakePrometheus::start(|query| {
        let of = |more: &[(&str, &str)]| {
            let all = [&[("namespace", "shop"), ("deployment", "web")], more].concat();
            labels(&all)
        };
        if query.contains("histogram_quantile") {
            return matrix(&of(&[]), 60.0, &["7"]);
        }
        if query.contains("response_total") {
            let labels = of(&[("classification", "success"), ("tls", "true")]);
            return matrix(&labels, 60.0, &["30", "NaN", "20"]);
        }
        let labels = of(&[("tls", "no_identity"), ("no_tls_reason", "off_cluster")]);
        matrix(&labels, 60.0, &["3", "2"])
    })
    .await;
    let path = "/api/history/shop/deployment/web";
    let answer = ask(&shop(), &prometheus.url(), get(path)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let past = answer.json();
    assert_eq!(past["step_seconds"], 60);
    let [row] = past["rows"].as_array().expect("a list").as_slice() else {
        panic!("{past:#}");
    };
    let last = |field: &str| {
        let all = row[field].as_array().expect("a list");
        assert_eq!(all.len(), 60, "{field}");
        all[56..].to_vec()
    };
    let none = Value::Null;
    assert_eq!(
        last("success"),
        [none.clone(), json!(30), json!(0), json!(20)]
    );
    assert_eq!(last("tls"), [none.clone(), json!(30), json!(0), json!(20)]);
    assert_eq!(last("latency_ms_p99")[3], json!(7));
    assert_eq!(last("open"), [none.clone(), none, json!(3), json!(2)]);
    assert_eq!(last("open_tls")[2..], [json!(0), json!(0)]);

    let answer = ask(&shop(), &prometheus.url(), get("/api/history")).await;
    let past = answer.json();
    assert_eq!(past["step_seconds"], 120);
    assert_eq!(
        past["rows"][0]["success"].as_array().expect("a list").len(),
        30
    );
    for (path, error) in [
        (
            "/api/history/shop/node/web",
            "\"node\" is no kind of workload",
        ),
        (
            "/api/history/shop/deployment/no",
            "deployment.apps \"no\" not found",
        ),
    ] {
        let answer = ask(&shop(), &prometheus.url(), get(path)).await;
        let text = answer.json()["error"].as_str().expect("text").to_owned();
        assert!(answer.status == 404 && text.contains(error), "{text}");
    }
}

#[tokio::test]
async fn all_that_one_answer_says_is_of_one_time_by_the_clock_of_prometheus() {
    // Whichever way this machine's clock is wrong: with it the time would be before all data, or after.
    for (clock, half_a_second_before) in [
        ((|| 1_700_000_000.123) as fn() -> f64, "1699999999.623"),
        (|| 4_100_000_000.0, "4099999999.500"),
    ] {
        let prometheus = FakePrometheus::start_at(clock, |_| vector(&[])).await;
        for (path, questions) in [
            // Namespaces and Deployments.
            ("/api/overview", 2 * 7),
            ("/api/edges", 12),
            ("/api/certificates/shop", 3),
        ] {
            let answer = ask(&shop(), &prometheus.url(), get(path)).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let expected = vec![Some(half_a_second_before.to_owned()); questions];
            assert_eq!(prometheus.times(), expected, "{path}");
        }
        let prometheus = FakePrometheus::start_at(clock, |_| matrix(&[], 120.0, &[])).await;
        let answer = ask(&shop(), &prometheus.url(), get("/api/history")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let expected = vec![Some(half_a_second_before.to_owned()); 2 * 5];
        assert_eq!(prometheus.times(), expected);
    }
}

/// A Prometheus that answers two questions together, and one alone never.
async fn answers_in_pairs() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let pair = Arc::new(Barrier::new(2));
    let answer = axum::routing::get(move || {
        let pair = pair.clone();
        async move {
            pair.wait().await;
            matrix(&[], 120.0, &[]).1
        }
    });
    let time = axum::routing::get(async || vector(&[series(&[], "1800000000")]).1);
    let router = axum::Router::new()
        .route("/api/v1/query_range", answer)
        .route("/api/v1/query", time);
    // Ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn the_past_of_several_kinds_is_asked_for_together() {
    // Namespaces and Deployments.
    let answer = ask(&shop(), &answers_in_pairs().await, get("/api/history")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn without_figures_the_answer_says_why() {
    for path in [
        "/api/overview",
        "/api/edges",
        "/api/history",
        "/api/history/shop/deployment/web",
        "/api/certificates/shop",
    ] {
        let url = closed_url();
        let answer = ask(&shop(), &url, get(path)).await;
        assert_eq!(answer.status, 503, "{path}");
        let error = answer.json()["error"].as_str().expect("text").to_owned();
        let address = url.strip_prefix("http://").expect("a URL");
        assert!(error.contains(address), "{path}: {error}");
    }
}

#[tokio::test]
async fn every_answer_under_api_that_is_none_says_why_as_json() {
    let local = "localhost:50750";
    for (request, status, error) in [
        (get("/api/nope"), 404, "There is no such page."),
        (get("/api/"), 404, "There is no such page."),
        (get("/api/pods/%ff"), 400, "UTF-8"),
        (
            request("POST", "/api/edges", local),
            405,
            "Method Not Allowed",
        ),
        (
            request("GET", "/api/edges", "evil.example"),
            421,
            "localhost",
        ),
    ] {
        let path = request.uri().clone();
        let answer = ask(&shop(), &closed_url(), request).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert!(answer.headers.contains_key("content-security-policy"));
        let text = answer.json()["error"].as_str().expect("text").to_owned();
        assert!(text.contains(error), "{path}: {text}");
    }
    let page = ask(&shop(), &closed_url(), get("/nope")).await;
    assert_eq!(
        (page.status, page.text.as_str()),
        (404, "There is no such page.\n")
    );
}
