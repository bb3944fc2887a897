//! TCP ports as people write them in flags: `80`, `8000-8099`, and lists of both.

use std::fmt;
use std::str::FromStr;

/// One or more ports in a row, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortRange {
    first: u16,
    last: u16,
}

/// Ranges with commas between them; an empty text is an empty list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortList(pub(crate) Vec<PortRange>);

/// The text is no port, no range, or a range that ends before it begins.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a port (1 to 65535) nor a range of ports such as 8000-8099")]
pub(crate) struct InvalidPorts(String);

impl PortRange {
    /// The range as iptables writes it: `80` or `8000:8099`.
    pub(crate) fn iptables(self) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}:{}", self.first, self.last)
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl FromStr for PortRange {
    type Err = InvalidPorts;

    fn from_str(text: &str) -> Result<Self, InvalidPorts> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(Self { first, last }),
            _ => Err(InvalidPorts(text.to_owned())),
        }
    }
}

impl FromStr for PortList {
    type Err = InvalidPorts;

    fn from_str(text: &str) -> Result<Self, InvalidPorts> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        text.split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_are_read() {
        for (text, ranges) in [
            ("", vec![]),
            ("80", vec!["80"]),
            ("1-65535", vec!["1:65535"]),
            (
                "25, 587,8000 - 8099,7-7",
                vec!["25", "587", "8000:8099", "7"],
            ),
        ] {
            let PortList(read) = text.parse().unwrap();
            assert_eq!(
                read.into_iter()
                    .map(PortRange::iptables)
                    .collect::<Vec<_>>(),
                ranges
            );
        }
    }

    #[test]
    fn what_is_no_port_is_refused_whole() {
        for text in [
            "0", "65536", "-1", "80-", "-80", "90-80", "80,,81", "80,", "http", "1-2-3",
        ] {
            assert!(text.parse::<PortList>().is_err(), "{text}");
        }
    }
}
