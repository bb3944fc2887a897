//! A list of ports as annotations carry it: `25,443,3000-3010`. Entry: [`PortSet::parse`].
//! Lenient on purpose: one mistyped part must not change the meaning of the others.

/// Ports of protocols in which the server speaks first, or TLS begins amid the conversation: SMTP,
/// MySQL, Galera, PostgreSQL, Redis, Elasticsearch among its nodes, memcached.
const OPAQUE_BY_CUSTOM: &[(u16, u16)] = &[
    (25, 25),
    (587, 587),
    (3306, 3306),
    (4444, 4444),
    (5432, 5432),
    (6379, 6379),
    (9300, 9300),
    (11_211, 11_211),
];

/// Ports of an annotation. Lists that nobody wrote take no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSet {
    /// Nobody has written a list: the ports that are never HTTP by custom.
    ByCustom,
    /// The ranges that somebody has written.
    Listed(Box<[(u16, u16)]>),
}

impl Default for PortSet {
    fn default() -> Self {
        Self::Listed(Box::default())
    }
}

impl PortSet {
    /// The ports that are never to be read as HTTP: those of the annotation, which may be none, or
    /// those that are never HTTP by custom. A proxy of Linkerd would wait for a client that says nothing. The annotation may
    /// name ports: `named` knows their numbers.
    pub fn opaque(annotation: Option<&str>, named: impl Fn(&str) -> Option<u16>) -> Self {
        annotation.map_or(Self::ByCustom, |text| Self::read(text, named))
    }

    /// Reads numbers and ranges between commas; parts that are neither are left out.
    pub fn parse(text: &str) -> Self {
        Self::read(text, |_| None)
    }

    fn read(text: &str, named: impl Fn(&str) -> Option<u16>) -> Self {
        let range =
            |part| parse_range(part).or_else(|| named(part.trim()).map(|number| (number, number)));
        Self::Listed(text.split(',').filter_map(range).collect())
    }

    /// Whether `port` is in the list.
    pub fn contains(&self, port: u16) -> bool {
        let ranges = match self {
            Self::ByCustom => OPAQUE_BY_CUSTOM,
            Self::Listed(ranges) => ranges,
        };
        ranges
            .iter()
            .any(|&(first, last)| (first..=last).contains(&port))
    }

    /// Whether somebody has written that `port` is in the list.
    pub fn lists(&self, port: u16) -> bool {
        *self != Self::ByCustom && self.contains(port)
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
    fn an_annotation_takes_the_place_of_what_is_custom() {
        let opaque = |text| PortSet::opaque(text, |name| (name == "sql").then_some(3306));
        assert!(opaque(None).contains(3306) && !opaque(None).lists(3306));
        assert!(!opaque(None).contains(8080));
        assert!(!opaque(Some("8080")).contains(3306));
        assert!(opaque(Some("8080")).contains(8080) && opaque(Some("8080")).lists(8080));
        assert_eq!(opaque(Some("80, sql,other")), opaque(Some("80,3306")));
        assert_eq!(opaque(Some("")), PortSet::default());
    }

    #[test]
    fn parts_that_are_no_ports_change_nothing() {
        assert_eq!(PortSet::parse(""), PortSet::default());
        assert_eq!(PortSet::parse("http,70000,9-3,,-,25"), PortSet::parse("25"));
    }
}
