//! The process's own metrics, read from /proc at every scrape.
//! Names as every Prometheus client library has them.

use std::{fs, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// Kernel clock ticks a second in /proc/self/stat (`USER_HZ`, which is 100 on every Linux).
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes a memory page, on the one architecture that we build for.
const PAGE_BYTES: u64 = 4096;

/// Registers `process_start_time_seconds`, `process_cpu_seconds_total`, `process_open_fds`,
/// `process_max_fds`, `process_virtual_memory_bytes` and `process_resident_memory_bytes`.
pub fn register_process_metrics(registry: &mut Registry) {
    let start_time_seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64());
    registry.register_collector(Box::new(Process { start_time_seconds }));
}

#[derive(Debug)]
struct Process {
    start_time_seconds: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let e = &mut encoder;
        gauge(
            e,
            "process_start_time_seconds",
            "Unix time of the start",
            self.start_time_seconds,
        )?;
        // A file that cannot be read leaves its metrics out: absent is true, zero would be a lie.
        if let Some(stat) = fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|s| Stat::parse(&s))
        {
            let cpu = ConstCounter::new(stat.cpu_seconds);
            let help = "User and system CPU time";
            cpu.encode(e.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                cpu.metric_type(),
            )?)?;
            let virtual_bytes = stat.virtual_bytes as i64;
            gauge(
                e,
                "process_virtual_memory_bytes",
                "Virtual memory",
                virtual_bytes,
            )?;
            let resident_bytes = stat.resident_bytes as i64;
            gauge(
                e,
                "process_resident_memory_bytes",
                "Resident memory",
                resident_bytes,
            )?;
        }
        if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
            gauge(
                e,
                "process_open_fds",
                "Open file descriptors",
                descriptors.count() as i64,
            )?;
        }
        if let Some(limit) = fs::read_to_string("/proc/self/limits")
            .ok()
            .and_then(|s| fd_limit(&s))
        {
            gauge(
                e,
                "process_max_fds",
                "Limit of open file descriptors",
                limit,
            )?;
        }
        Ok(())
    }
}

fn gauge<N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: N,
) -> Result<(), std::fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

/// The parts of /proc/self/stat that we show, see proc(5).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The program's name stands in brackets and may hold blanks; field 3 comes after it.
        let (_, rest) = text.rsplit_once(") ")?;
        let field = |number: usize| rest.split(' ').nth(number - 3)?.trim().parse::<u64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS_PER_SECOND,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * PAGE_BYTES,
        })
    }
}

fn fd_limit(limits: &str) -> Option<i64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_blanks_and_brackets_is_skipped() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 9 4096000 100 0";
        let stat = Stat {
            cpu_seconds: 3.0,
            virtual_bytes: 4_096_000,
            resident_bytes: 409_600,
        };
        assert_eq!(Stat::parse(line), Some(stat));
    }

    #[test]
    fn all_process_metrics_are_rendered() {
        let mut registry = Registry::default();
        register_process_metrics(&mut registry);
        let text = crate::render_metrics(&registry);
        for name in [
            "process_start_time_seconds ",
            "process_cpu_seconds_total ",
            "process_open_fds ",
            "process_max_fds ",
            "process_virtual_memory_bytes ",
            "process_resident_memory_bytes ",
        ] {
            assert!(text.contains(&format!("\n{name}")), "{name} in {text}");
        }
    }
}
