//! Answers people: traffic, pods, versions, and the control plane's own health.
//! Entry: [`ApiService`], the gRPC service; [`Cluster`] and [`Metrics`] are what it asks.
//! Knows nothing of certificates and changes nothing in the cluster.

mod cluster;
mod dashboard;
mod edges;
mod figures;
mod history;
mod label_selector;
mod list_pods;
mod metrics;
mod owner;
mod pod;
mod pod_index;
mod pod_status;
mod prometheus;
mod promql;
mod query;
mod question;
mod questions;
mod selected;
mod selection;
mod self_check;
mod serve;
mod service;
mod stat_request;
mod stat_summary;
mod table;
mod tap;
mod targets;
mod workload;

pub use cluster::Cluster;
pub use dashboard::dashboard;
pub use history::{History, SERIES_MAX_DEFAULT};
pub use metrics::{Metrics, MetricsError};
pub use pod::{ContainerError, Pod};
pub use prometheus::{Prometheus, PrometheusError};
pub use query::Sample;
pub use questions::Questions;
pub use selection::NotFound;
pub use serve::{serve_grpc, serve_http};
pub use service::ApiService;
pub use table::{Key, Table};
pub use tap::Taps;
pub use targets::router;
pub use workload::{Controller, Workload};
