//! The figures of the result, in order, with our targets. Entry: [`FIGURES`], [`Figure::verdict`].

use serde::Serialize;

use super::measures::Measure;
use super::record::Record;
use super::summary::{self, Summary};
use Target::{AtLeast, AtMost, RatioAtLeast, RatioAtMost};

/// A line of the table.
pub(super) struct Figure {
    pub(super) measure: Measure,
    pub(super) label: &'static str,
    value: Value,
    target: Option<Target>,
}

enum Value {
    /// A value of the record, by name.
    Of(&'static str),
    /// What that value is above the one of `direct` in the same round.
    Added(&'static str),
    /// A value that says how well was measured: it is not compared.
    Condition(&'static str),
}

/// What we want to reach: in relation to Envoy in the same run, or by itself.
#[derive(Clone, Copy)]
enum Target {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// By itself.
    AtMost(f64),
    /// By itself.
    AtLeast(f64),
}

/// Ours against Envoy and against the target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Verdict {
    /// Ours divided by Envoy's; none when one of them was not measured.
    pub(super) ratio: Option<f64>,
    /// None when there is no target, or nothing to compare with it.
    pub(super) is_met: Option<bool>,
}

/// Every line of the table.
pub(super) const FIGURES: &[Figure] = &[
    of(Measure::Http64, "requests/s", "requests_per_s"),
    of(
        Measure::Http64,
        "CPU outbound, µs/request",
        "cpu_outbound_us",
    ),
    of(Measure::Http64, "CPU inbound, µs/request", "cpu_inbound_us"),
    of(Measure::Http64, "CPU both, µs/request", "cpu_us").target(RatioAtMost(0.35)),
    condition(Measure::Http64, "errors", "errors"),
    condition(Measure::Http64, "CPU of others, cores", "disturbed_cores"),
    of(Measure::Lat1000, "p50, µs", "p50_us"),
    of(Measure::Lat1000, "p99, µs", "p99_us"),
    of(Measure::Lat1000, "p99.9, µs", "p999_us"),
    added(Measure::Lat1000, "p50 added to direct, µs", "p50_us").target(RatioAtMost(0.45)),
    added(Measure::Lat1000, "p99 added to direct, µs", "p99_us"),
    added(Measure::Lat1000, "p99.9 added to direct, µs", "p999_us"),
    of(Measure::Lat1000, "CPU both, µs/request", "cpu_us").target(RatioAtMost(0.5)),
    condition(Measure::Lat1000, "errors", "errors"),
    condition(Measure::Lat1000, "CPU of others, cores", "disturbed_cores"),
    of(Measure::Lat200, "p50, µs", "p50_us"),
    of(Measure::Lat200, "p99, µs", "p99_us"),
    of(Measure::Lat200, "p99.9, µs", "p999_us"),
    added(Measure::Lat200, "p50 added to direct, µs", "p50_us"),
    added(Measure::Lat200, "p99 added to direct, µs", "p99_us"),
    added(Measure::Lat200, "p99.9 added to direct, µs", "p999_us"),
    of(Measure::Lat200, "CPU both, µs/request", "cpu_us"),
    condition(Measure::Lat200, "errors", "errors"),
    condition(Measure::Lat200, "CPU of others, cores", "disturbed_cores"),
    of(Measure::Grpc64, "requests/s", "requests_per_s"),
    of(
        Measure::Grpc64,
        "CPU outbound, µs/request",
        "cpu_outbound_us",
    ),
    of(Measure::Grpc64, "CPU inbound, µs/request", "cpu_inbound_us"),
    of(Measure::Grpc64, "CPU both, µs/request", "cpu_us").target(RatioAtMost(0.35)),
    condition(Measure::Grpc64, "errors", "errors"),
    condition(Measure::Grpc64, "CPU of others, cores", "disturbed_cores"),
    of(Measure::Tcp1, "Gbit/s", "gbit_per_s").target(RatioAtLeast(1.2)),
    of(Measure::Tcp1, "CPU outbound, s/GB", "cpu_outbound_s"),
    of(Measure::Tcp1, "CPU inbound, s/GB", "cpu_inbound_s"),
    of(Measure::Tcp1, "CPU both, s/GB", "cpu_s").target(RatioAtMost(0.65)),
    condition(Measure::Tcp1, "CPU of others, cores", "disturbed_cores"),
    of(Measure::NewHttp, "connections/s", "requests_per_s").target(RatioAtLeast(1.9)),
    of(
        Measure::NewHttp,
        "CPU outbound, µs/connection",
        "cpu_outbound_us",
    ),
    of(
        Measure::NewHttp,
        "CPU inbound, µs/connection",
        "cpu_inbound_us",
    ),
    of(Measure::NewHttp, "CPU both, µs/connection", "cpu_us").target(RatioAtMost(0.55)),
    condition(Measure::NewHttp, "errors", "errors"),
    condition(Measure::NewHttp, "CPU of others, cores", "disturbed_cores"),
    of(Measure::NewTcp, "connections/s", "requests_per_s").target(RatioAtLeast(3.5)),
    of(
        Measure::NewTcp,
        "CPU outbound, µs/connection",
        "cpu_outbound_us",
    ),
    of(
        Measure::NewTcp,
        "CPU inbound, µs/connection",
        "cpu_inbound_us",
    ),
    of(Measure::NewTcp, "CPU both, µs/connection", "cpu_us").target(RatioAtMost(0.2)),
    condition(Measure::NewTcp, "errors", "errors"),
    condition(Measure::NewTcp, "CPU of others, cores", "disturbed_cores"),
    of(Measure::Memory, "idle, outbound, MiB", "rss_outbound_mib"),
    of(Measure::Memory, "idle, inbound, MiB", "rss_inbound_mib"),
    of(Measure::Memory, "idle, the larger, MiB", "rss_mib").target(AtMost(12.0)),
    of(
        Measure::Memory,
        "each of 1,000 idle clients, outbound, KiB",
        "client_of_few_outbound_kib",
    ),
    of(
        Measure::Memory,
        "each of 1,000 idle clients, inbound, KiB",
        "client_of_few_inbound_kib",
    ),
    of(
        Measure::Memory,
        "each of 10,000 idle clients, outbound, KiB",
        "client_of_many_outbound_kib",
    )
    .target(AtMost(4.5)),
    of(
        Measure::Memory,
        "each of 10,000 idle clients, inbound, KiB",
        "client_of_many_inbound_kib",
    ),
    of(
        Measure::Memory,
        "given back 10 s after 4,000 clients, %",
        "given_back_percent",
    )
    .target(AtLeast(80.0)),
    of(
        Measure::Start,
        "outbound to first mTLS request, ms",
        "start_outbound_ms",
    )
    .target(AtMost(20.0)),
    of(
        Measure::Start,
        "inbound to first mTLS request, ms",
        "start_inbound_ms",
    )
    .target(AtMost(20.0)),
    of(Measure::Size, "stripped, MiB", "binary_mib").target(AtMost(10.0)),
];

const fn of(measure: Measure, label: &'static str, name: &'static str) -> Figure {
    Figure {
        measure,
        label,
        value: Value::Of(name),
        target: None,
    }
}

const fn condition(measure: Measure, label: &'static str, name: &'static str) -> Figure {
    Figure {
        measure,
        label,
        value: Value::Condition(name),
        target: None,
    }
}

const fn added(measure: Measure, label: &'static str, name: &'static str) -> Figure {
    Figure {
        measure,
        label,
        value: Value::Added(name),
        target: None,
    }
}

impl Figure {
    const fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    pub(super) fn has_target(&self) -> bool {
        self.target.is_some()
    }

    pub(super) fn more_is_better(&self) -> bool {
        matches!(self.target, Some(RatioAtLeast(_) | AtLeast(_)))
    }

    /// The plane's value over all rounds; none when it was not measured.
    pub(super) fn summary(&self, records: &[Record], plane: &str) -> Option<Summary> {
        Summary::of(match self.value {
            Value::Of(name) | Value::Condition(name) => {
                summary::values(records, plane, self.measure, name)
            }
            Value::Added(name) => summary::added(records, plane, self.measure, name),
        })
    }

    /// The target as people read it; empty when there is none.
    pub(super) fn target_text(&self) -> String {
        match self.target {
            None => String::new(),
            Some(RatioAtMost(ratio)) => format!("≤ {ratio}"),
            Some(RatioAtLeast(ratio)) => format!("≥ {ratio}"),
            Some(AtMost(most)) => format!("ours ≤ {most}"),
            Some(AtLeast(least)) => format!("ours ≥ {least}"),
        }
    }

    /// Compares the medians.
    pub(super) fn verdict(&self, records: &[Record]) -> Verdict {
        let ours = self.summary(records, "ours").map(|summary| summary.median);
        let envoy = self.summary(records, "envoy").map(|summary| summary.median);
        let is_compared = !matches!(self.value, Value::Condition(_));
        // What is added to direct may be less than nothing where the machine is busy.
        let ratio = ours
            .zip(envoy)
            .filter(|(ours, envoy)| is_compared && *ours > 0.0 && *envoy > 0.0)
            .map(|(ours, envoy)| ours / envoy);
        let is_met = self.target.and_then(|target| match target {
            RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
            AtMost(most) => ours.map(|ours| ours <= most),
            AtLeast(least) => ours.map(|ours| ours >= least),
        });
        Verdict { ratio, is_met }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(plane: &str, measure: Measure, name: &str, value: f64) -> Record {
        Record {
            plane: plane.to_owned(),
            round: 1,
            measure,
            values: [(name.to_owned(), value)].into(),
        }
    }

    fn verdict(measure: Measure, name: &str, ours: f64, envoy: Option<f64>) -> Verdict {
        let mut records = vec![record("ours", measure, name, ours)];
        records.extend(envoy.map(|envoy| record("envoy", measure, name, envoy)));
        let figure = FIGURES.iter().find(|figure| {
            figure.measure == measure && matches!(figure.value, Value::Of(of) if of == name)
        });
        figure.expect("there is such a figure").verdict(&records)
    }

    #[test]
    fn less_is_better_for_cpu_and_more_for_throughput() {
        let cpu = |ours| verdict(Measure::Http64, "cpu_us", ours, Some(100.0)).is_met;
        assert_eq!((cpu(35.0), cpu(36.0)), (Some(true), Some(false)));
        let gbit = |ours| verdict(Measure::Tcp1, "gbit_per_s", ours, Some(10.0)).is_met;
        assert_eq!((gbit(12.0), gbit(11.9)), (Some(true), Some(false)));
    }

    #[test]
    fn without_envoy_only_targets_of_our_own_are_judged() {
        let cpu = verdict(Measure::Http64, "cpu_us", 1.0, None);
        assert_eq!((cpu.ratio, cpu.is_met), (None, None));
        let rss = verdict(Measure::Memory, "rss_mib", 11.0, None);
        assert_eq!((rss.ratio, rss.is_met), (None, Some(true)));
    }
}
