//! Every kind of question, word for word.

use linkerd_names::OwnerKind;

use super::*;
use crate::{promql::render, stat_request::Window};

fn target(kind: &str, namespace: &str, name: &str) -> Target {
    Target {
        kind: kind.parse().expect("a type"),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn request(target: Target, outbound: Outbound) -> StatRequest {
    let window = Window::parse("1m").expect("a window");
    StatRequest {
        target,
        selector: Default::default(),
        outbound,
        window,
        tcp_stats: true,
    }
}

fn responses(target: Target, outbound: Outbound) -> String {
    render(&Question::new(&request(target, outbound)).responses())
}

fn latency(target: Target, outbound: Outbound) -> String {
    render(&Question::new(&request(target, outbound)).latency(0.95))
}

#[test]
fn plain_questions_are_about_inbound_series_of_the_target_without_probes() {
    let cases = [
        (
            target("pod", "emojivoto", "emojivoto-1"),
            r#"sum(increase(response_total{direction="inbound", namespace="emojivoto", no_tls_reason!="probe", pod="emojivoto-1"}[1m])) by (namespace, pod, classification, tls, no_tls_reason)"#,
            r#"histogram_quantile(0.95, sum(irate(response_latency_ms_bucket{direction="inbound", namespace="emojivoto", no_tls_reason!="probe", pod="emojivoto-1"}[1m])) by (le, namespace, pod))"#,
        ),
        (
            target("deployment", "emojivoto", ""),
            r#"sum(increase(response_total{direction="inbound", namespace="emojivoto", no_tls_reason!="probe"}[1m])) by (namespace, deployment, classification, tls, no_tls_reason)"#,
            r#"histogram_quantile(0.95, sum(irate(response_latency_ms_bucket{direction="inbound", namespace="emojivoto", no_tls_reason!="probe"}[1m])) by (le, namespace, deployment))"#,
        ),
        (
            target("deployment", "", ""),
            r#"sum(increase(response_total{direction="inbound", no_tls_reason!="probe"}[1m])) by (namespace, deployment, classification, tls, no_tls_reason)"#,
            r#"histogram_quantile(0.95, sum(irate(response_latency_ms_bucket{direction="inbound", no_tls_reason!="probe"}[1m])) by (le, namespace, deployment))"#,
        ),
        (
            target("namespace", "default", "emojivoto"),
            r#"sum(increase(response_total{direction="inbound", namespace="emojivoto", no_tls_reason!="probe"}[1m])) by (namespace, classification, tls, no_tls_reason)"#,
            r#"histogram_quantile(0.95, sum(irate(response_latency_ms_bucket{direction="inbound", namespace="emojivoto", no_tls_reason!="probe"}[1m])) by (le, namespace))"#,
        ),
        (
            target("authority", "emojivoto", "web-svc.emojivoto:80"),
            r#"sum(increase(response_total{authority="web-svc.emojivoto:80", direction="inbound", namespace="emojivoto", no_tls_reason!="probe"}[1m])) by (namespace, authority, classification, tls, no_tls_reason)"#,
            r#"histogram_quantile(0.95, sum(irate(response_latency_ms_bucket{authority="web-svc.emojivoto:80", direction="inbound", namespace="emojivoto", no_tls_reason!="probe"}[1m])) by (le, namespace, authority))"#,
        ),
        (
            target("job", "emojivoto", "load"),
            r#"sum(increase(response_total{direction="inbound", k8s_job="load", namespace="emojivoto", no_tls_reason!="probe"}[1m])) by (namespace, k8s_job, classification, tls, no_tls_reason)"#,
            r#"histogram_quantile(0.95, sum(irate(response_latency_ms_bucket{direction="inbound", k8s_job="load", namespace="emojivoto", no_tls_reason!="probe"}[1m])) by (le, namespace, k8s_job))"#,
        ),
    ];
    for (target, expected_responses, expected_latency) in cases {
        assert_eq!(
            responses(target.clone(), Outbound::None),
            expected_responses
        );
        assert_eq!(latency(target, Outbound::None), expected_latency);
    }
}

#[test]
fn questions_about_requests_to_a_peer_name_both_sides() {
    let cases = [
        (
            target("pod", "emojivoto", "emojivoto-2"),
            r#"sum(increase(response_total{direction="outbound", dst_namespace="emojivoto", dst_pod="emojivoto-2", namespace="emojivoto", pod="emojivoto-1"}[1m])) by (namespace, pod, classification, tls, no_tls_reason)"#,
        ),
        (
            target("authority", "emojivoto", "web-svc.emojivoto:80"),
            r#"sum(increase(response_total{authority="web-svc.emojivoto:80", direction="outbound", namespace="emojivoto", pod="emojivoto-1"}[1m])) by (namespace, pod, classification, tls, no_tls_reason)"#,
        ),
        (
            target("namespace", "", "linkerd"),
            r#"sum(increase(response_total{direction="outbound", dst_namespace="linkerd", namespace="emojivoto", pod="emojivoto-1"}[1m])) by (namespace, pod, classification, tls, no_tls_reason)"#,
        ),
        (
            target("deployment", "other", ""),
            r#"sum(increase(response_total{direction="outbound", dst_namespace="other", namespace="emojivoto", pod="emojivoto-1"}[1m])) by (namespace, pod, classification, tls, no_tls_reason)"#,
        ),
    ];
    for (peer, expected) in cases {
        let web = target("pod", "emojivoto", "emojivoto-1");
        assert_eq!(responses(web, Outbound::To(peer)), expected);
    }
}

#[test]
fn questions_about_requests_from_a_peer_are_about_its_outbound_series() {
    let cases = [
        (
            target("pod", "emojivoto", "emojivoto-1"),
            r#"histogram_quantile(0.95, sum(irate(response_latency_ms_bucket{direction="outbound", namespace="emojivoto", pod="emojivoto-2"}[1m])) by (le, dst_namespace, dst_pod))"#,
        ),
        (
            target("namespace", "", "linkerd"),
            r#"histogram_quantile(0.95, sum(irate(response_latency_ms_bucket{direction="outbound", namespace="emojivoto", pod="emojivoto-2"}[1m])) by (le, dst_namespace))"#,
        ),
        (
            target("authority", "emojivoto", ""),
            r#"histogram_quantile(0.95, sum(irate(response_latency_ms_bucket{direction="outbound", namespace="emojivoto", pod="emojivoto-2"}[1m])) by (le, dst_namespace, authority))"#,
        ),
        (
            target("service", "emojivoto", ""),
            r#"histogram_quantile(0.95, sum(irate(response_latency_ms_bucket{direction="outbound", namespace="emojivoto", pod="emojivoto-2"}[1m])) by (le, dst_namespace, dst_service))"#,
        ),
    ];
    for (rows, expected) in cases {
        let from = target("pod", "emojivoto", "emojivoto-2");
        assert_eq!(latency(rows, Outbound::From(from)), expected);
    }
}

#[test]
fn questions_about_connections_look_at_the_clients_side() {
    let request = request(target("deployment", "ns", "web"), Outbound::None);
    let question = Question::new(&request);
    assert_eq!(
        render(&question.open_connections()),
        r#"sum(tcp_open_connections{deployment="web", direction="inbound", namespace="ns", peer="src"}) by (namespace, deployment, tls, no_tls_reason)"#
    );
    assert_eq!(
        render(&question.bytes(Metric::ReadBytes)),
        r#"sum(increase(tcp_read_bytes_total{deployment="web", direction="inbound", namespace="ns", peer="src"}[1m])) by (namespace, deployment)"#
    );
}

#[test]
fn questions_about_connections_to_a_peer_look_at_the_servers_side() {
    let to = Outbound::To(target("deployment", "ns", "db"));
    let request = request(target("deployment", "ns", "web"), to);
    assert_eq!(
        render(&Question::new(&request).bytes(Metric::ReadBytes)),
        r#"sum(increase(tcp_read_bytes_total{deployment="web", direction="outbound", dst_deployment="db", dst_namespace="ns", namespace="ns", peer="dst"}[1m])) by (namespace, deployment)"#
    );
    assert!(Question::new(&request).has_connections());
}

#[test]
fn questions_about_a_service_are_about_its_clients_series() {
    let request = request(target("service", "ns", "web"), Outbound::None);
    assert_eq!(
        render(&Question::new(&request).responses()),
        r#"sum(increase(response_total{direction="outbound", dst_namespace="ns", dst_service="web"}[1m])) by (dst_namespace, dst_service, classification, tls, no_tls_reason)"#
    );
}

#[test]
fn connections_have_no_authority() {
    let to = Outbound::To(target("authority", "ns", "web:80"));
    let request = request(target("deployment", "ns", "web"), to);
    assert!(!Question::new(&request).has_connections());
}

#[test]
fn the_series_of_every_kind_have_a_label_of_their_own() {
    let labels: std::collections::BTreeSet<_> = OwnerKind::ALL
        .into_iter()
        .map(OwnerKind::metric_label)
        .collect();
    assert_eq!(labels.len(), OwnerKind::ALL.len());
}
