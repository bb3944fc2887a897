//! Which requests and connections a tap wants. Entries: [`Matcher::parse`], [`Matcher::matches`]. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use linkerd_proto::{
    http_types::{http_method, scheme},
    tap::observe_request::{
        Match,
        r#match::{
            self, Http, Tcp,
            http::{self, StringMatch, string_match},
            tcp::{self, Netmask, PortRange},
        },
    },
};

use super::event::Head;

/// How deep matches may nest, and how many there may be: each is tried on everything.
const DEPTH_MAX: usize = 16;
const MATCHES_MAX: usize = 256;

/// A match whose every part makes sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Matcher {
    All(Vec<Matcher>),
    Any(Vec<Matcher>),
    Not(Box<Matcher>),
    Source(Peer),
    Destination(Peer),
    Scheme(String),
    Method(String),
    Authority(Text),
    Path(Text),
    DestinationLabel { key: String, value: String },
}

/// An end of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Net { ip: IpAddr, bits: u32 },
    Ports(RangeInclusive<u16>),
}

/// A piece of text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text {
    Exact(String),
    Prefix(String),
}

/// Why a match makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidMatch {
    #[error("a match is empty: exactly one kind of match must be set")]
    Empty,
    #[error("matches nest deeper than {DEPTH_MAX} levels")]
    TooDeep,
    #[error("there are more than {MATCHES_MAX} matches")]
    TooMany,
    #[error("a netmask has no valid IP address")]
    NoIp,
    #[error("a netmask of {bits} bits is longer than the address {ip}")]
    Netmask { ip: IpAddr, bits: u32 },
    #[error("{min} to {max} is not a range of ports")]
    Ports { min: u32, max: u32 },
    #[error("{0} is not the number of an HTTP method")]
    Method(i32),
    #[error("{0} is not the number of a scheme")]
    Scheme(i32),
    #[error("a label to match has no key")]
    LabelKey,
    #[error("route labels cannot be matched: this proxy knows no routes")]
    RouteLabel,
}

/// What a match is tried on.
pub(super) struct Subject<'a> {
    /// None of a connection.
    pub(super) head: Option<&'a Head>,
    pub(super) source: Option<SocketAddr>,
    pub(super) destination: Option<SocketAddr>,
    pub(super) destination_labels: &'a BTreeMap<String, String>,
}

impl Matcher {
    /// Checks the parts of a message.
    ///
    /// # Errors
    /// [`InvalidMatch`] tells the first part that makes no sense.
    pub(super) fn parse(message: Match) -> Result<Self, InvalidMatch> {
        let mut left = MATCHES_MAX;
        parse(message, DEPTH_MAX, &mut left)
    }

    /// Whether this is wanted. What is not known matches nothing.
    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|one| one.matches(subject)),
            Self::Any(any) => any.iter().any(|one| one.matches(subject)),
            Self::Not(not) => !not.matches(subject),
            Self::Source(peer) => subject.source.is_some_and(|address| peer.has(address)),
            Self::Destination(peer) => subject.destination.is_some_and(|address| peer.has(address)),
            Self::Scheme(scheme) => subject.has(|head| head.scheme == *scheme),
            Self::Method(method) => subject.has(|head| head.method == method.as_str()),
            Self::Authority(text) => subject.has(|head| text.has(&head.authority)),
            Self::Path(text) => subject.has(|head| text.has(&head.path)),
            Self::DestinationLabel { key, value } => {
                subject.destination_labels.get(key) == Some(value)
            }
        }
    }
}

impl Subject<'_> {
    fn has(&self, wanted: impl FnOnce(&Head) -> bool) -> bool {
        self.head.is_some_and(wanted)
    }
}

impl Peer {
    fn has(&self, address: SocketAddr) -> bool {
        match self {
            Self::Net { ip, bits } => match (ip, address.ip()) {
                (IpAddr::V4(net), IpAddr::V4(ip)) => {
                    let differ = net.to_bits() ^ ip.to_bits();
                    differ.leading_zeros() >= *bits
                }
                (IpAddr::V6(net), IpAddr::V6(ip)) => {
                    let differ = net.to_bits() ^ ip.to_bits();
                    differ.leading_zeros() >= *bits
                }
                _ => false,
            },
            Self::Ports(ports) => ports.contains(&address.port()),
        }
    }
}

