//! What the cluster tests share. They are black-box: they know kubectl, the CLI and the sample
//! application, and nothing of our crates. Entry: [`in_namespace`].

mod certificate;
mod cluster;
mod control_plane;
mod documented;
mod emojivoto;
mod eventually;
mod frames;
mod load;
mod metrics;
mod namespace;
mod page;
mod program;
mod rolling;
mod server;
mod sniffer;
mod stat;
mod terminal;
mod watch;
mod workload;

pub use certificate::Certificate;
pub use cluster::{Cluster, beside_others, in_namespace, on_cluster, with_namespace};
pub use control_plane::with_control_plane;
pub use documented::Documented;
pub use emojivoto::Emojivoto;
pub use eventually::{eventually, eventually_within};
pub use frames::{Streams, is_tls};
pub use load::{LAST_WORDS, Load, Totals, last_words};
pub use metrics::Metrics;
pub use namespace::Namespace;
pub use page::commands;
pub use program::{Output, run};
pub use rolling::{LOAD_RATE, all_served, end_all, rolling_servers, steady_load};
pub use server::start_server;
pub use sniffer::Sniffer;
pub use stat::{Row, find, rows};
pub use terminal::{Ended, Terminal};
pub use watch::{Event, Watch};
pub use workload::{Workload, deployment, document, service};

/// Prints a line past the test runner's capture: a figure, or why a test was skipped.
pub fn report(line: &str) {
    use std::io::Write as _;
    // A closed stderr must not fail a test.
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// The `percent`-th percentile by nearest rank; none of nothing.
pub fn percentile(values: &[u64], percent: usize) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=50).rev().collect();
        assert_eq!(percentile(&values, 50), Some(25));
        assert_eq!(percentile(&values, 99), Some(50));
        assert_eq!(percentile(&[7], 1), Some(7));
        assert_eq!(percentile(&[], 99), None);
    }
}
