//! The whole way of `edges`: gRPC client, service, a Prometheus that says what the test wants.

mod support;

use std::sync::Arc;

use linkerd_api::{Cluster, Controller, Pod, Workload};
use linkerd_proto::public::{EdgesRequest, Resource, ResourceSelection, edges_response::Edge};
use support::{FakePrometheus, api, series, vector};
use tonic::Code;

fn request(kind: &str) -> EdgesRequest {
    EdgesRequest {
        selector: Some(ResourceSelection {
            resource: Some(Resource {
                namespace: "shop".into(),
                r#type: kind.into(),
                name: String::new(),
            }),
            label_selector: String::new(),
        }),
        time_window: "10m".into(),
        other_selectors: Vec::new(),
    }
}

fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn summary(edges: &[Edge]) -> Vec<String> {
    let end = |end: &Option<Resource>| {
        let end = end.clone().expect("set");
        format!("{}/{}", end.namespace, end.name)
    };
    let line = |it: &Edge| {
        format!(
            "{} {} {} {} {}/{}/{} {} {}",
            end(&it.src),
            end(&it.dst),
            it.tls,
            it.no_tls_reason,
            it.responses,
            it.connections,
            it.open_connections,
            it.client_id
                .split('.')
                .take(3)
                .collect::<Vec<_>>()
                .join("."),
            it.server_id
                .split('.')
                .take(3)
                .collect::<Vec<_>>()
                .join("."),
        )
    };
    edges.iter().map(line).collect()
}

#[tokio::test]
async fn edges_have_both_ends_and_what_became_of_tls() {
    let prometheus = FakePrometheus::start(|query| {
        if query.contains("direction=\"inbound\"") {
            let plain = |app: &str, reason: &str, count: &str| {
                let plain = [
                    ("namespace", "shop"),
                    ("deployment", app),
                    ("tls", "no_proxy_tls"),
                    ("no_tls_reason", reason),
                ];
                series(&labels(&plain), count)
            };
            return match query {
                q if q.contains("\"probe\"") => {
                    vector(&[plain("web", "probe", "9"), plain("probed", "probe", "9")])
                }
                q if q.contains("tcp_open_total") => vector(&[
                    plain("web", "peer_sent_plaintext", "11"),
                    plain("probed", "peer_sent_plaintext", "9"),
                ]),
                q if q.contains("response_total") => {
                    vector(&[plain("web", "peer_sent_plaintext", "3")])
                }
                _ => vector(&[]),
            };
        }
        let edge = |dst: &str, more: &[(&str, &str)]| {
            let mut all = vec![
                ("namespace", "shop"),
                ("deployment", "web"),
                ("dst_namespace", "db"),
                ("dst_deployment", dst),
            ];
            all.extend(more);
            labels(&all)
        };
        let reason = [("tls", "no_identity"), ("no_tls_reason", "peer_not_meshed")];
        if query.contains("tcp_open_connections") {
            return vector(&[series(&edge("opaque", &[("tls", "true")]), "1")]);
        }
        if query.contains("tcp_open_total") {
            return vector(&[
                series(&edge("a", &[("tls", "true")]), "2"),
                series(&edge("opaque", &[("tls", "true")]), "4"),
            ]);
        }
        vector(&[
            series(&edge("b", &reason), "2"),
            series(&edge("a", &[("tls", "true")]), "7"),
            series(&edge("never", &[("tls", "true")]), "0"),
            series(&edge("", &[("tls", "true")]), "9"),
            series(&edge("unreached", &[]), "9"),
        ])
    })
    .await;
    let mut client = api(Arc::new(Cluster::default()), &prometheus.url()).await;
    let answer = client
        .edges(request("deployment"))
        .await
        .expect("an answer");
    assert_eq!(
        summary(&answer.into_inner().edges),
        [
            "/ shop/web no_proxy_tls peer_sent_plaintext 3/2/0  ",
            "shop/web db/a true  7/2/0 web.deployment.shop a.deployment.db",
            "shop/web db/b no_identity peer_not_meshed 2/0/0  ",
            "shop/web db/opaque true  0/4/1 web.deployment.shop opaque.deployment.db",
        ]
    );
}