impl Text {
    fn has(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
        }
    }
}

fn parse(message: Match, depth: usize, left: &mut usize) -> Result<Matcher, InvalidMatch> {
    let depth = depth.checked_sub(1).ok_or(InvalidMatch::TooDeep)?;
    *left = left.checked_sub(1).ok_or(InvalidMatch::TooMany)?;
    let mut every = |sequence: r#match::Seq| -> Result<Vec<Matcher>, InvalidMatch> {
        let matches = sequence.matches.into_iter();
        matches.map(|one| parse(one, depth, left)).collect()
    };
    Ok(match message.r#match.ok_or(InvalidMatch::Empty)? {
        r#match::Match::All(all) => Matcher::All(every(all)?),
        r#match::Match::Any(any) => Matcher::Any(every(any)?),
        r#match::Match::Not(not) => Matcher::Not(Box::new(parse(*not, depth, left)?)),
        r#match::Match::Source(peer) => Matcher::Source(self::peer(peer)?),
        r#match::Match::Destination(peer) => Matcher::Destination(self::peer(peer)?),
        r#match::Match::Http(http) => self::http(http)?,
        r#match::Match::DestinationLabel(label) if label.key.is_empty() => {
            return Err(InvalidMatch::LabelKey);
        }
        r#match::Match::DestinationLabel(label) => Matcher::DestinationLabel {
            key: label.key,
            value: label.value,
        },
        r#match::Match::RouteLabel(_) => return Err(InvalidMatch::RouteLabel),
    })
}

fn peer(message: Tcp) -> Result<Peer, InvalidMatch> {
    match message.r#match.ok_or(InvalidMatch::Empty)? {
        tcp::Match::Netmask(Netmask { ip, mask }) => {
            let ip = ip.ok_or(InvalidMatch::NoIp)?;
            let ip = IpAddr::try_from(ip).map_err(|_| InvalidMatch::NoIp)?;
            let width = if ip.is_ipv4() { 32 } else { 128 };
            if mask > width {
                return Err(InvalidMatch::Netmask { ip, bits: mask });
            }
            Ok(Peer::Net { ip, bits: mask })
        }
        tcp::Match::Ports(PortRange { min, max }) => {
            let last = if max == 0 { min } else { max };
            match (u16::try_from(min), u16::try_from(last)) {
                (Ok(first), Ok(last)) if first <= last => Ok(Peer::Ports(first..=last)),
                _ => Err(InvalidMatch::Ports { min, max }),
            }
        }
    }
}

fn http(message: Http) -> Result<Matcher, InvalidMatch> {
    Ok(match message.r#match.ok_or(InvalidMatch::Empty)? {
        http::Match::Scheme(scheme) => {
            Matcher::Scheme(match scheme.r#type.ok_or(InvalidMatch::Empty)? {
                scheme::Type::Registered(number) => scheme::Registered::try_from(number)
                    .map_err(|_| InvalidMatch::Scheme(number))?
                    .as_str_name()
                    .to_ascii_lowercase(),
                scheme::Type::Unregistered(name) => name.to_ascii_lowercase(),
            })
        }
        http::Match::Method(method) => {
            Matcher::Method(match method.r#type.ok_or(InvalidMatch::Empty)? {
                http_method::Type::Registered(number) => http_method::Registered::try_from(number)
                    .map_err(|_| InvalidMatch::Method(number))?
                    .as_str_name()
                    .to_owned(),
                http_method::Type::Unregistered(name) => name,
            })
        }
        http::Match::Authority(authority) => Matcher::Authority(text(authority)?),
        http::Match::Path(path) => Matcher::Path(text(path)?),
    })
}

