//! A list of ports as annotations carry it: `25,443,3000-3010`. Entry: [`PortSet::parse`].
//! Lenient on purpose: one mistyped part must not change the meaning of the others.

/// Ports of an annotation. Empty lists take no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Box<[(u16, u16)]>);

impl PortSet {
    /// Reads numbers and ranges between commas; parts that are neither are left out.
    pub fn parse(text: &str) -> Self {
        Self(text.split(',').filter_map(parse_range).collect())
    }

    /// Whether `port` is in the list.
    pub fn contains(&self, port: u16) -> bool {
        self.0
            .iter()
            .any(|&(first, last)| (first..=last).contains(&port))
    }
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_are_read() {
        let ports = PortSet::parse("25, 443,3000-3010");
        for port in [25, 443, 3000, 3005, 3010] {
            assert!(ports.contains(port), "{port}");
        }
        for port in [24, 26, 2999, 3011] {
            assert!(!ports.contains(port), "{port}");
        }
    }

    #[test]
    fn parts_that_are_no_ports_change_nothing() {
        assert_eq!(PortSet::parse(""), PortSet::default());
        assert_eq!(PortSet::parse("http,70000,9-3,,-,25"), PortSet::parse("25"));
    }
}
