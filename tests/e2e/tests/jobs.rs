//! Pods that end, and init containers, are part of the mesh.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Workload, beside_others, start_server};

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_job_with_a_proxy_completes() -> Result<()> {
    beside_others("job", |namespace| {
        start_server(namespace)?;
        let args = ["first-mtls", "http://server:8080/"];
        let job = Workload::new("once", &namespace.cluster.image, &args);
        namespace.apply_meshed(&job.job())?;
        namespace.wait_for_job("once", "Complete", PATIENCE)?;
        ensure!(namespace.logs("once")?.contains("first_mtls_unix_ms"));
        Ok(())
    })
}

#[test]
fn a_failing_job_with_a_proxy_fails() -> Result<()> {
    beside_others("job-fails", |namespace| {
        start_server(namespace)?;
        let args = ["http-get", "http://server:8080/no-such-page"];
        let job = Workload::new("once", &namespace.cluster.image, &args);
        namespace.apply_meshed(&job.job())?;
        namespace.wait_for_job("once", "Failed", PATIENCE)?;
        ensure!(namespace.logs("once")?.contains("404"));
        Ok(())
    })
}

#[test]
fn the_traffic_of_an_init_container_is_meshed() -> Result<()> {
    beside_others("init", |namespace| {
        start_server(namespace)?;
        let job = Workload {
            // It ends only after a request over mutual TLS.
            init_args: &["first-mtls", "http://server:8080/"],
            ..Workload::new(
                "once",
                &namespace.cluster.image,
                &["http-get", "http://server:8080/", "--retry-for-ms", "5000"],
            )
        };
        namespace.apply_meshed(&job.job())?;
        namespace.wait_for_job("once", "Complete", PATIENCE)
    })
}