fn text(message: StringMatch) -> Result<Text, InvalidMatch> {
    Ok(match message.r#match.ok_or(InvalidMatch::Empty)? {
        string_match::Match::Exact(exact) => Text::Exact(exact),
        string_match::Match::Prefix(prefix) => Text::Prefix(prefix),
    })
}

#[cfg(test)]
mod tests {
    use linkerd_proto::{http_types, net::IpAddress};

    use super::*;

    fn of(kind: r#match::Match) -> Match {
        Match {
            r#match: Some(kind),
        }
    }

    fn all(matches: Vec<Match>) -> Match {
        of(r#match::Match::All(r#match::Seq { matches }))
    }

    fn any(matches: Vec<Match>) -> Match {
        of(r#match::Match::Any(r#match::Seq { matches }))
    }

    fn not(one: Match) -> Match {
        of(r#match::Match::Not(Box::new(one)))
    }

    fn net(ip: &str, mask: u32) -> Tcp {
        let ip: IpAddress = ip.parse::<IpAddr>().unwrap().into();
        let netmask = Netmask { ip: Some(ip), mask };
        Tcp {
            r#match: Some(tcp::Match::Netmask(netmask)),
        }
    }

    fn ports(min: u32, max: u32) -> Tcp {
        Tcp {
            r#match: Some(tcp::Match::Ports(PortRange { min, max })),
        }
    }

    fn http(kind: http::Match) -> Match {
        of(r#match::Match::Http(Http {
            r#match: Some(kind),
        }))
    }

    fn method(kind: http_method::Type) -> Match {
        http(http::Match::Method(http_types::HttpMethod {
            r#type: Some(kind),
        }))
    }

    fn path(kind: string_match::Match) -> Match {
        http(http::Match::Path(StringMatch {
            r#match: Some(kind),
        }))
    }

    fn label(key: &str, value: &str) -> Match {
        let (key, value) = (key.to_owned(), value.to_owned());
        of(r#match::Match::DestinationLabel(r#match::Label {
            key,
            value,
        }))
    }

    /// Tried on GET http://web.ns/api/vote from 10.1.2.3:5000 to [fd00::7]:80, pod web-1.
    fn matches(message: Match) -> bool {
        let request = ::http::Request::get("/api/vote?secret=1").body(()).unwrap();
        let head = Head::new(&request, "web.ns", None);
        let labels = [("pod".to_owned(), "web-1".to_owned())].into();
        let subject = Subject {
            head: Some(&head),
            source: Some("10.1.2.3:5000".parse().unwrap()),
            destination: Some("[fd00::7]:80".parse().unwrap()),
            destination_labels: &labels,
        };
        Matcher::parse(message).unwrap().matches(&subject)
    }

    #[test]
    fn all_of_nothing_matches_and_any_of_nothing_does_not() {
        assert!(matches(all(vec![])));
        assert!(!matches(any(vec![])));
        assert!(!matches(not(all(vec![]))));
    }

    #[test]
    fn matches_combine() {
        let (yes, no) = (|| label("pod", "web-1"), || label("pod", "web-2"));
        assert!(matches(all(vec![yes(), yes()])) && !matches(all(vec![yes(), no()])));
        assert!(matches(any(vec![no(), yes()])) && !matches(any(vec![no(), no()])));
        assert!(matches(not(all(vec![yes(), no()]))));
        assert!(!matches(label("deployment", "web-1")));
    }

    #[test]
    fn netmasks_compare_the_leading_bits_of_the_same_family() {
        let source = |ip, mask| matches(of(r#match::Match::Source(net(ip, mask))));
        assert!(source("10.1.2.3", 32) && source("10.1.9.9", 16) && source("0.0.0.0", 0));
        assert!(!source("10.1.2.2", 32) && !source("10.2.0.0", 16) && !source("::", 0));
        let destination = |ip, mask| matches(of(r#match::Match::Destination(net(ip, mask))));
        assert!(destination("fd00::7", 128) && destination("fd00::", 64));
        assert!(!destination("fd00::6", 128) && !destination("0.0.0.0", 0));
    }

    #[test]
    fn a_connection_matches_by_its_ends_and_by_nothing_of_http() {
        let labels = [("pod".to_owned(), "db-0".to_owned())].into();
        let connection = Subject {
            head: None,
            source: Some("10.1.2.3:5000".parse().unwrap()),
            destination: None,
            destination_labels: &labels,
        };
        let matches = |message| Matcher::parse(message).unwrap().matches(&connection);
        assert!(matches(label("pod", "db-0")));
        assert!(matches(of(r#match::Match::Source(net("10.1.0.0", 16)))));
        assert!(!matches(of(r#match::Match::Destination(net("0.0.0.0", 0)))));
        let prefix = path(string_match::Match::Prefix(String::new()));
        assert!(!matches(all(vec![label("pod", "db-0"), prefix])));
    }

    #[test]
    fn ranges_of_ports_include_both_ends() {
        let source = |min, max| matches(of(r#match::Match::Source(ports(min, max))));
        assert!(source(5000, 5001) && source(4999, 5000) && source(5000, 0));
        assert!(!source(5001, 6000) && !source(4999, 0));
        assert!(matches(of(r#match::Match::Destination(ports(80, 80)))));
    }

    #[test]
    fn http_is_compared_by_what_the_client_asked() {
        use http_method::{Registered, Type};
        assert!(matches(method(Type::Registered(Registered::Get as i32))));
        assert!(!matches(method(Type::Registered(Registered::Post as i32))));
        assert!(matches(method(Type::Unregistered("GET".to_owned()))));
        let scheme = |number| {
            http(http::Match::Scheme(http_types::Scheme {
                r#type: Some(scheme::Type::Registered(number)),
            }))
        };
        assert!(matches(scheme(0)) && !matches(scheme(1)));
        let prefix = |text: &str| path(string_match::Match::Prefix(text.to_owned()));
        let exact = |text: &str| path(string_match::Match::Exact(text.to_owned()));
        assert!(matches(prefix("/api")) && !matches(prefix("/vote")));
        assert!(matches(exact("/api/vote")) && !matches(exact("/api")));
        let authority = |text: &str| {
            http(http::Match::Authority(StringMatch {
                r#match: Some(string_match::Match::Exact(text.to_owned())),
            }))
        };
        assert!(matches(authority("web.ns")) && !matches(authority("web")));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_reason() {
        let error = |message| Matcher::parse(message).unwrap_err();
        let source = |tcp| of(r#match::Match::Source(tcp));
        assert_eq!(error(Match { r#match: None }), InvalidMatch::Empty);
        let empty = source(Tcp { r#match: None });
        assert_eq!(error(all(vec![empty])), InvalidMatch::Empty);
        assert_eq!(
            error(source(net("10.0.0.0", 33))).to_string(),
            "a netmask of 33 bits is longer than the address 10.0.0.0"
        );
        assert_eq!(
            error(source(ports(9, 8))).to_string(),
            "9 to 8 is not a range of ports"
        );
        assert!(Matcher::parse(source(ports(1, 65_536))).is_err());
        let unknown = method(http_method::Type::Registered(99));
        assert_eq!(error(unknown), InvalidMatch::Method(99));
        assert_eq!(error(label("", "x")), InvalidMatch::LabelKey);
        let route = r#match::Match::RouteLabel(r#match::Label::default());
        assert_eq!(error(of(route)), InvalidMatch::RouteLabel);
    }

    #[test]
    fn matches_are_bounded_in_depth_and_number() {
        let nested = |n| (0..n).fold(label("a", "b"), |inner, _| not(inner));
        assert!(Matcher::parse(nested(DEPTH_MAX - 1)).is_ok());
        let error = Matcher::parse(nested(DEPTH_MAX)).unwrap_err();
        assert_eq!(error, InvalidMatch::TooDeep);
        let wide = |n| any(vec![label("a", "b"); n]);
        assert!(Matcher::parse(wide(MATCHES_MAX - 1)).is_ok());
        let error = Matcher::parse(wide(MATCHES_MAX)).unwrap_err();
        assert_eq!(error, InvalidMatch::TooMany);
    }
}
