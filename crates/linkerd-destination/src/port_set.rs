//! A list of ports as annotations carry it: `25,443,3000-3010`. Entry: [`PortSet::parse`].
//! Lenient on purpose: one mistyped part must not change the meaning of the others.

use std::borrow::Cow;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Cow<'static, [(u16, u16)]>);

impl PortSet {
    /// The ports that are never to be read as HTTP: those of the annotation, which may be none, or
    /// those that are never HTTP by custom. A proxy of Linkerd would wait for a client that says nothing.
    pub fn opaque(annotation: Option<&str>) -> Self {
        annotation.map_or(Self(Cow::Borrowed(OPAQUE_BY_CUSTOM)), Self::parse)
    }

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
    fn an_annotation_takes_the_place_of_what_is_custom() {
        assert!(PortSet::opaque(None).contains(3306));
        assert!(!PortSet::opaque(None).contains(8080));
        assert!(!PortSet::opaque(Some("8080")).contains(3306));
        assert!(PortSet::opaque(Some("8080")).contains(8080));
        assert_eq!(PortSet::opaque(Some("")), PortSet::default());
    }

    #[test]
    fn parts_that_are_no_ports_change_nothing() {
        assert_eq!(PortSet::parse(""), PortSet::default());
        assert_eq!(PortSet::parse("http,70000,9-3,,-,25"), PortSet::parse("25"));
    }
}
