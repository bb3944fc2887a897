//! The CA controller: a certificate Secret for every workload of the mesh that speaks TLS, and the
//! trust bundle for every namespace with one. Entry: [`controller`]; the decisions are in [`plan`].
//! It reads workloads and never pods' contents, and of all processes it alone writes Secrets.

pub mod backoff;
pub mod bundle;
pub mod causes;
pub mod context;
pub mod controller;
pub mod issue;
pub mod lease;
pub mod marks;
pub mod metrics;
pub mod mirror;
pub mod plan;
pub mod queue;
pub mod report;
pub mod restraint;
pub mod root;
pub mod secret;
pub mod watches;
pub mod webhook;
pub mod work;
pub mod workloads;
pub mod write;
