//! Reads single variables: durations, `tcp://` addresses, port lists.
//! Collects every fault, in the words of Linkerd v18.8.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

/// Reads variables and remembers what was wrong.
pub(super) struct Reader<L> {
    lookup: L,
    faults: Vec<String>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    pub(super) fn new(lookup: L) -> Self {
        Self {
            lookup,
            faults: Vec::new(),
        }
    }

    /// The value as it stands; an empty one counts as not set.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|text| !text.is_empty())
    }

    pub(super) fn required(&mut self, name: &str) -> Option<String> {
        let text = self.text(name);
        if text.is_none() {
            self.fault(format!("{name} is not set"));
        }
        text
    }

    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name)?;
        self.parse(name, &text, parse)
    }

    pub(super) fn parse<T>(
        &mut self,
        name: &str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.fault(format!("{name}={text:?} is not valid: {reason}"));
                None
            }
        }
    }

    pub(super) fn fault(&mut self, text: String) {
        self.faults.push(text);
    }

    pub(super) fn finish(self) -> Result<(), Vec<String>> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(self.faults)
        }
    }
}

/// Digits and a unit: `300ms`, `10s`, `5m`, `1h`, `1d`, or `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let not_a_duration = || "NotADuration".to_owned();
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(not_a_duration)?;
    let (digits, unit) = text.split_at(unit_at);
    let amount: u64 = digits.parse().map_err(|_| not_a_duration())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(not_a_duration()),
    };
    amount
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(not_a_duration)
}

pub(super) fn number(text: &str) -> Result<usize, String> {
    text.trim().parse().map_err(|_| "NotANumber".to_owned())
}

/// `tcp://host:port`, nothing after it.
pub(super) fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let rest = match text.split_once("://") {
        Some(("tcp", rest)) => rest,
        Some(_) => return Err("UrlError(UnsupportedScheme)".to_owned()),
        None => return Err("UrlError(SyntaxError)".to_owned()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return Err("UrlError(PathNotAllowed)".to_owned());
    }
    let (host, port) = rest
        .rsplit_once(':')
        .ok_or_else(|| "UrlError(MissingPort)".to_owned())?;
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err("UrlError(MissingHost)".to_owned());
    }
    let port = port
        .parse()
        .map_err(|_| "UrlError(SyntaxError)".to_owned())?;
    Ok((host.to_owned(), port))
}

/// `tcp://ip:port`.
pub(super) fn listener(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = host_and_port(text)?;
    let ip = host
        .parse()
        .map_err(|_| "HostIsNotAnIpAddress".to_owned())?;
    Ok(SocketAddr::new(ip, port))
}

/// Comma-separated numbers and ranges; blanks and empty parts are allowed.
pub(super) fn ports(text: &str) -> Result<HashSet<u16>, String> {
    let number = |text: &str| text.parse().map_err(|_| "NotANumber".to_owned());
    let mut ports = HashSet::new();
    let parts = text.split(',').map(str::trim);
    for part in parts.filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (number(first)?, number(last)?);
        if first > last {
            return Err("NotARange".to_owned());
        }
        ports.extend(first..=last);
    }
    Ok(ports)
}

/// Comma-separated ports with a duration each: `5432=1s,8080=500ms`.
pub(super) fn tcp_probes(text: &str) -> Result<Vec<(u16, Duration)>, String> {
    let probe = |part: &str| {
        let (port, timeout) = part.split_once('=')?;
        Some((port.parse().ok()?, duration(timeout).ok()?))
    };
    let probes = text.split(',').map(probe);
    probes
        .collect::<Option<_>>()
        .ok_or_else(|| "NotPortsWithDurations".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_probes_are_ports_with_a_duration() {
        let seconds = Duration::from_secs;
        assert_eq!(
            tcp_probes("5432=1s,8080=30s"),
            Ok(vec![(5432, seconds(1)), (8080, seconds(30))])
        );
        for text in [
            "5432",
            "5432=",
            "=1s",
            "65536=1s",
            "5432=1s,",
            "5432=1s 80=1s",
        ] {
            assert!(tcp_probes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_are_numbers_and_ranges() {
        assert_eq!(
            ports("25, 3000-3002,,7-7"),
            Ok([25, 3000, 3001, 3002, 7].into())
        );
        assert_eq!(ports(""), Ok([].into()));
        for text in ["http", "70000", "9-3", "3-", "-3", "1-2-3", "25;26"] {
            assert!(ports(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in [
            ("10s", 10_000),
            (" 300ms ", 300),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "10 s",
            "99999999999999999999s",
            "1w",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_tcp_urls() {
        assert_eq!(host_and_port("tcp://a.b:1"), Ok(("a.b".to_owned(), 1)));
        assert_eq!(
            listener("tcp://[::]:4143"),
            Ok("[::]:4143".parse().unwrap())
        );
        for text in [
            "a:1",
            "tcp://",
            "tcp://a",
            "tcp://a:b",
            "tcp://a:1/x",
            "udp://a:1",
        ] {
            assert!(host_and_port(text).is_err(), "{text}");
        }
        assert_eq!(
            listener("tcp://a:1"),
            Err("HostIsNotAnIpAddress".to_owned())
        );
    }
}
