//! HTTP/1.1 with keep-alive as fast as it goes: 64 connections of wrk, each with one request at a
//! time.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Effort;
use super::observe::{Load, Scale, quietest};
use crate::bench::deployed::Deployed;
use crate::bench::ports::HTTP;
use crate::bench::record::Values;
use crate::bench::side::{Side, output};

const WARM_UP_SECONDS: f64 = 2.0;

pub(super) fn run(deployed: &Deployed, effort: &Effort) -> Result<Values> {
    wrk(WARM_UP_SECONDS.min(effort.seconds))?;
    quietest(deployed, effort, Scale::Microseconds, || {
        read(&wrk(effort.seconds)?)
    })
}

fn wrk(seconds: f64) -> Result<String> {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c64", "--latency"]);
    // wrk takes whole seconds only.
    wrk.arg(format!("-d{}s", seconds.max(1.0).round()));
    wrk.arg(format!("http://{}/", Side::Server.at(HTTP)));
    output(Side::Client, &mut wrk)
}

/// Reads what wrk prints.
fn read(text: &str) -> Result<Load> {
    let requests = text.lines().find_map(|line| {
        let (number, _) = line.split_once(" requests in")?;
        number.trim().parse::<f64>().ok()
    });
    let requests = requests.context("wrk tells no number of requests")?;
    ensure!(requests > 0.0, "no request succeeded: {text}");
    let rate = number_after(text, "Requests/sec:").context("wrk tells no rate")?;
    // wrk is silent about errors that did not happen.
    let errors = [
        "Non-2xx or 3xx responses:",
        "errors: connect",
        ", read",
        ", write",
        ", timeout",
    ];
    let errors = errors
        .iter()
        .filter_map(|before| number_after(text, before))
        .fold(0.0, |sum, number| sum + number);
    let values = [
        ("requests", requests),
        ("requests_per_s", rate),
        ("errors", errors),
    ];
    Ok(Load {
        units: requests,
        values: values.map(|(name, value)| (name.to_owned(), value)).into(),
    })
}

fn number_after(text: &str, before: &str) -> Option<f64> {
    let (_, rest) = text.split_once(before)?;
    let word = rest.split([',', '\n']).next()?;
    word.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 1s test @ http://10.77.0.2:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.20ms  300.00us   9.00ms   90.00%
  20480 requests in 1.10s, 4.22MB read
  Socket errors: connect 0, read 3, write 0, timeout 2
  Non-2xx or 3xx responses: 5
Requests/sec:  18618.18
Transfer/sec:      3.83MB
";

    #[test]
    fn what_wrk_prints_is_read_with_every_error() {
        let Load { units, values } = read(WRK).unwrap();
        assert_eq!(units, 20480.0);
        assert_eq!(values["requests_per_s"], 18618.18);
        assert_eq!(values["errors"], 10.0);
        assert!(read("unable to connect").is_err());
    }
}
