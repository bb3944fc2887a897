//! The certificates that the proxies of a namespace have in use. Entry: [`certificates`].
//! A proxy says itself when its certificate ends and is renewed, and which trust anchor vouches for it; so it
//! is the same with Secrets and with the identity service.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
};
use futures::TryFutureExt as _;
use serde::Serialize;
use tonic::Status;

use super::{Dashboard, Failure};
use crate::{
    metrics::{MetricsError, Snapshot},
    query::{Aggregate, Condition, Function, Metric, Part, Query, Sample},
};

/// Labels of a trust anchor's series.
const NAME: &str = "name";
const SERIAL: &str = "serial";

/// What a pod's proxy proves itself by. Times are seconds since 1970.
#[derive(Serialize, Default, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    ends_at: u64,
    /// Null of a proxy that does not say it.
    renewal_at: Option<u64>,
    trust_anchor: Option<TrustAnchor>,
}

#[derive(Serialize, Debug, PartialEq, Eq)]
struct TrustAnchor {
    name: String,
    /// Hexadecimal digits.
    serial: String,
    ends_at: u64,
}

/// Certificates by pod. Pods whose proxies have none in use are not among them.
///
/// # Errors
/// When there is no such namespace, or the metrics cannot be asked.
pub(super) async fn certificates(
    State(dashboard): State<Dashboard>,
    Path(namespace): Path<String>,
) -> Result<Json<BTreeMap<String, Certificate>>, Failure> {
    let cluster = &dashboard.service.cluster;
    if cluster.namespaces.get("", &namespace).is_none() {
        let absent = format!("namespace {namespace:?} not found");
        return Err(Failure(Status::not_found(absent)));
    }
    let metrics = &dashboard.service.metrics;
    let question = metrics.at_once(|metrics| ask(metrics, &namespace));
    dashboard.answer(question.map_err(Status::from)).await
}

async fn ask(
    metrics: Snapshot<'_>,
    namespace: &str,
) -> Result<BTreeMap<String, Certificate>, MetricsError> {
    let question = |metric, by: &[&str]| {
        let by = ["pod"].iter().chain(by).map(|it| (*it).to_owned());
        metrics.query(Query {
            aggregate: Aggregate::Max,
            function: Function::Latest,
            metric,
            parts: vec![Part {
                selector: [("namespace".to_owned(), Condition::is(namespace))].into(),
                by: by.collect(),
            }],
        })
    };
    let (ends, renewals, anchors) = tokio::try_join!(
        question(Metric::CertificateEnd, &[]),
        question(Metric::CertificateRenewal, &[]),
        question(Metric::TrustAnchorEnd, &[NAME, SERIAL]),
    )?;
    Ok(certificates_of(ends, renewals, anchors))
}

fn certificates_of(
    ends: Vec<Sample>,
    renewals: Vec<Sample>,
    anchors: Vec<Sample>,
) -> BTreeMap<String, Certificate> {
    let mut certificates: BTreeMap<String, Certificate> = BTreeMap::new();
    for mut sample in ends {
        let certificate = Certificate {
            ends_at: seconds(sample.value),
            ..Certificate::default()
        };
        if let Some(pod) = sample.labels.remove("pod") {
            certificates.insert(pod, certificate);
        }
    }
    for sample in renewals {
        if let Some(certificate) = of_pod(&mut certificates, &sample) {
            certificate.renewal_at = Some(seconds(sample.value));
        }
    }
    for mut sample in anchors {
        let Some(certificate) = of_pod(&mut certificates, &sample) else {
            continue;
        };
        let mut label = |name| sample.labels.remove(name).unwrap_or_default();
        certificate.trust_anchor = Some(TrustAnchor {
            name: label(NAME),
            serial: label(SERIAL),
            ends_at: seconds(sample.value),
        });
    }
    certificates
}

fn of_pod<'a>(
    certificates: &'a mut BTreeMap<String, Certificate>,
    sample: &Sample,
) -> Option<&'a mut Certificate> {
    certificates.get_mut(sample.labels.get("pod")?)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, as wanted"
)]
fn seconds(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(labels: &[(&str, &str)], value: f64) -> Sample {
        let labels = labels.iter();
        Sample {
            labels: labels
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            value,
        }
    }

    #[test]
    fn what_is_known_of_a_certificate_is_put_together_by_pod() {
        let ends = vec![
            sample(&[("pod", "a")], 100.0),
            sample(&[("pod", "b")], 200.0),
        ];
        let renewals = vec![sample(&[("pod", "a")], 66.0)];
        let of = |pod| [("pod", pod), ("name", "root"), ("serial", "0A")];
        let anchors = vec![sample(&of("a"), 900.0), sample(&of("gone"), 1.0)];
        let a = Certificate {
            ends_at: 100,
            renewal_at: Some(66),
            trust_anchor: Some(TrustAnchor {
                name: "root".into(),
                serial: "0A".into(),
                ends_at: 900,
            }),
        };
        let b = Certificate {
            ends_at: 200,
            ..Certificate::default()
        };
        let expected = [("a".to_owned(), a), ("b".to_owned(), b)].into();
        assert_eq!(certificates_of(ends, renewals, anchors), expected);
    }
}