#[tokio::test]
async fn what_is_no_workload_is_an_unknown_server() {
    let prometheus = FakePrometheus::start(|query| {
        if !query.contains("direction=\"outbound\"") || !query.contains("tcp_open_total") {
            return vector(&[]);
        }
        assert!(query.contains("dst_pod=\"\""), "{query}");
        let edge = |more: &[(&str, &str)]| {
            let src = [
                ("namespace", "shop"),
                ("deployment", "web"),
                ("tls", "no_identity"),
            ];
            let all = src.iter().chain(more).copied().collect::<Vec<_>>();
            series(&labels(&all), "2")
        };
        let plain = ("no_tls_reason", "peer_not_meshed");
        vector(&[
            edge(&[("no_tls_reason", "off_cluster")]),
            edge(&[("no_tls_reason", "discovery_unavailable")]),
            // The same of a Service: with pods of other types, and alone.
            edge(&[plain, ("dst_namespace", "default")]),
            edge(&[
                plain,
                ("dst_namespace", "default"),
                ("dst_service", "kubernetes"),
            ]),
        ])
    })
    .await;
    let mut client = api(Arc::new(Cluster::default()), &prometheus.url()).await;
    let answer = client.edges(request("deployment")).await;
    let edges = answer.expect("an answer").into_inner().edges;
    assert_eq!(
        summary(&edges),
        [
            "shop/web / no_identity discovery_unavailable 0/2/0  ",
            "shop/web / no_identity off_cluster 0/2/0  ",
            "shop/web default/ no_identity peer_not_meshed 0/2/0  ",
        ]
    );
    let kind = edges[0].dst.as_ref().map(|it| it.r#type.as_str());
    assert_eq!(kind, Some("deployment"), "that of the client");
}

#[tokio::test]
async fn pods_prove_to_be_their_workload() {
    let prometheus = FakePrometheus::start(|query| {
        if query.contains("direction=\"inbound\"") {
            return vector(&[]);
        }
        if !query.contains("response_total") {
            return vector(&[]);
        }
        let edge = [
            ("namespace", "shop"),
            ("pod", "log-1"),
            ("dst_namespace", "shop"),
            ("dst_pod", "alone"),
            ("tls", "true"),
        ];
        vector(&[series(&labels(&edge), "1")])
    })
    .await;
    let cluster = Cluster::default();
    let managed = Pod {
        controller: Some(Controller {
            api_version: "apps/v1".into(),
            kind: "DaemonSet".into(),
            name: "log".into(),
            uid: String::new(),
        }),
        ..Pod::default()
    };
    cluster
        .pods
        .insert(("shop".into(), "log-1".into()), managed);
    let alone = Pod::default();
    cluster.pods.insert(("shop".into(), "alone".into()), alone);
    let mut client = api(Arc::new(cluster), &prometheus.url()).await;
    let answer = client.edges(request("pod")).await.expect("an answer");
    assert_eq!(
        summary(&answer.into_inner().edges),
        ["shop/log-1 shop/alone true  1/0/0 log.daemonset.shop alone.pod.shop"]
    );
}

#[tokio::test]
async fn edges_between_workloads_of_several_types_are_told_with_the_types() {
    let prometheus = FakePrometheus::start(|query| {
        if query.contains("direction=\"inbound\"") || !query.contains("tcp_open_total") {
            return vector(&[]);
        }
        let edge = |src: (&str, &str), dst: (&str, &str)| {
            labels(&[
                ("namespace", "shop"),
                src,
                ("dst_namespace", "shop"),
                dst,
                ("tls", "true"),
            ])
        };
        let (web, cart) = (("deployment", "web"), ("deployment", "cart"));
        let db = ("dst_statefulset", "db");
        vector(&[
            series(&edge(web, db), "1"),
            series(&edge(cart, db), "2"),
            series(&edge(cart, ("dst_statefulset", "other")), "4"),
            series(&edge(cart, ("dst_job", "none")), "8"),
        ])
    })
    .await;
    let mut client = api(Arc::new(Cluster::default()), &prometheus.url()).await;
    let mut both = request("deployment");
    both.other_selectors = request("statefulset").selector.into_iter().collect();
    let answer = client.edges(both).await.expect("an answer").into_inner();
    let end = |end: &Option<Resource>| end.clone().expect("set").r#type;
    let types = answer.edges.iter().map(|it| (end(&it.src), end(&it.dst)));
    let types: Vec<_> = types.collect();
    let expected = ("deployment".to_owned(), "statefulset".to_owned());
    assert!(types.iter().all(|types| *types == expected), "{types:?}");
    assert_eq!(
        summary(&answer.edges),
        [
            "shop/cart shop/db true  0/2/0 cart.deployment.shop db.statefulset.shop",
            "shop/cart shop/other true  0/4/0 cart.deployment.shop other.statefulset.shop",
            "shop/web shop/db true  0/1/0 web.deployment.shop db.statefulset.shop",
        ]
    );
}

#[tokio::test]
async fn types_without_edges_and_a_missing_prometheus_are_errors() {
    let mut client = api(Arc::new(Cluster::default()), &support::closed_url()).await;
    let status = client
        .edges(request("service"))
        .await
        .expect_err("no edges");
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = client.edges(request("pod")).await.expect_err("no figures");
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn names_and_windows_that_make_no_sense_are_refused() {
    let prometheus = FakePrometheus::start(|_| vector(&[])).await;
    let cluster = Cluster::default();
    let namespace = (String::new(), "shop".to_owned());
    cluster.namespaces.insert(namespace, Workload::default());
    let mut client = api(Arc::new(cluster), &prometheus.url()).await;
    let mut named = request("deployment");
    let resource = named.selector.as_mut().and_then(|it| it.resource.as_mut());
    resource.expect("set").name = "nobody".into();
    let status = client.edges(named).await.expect_err("not there");
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "deployment.apps \"nobody\" not found")
    );
    let mut forever = request("deployment");
    forever.time_window = "forever".into();
    let status = client.edges(forever).await.expect_err("no window");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn edges_that_rest_have_no_row_though_probes_go_on() {
    let prometheus = FakePrometheus::start(|query| {
        let grew = query.contains("last_over_time");
        let server = |name: &str, count: &str| {
            let plain = [
                ("namespace", "shop"),
                ("deployment", name),
                ("tls", "no_proxy_tls"),
                ("no_tls_reason", "peer_sent_plaintext"),
            ];
            series(&labels(&plain), count)
        };
        let edge = |name: &str, count: &str| {
            let ends = [
                ("namespace", "shop"),
                ("deployment", "web"),
                ("dst_namespace", "shop"),
                ("dst_deployment", name),
                ("tls", "true"),
            ];
            series(&labels(&ends), count)
        };
        let inbound = query.contains("direction=\"inbound\"");
        vector(&match query {
            it if it.contains("\"probe\"") && grew => vec![server("old", "4"), server("new", "4")],
            it if it.contains("\"probe\"") => vec![server("old", "9"), server("new", "9")],
            it if it.contains("tcp_open_total") && inbound && grew => {
                vec![server("old", "4"), server("new", "5")]
            }
            it if it.contains("tcp_open_total") && inbound => {
                vec![server("old", "11"), server("new", "11")]
            }
            _ if inbound => vec![],
            it if it.contains("tcp_open_connections") => vec![edge("open", "1")],
            it if it.contains("tcp_open_total") && grew => vec![edge("rests", "0")],
            it if it.contains("tcp_open_total") => vec![edge("rests", "2"), edge("open", "3")],
            _ if grew => vec![edge("asked", "1")],
            _ => vec![edge("rests", "6"), edge("asked", "7")],
        })
    })
    .await;
    let mut client = api(Arc::new(Cluster::default()), &prometheus.url()).await;
    let answer = client
        .edges(request("deployment"))
        .await
        .expect("an answer");
    assert_eq!(
        summary(&answer.into_inner().edges),
        [
            "/ shop/new no_proxy_tls peer_sent_plaintext 0/2/0  ",
            "shop/web shop/asked true  7/0/0 web.deployment.shop asked.deployment.shop",
            "shop/web shop/open true  0/3/1 web.deployment.shop open.deployment.shop",
        ]
    );
}
