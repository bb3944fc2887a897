//! Which protocol a port is expected to carry, from what the manifests say about it. Entry: [`expected`].
//! Only what people read depends on it: the proxy goes by the bytes.

use serde::Serialize;

/// What a port is expected to carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// What kind of protocol.
    pub protocol: Protocol,
    /// Its name for people: `MySQL`.
    pub name: &'static str,
    /// How that is known.
    pub evidence: Evidence,
}

/// Protocols as far as the proxy tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Requests and responses: HTTP/1, HTTP/2, gRPC.
    Http,
    /// The application's own TLS.
    Tls,
    /// Something in which the server says the first word.
    ServerFirst,
    /// Something else in which the client says the first word.
    ClientFirst,
    /// Nothing says.
    Unknown,
}

/// How a protocol is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The field `appProtocol` of a Service's port.
    AppProtocol,
    /// The port's name.
    PortName,
    /// The port's number, by custom.
    PortNumber,
    /// There is none.
    None,
}

/// Words of `appProtocol` and beginnings of port names.
const WORDS: [(&str, Protocol, &str); 40] = [
    ("http", Protocol::Http, "HTTP"),
    ("http1", Protocol::Http, "HTTP/1"),
    ("http2", Protocol::Http, "HTTP/2"),
    ("h2c", Protocol::Http, "HTTP/2"),
    ("ws", Protocol::Http, "WebSocket"),
    ("grpc", Protocol::Http, "gRPC"),
    ("web", Protocol::Http, "HTTP"),
    ("metrics", Protocol::Http, "HTTP"),
    ("https", Protocol::Tls, "HTTPS"),
    ("tls", Protocol::Tls, "TLS"),
    ("wss", Protocol::Tls, "WebSocket in TLS"),
    ("grpcs", Protocol::Tls, "gRPC in TLS"),
    ("ldaps", Protocol::Tls, "LDAP in TLS"),
    ("mysql", Protocol::ServerFirst, "MySQL"),
    ("mariadb", Protocol::ServerFirst, "MariaDB"),
    ("smtp", Protocol::ServerFirst, "SMTP"),
    ("submission", Protocol::ServerFirst, "SMTP"),
    ("imap", Protocol::ServerFirst, "IMAP"),
    ("pop3", Protocol::ServerFirst, "POP3"),
    ("ftp", Protocol::ServerFirst, "FTP"),
    ("ssh", Protocol::ServerFirst, "SSH"),
    ("sftp", Protocol::ServerFirst, "SFTP"),
    ("nats", Protocol::ServerFirst, "NATS"),
    ("redis", Protocol::ClientFirst, "Redis"),
    ("valkey", Protocol::ClientFirst, "Valkey"),
    ("postgres", Protocol::ClientFirst, "PostgreSQL"),
    ("postgresql", Protocol::ClientFirst, "PostgreSQL"),
    ("mongo", Protocol::ClientFirst, "MongoDB"),
    ("mongodb", Protocol::ClientFirst, "MongoDB"),
    ("kafka", Protocol::ClientFirst, "Kafka"),
    ("amqp", Protocol::ClientFirst, "AMQP"),
    ("mqtt", Protocol::ClientFirst, "MQTT"),
    ("memcached", Protocol::ClientFirst, "memcached"),
    ("memcache", Protocol::ClientFirst, "memcached"),
    ("cql", Protocol::ClientFirst, "Cassandra"),
    ("cassandra", Protocol::ClientFirst, "Cassandra"),
    ("zookeeper", Protocol::ClientFirst, "ZooKeeper"),
    ("ldap", Protocol::ClientFirst, "LDAP"),
    ("dns", Protocol::ClientFirst, "DNS"),
    ("tcp", Protocol::Unknown, "TCP"),
];

/// Numbers that mean a protocol by custom.
const NUMBERS: [(u16, Protocol, &str); 22] = [
    (21, Protocol::ServerFirst, "FTP"),
    (22, Protocol::ServerFirst, "SSH"),
    (25, Protocol::ServerFirst, "SMTP"),
    (53, Protocol::ClientFirst, "DNS"),
    (80, Protocol::Http, "HTTP"),
    (110, Protocol::ServerFirst, "POP3"),
    (143, Protocol::ServerFirst, "IMAP"),
    (443, Protocol::Tls, "HTTPS"),
    (587, Protocol::ServerFirst, "SMTP"),
    (636, Protocol::Tls, "LDAP in TLS"),
    (1433, Protocol::ClientFirst, "SQL Server"),
    (3306, Protocol::ServerFirst, "MySQL"),
    (4222, Protocol::ServerFirst, "NATS"),
    (4444, Protocol::ClientFirst, "Galera"),
    (5432, Protocol::ClientFirst, "PostgreSQL"),
    (5672, Protocol::ClientFirst, "AMQP"),
    (6379, Protocol::ClientFirst, "Redis"),
    (8443, Protocol::Tls, "HTTPS"),
    (9092, Protocol::ClientFirst, "Kafka"),
    (9300, Protocol::ClientFirst, "Elasticsearch among its nodes"),
    (11_211, Protocol::ClientFirst, "memcached"),
    (27_017, Protocol::ClientFirst, "MongoDB"),
];

/// Returns what a TCP port carries: as a Service's `appProtocol` says, else the port's name, else its
/// number. The first of them that says something known decides.
pub(super) fn expected(app_protocol: Option<&str>, name: Option<&str>, number: u16) -> Expected {
    let known = |(protocol, name): (Protocol, &'static str), evidence| Expected {
        protocol,
        name,
        evidence,
    };
    if let Some(found) = app_protocol.and_then(of_app_protocol) {
        return known(found, Evidence::AppProtocol);
    }
    if let Some(found) = name.and_then(of_name) {
        return known(found, Evidence::PortName);
    }
    let number = NUMBERS.into_iter().find(|(known, ..)| *known == number);
    match number {
        Some((_, protocol, name)) => known((protocol, name), Evidence::PortNumber),
        None => known((Protocol::Unknown, "TCP"), Evidence::None),
    }
}

/// `kubernetes.io/h2c` and `h2c` are the same.
fn of_app_protocol(word: &str) -> Option<(Protocol, &'static str)> {
    let word = word.to_ascii_lowercase();
    of_word(word.strip_prefix("kubernetes.io/").unwrap_or(&word))
}

/// The part up to the first dash decides, unless the whole name is known.
fn of_name(name: &str) -> Option<(Protocol, &'static str)> {
    let name = name.to_ascii_lowercase();
    let first = name.split('-').next().unwrap_or(&name);
    let last = name.rsplit('-').next().unwrap_or(&name);
    of_word(first).or_else(|| of_word(last))
}

fn of_word(word: &str) -> Option<(Protocol, &'static str)> {
    let mut words = WORDS.into_iter();
    let (_, protocol, name) = words.find(|(known, ..)| *known == word)?;
    Some((protocol, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_knows_best_then_the_name_then_the_number() {
        for (app_protocol, name, number, expected_name, evidence) in [
            (
                Some("kubernetes.io/h2c"),
                Some("mysql"),
                3306,
                "HTTP/2",
                Evidence::AppProtocol,
            ),
            (
                Some("example.com/own"),
                Some("grpc"),
                3306,
                "gRPC",
                Evidence::PortName,
            ),
            (None, Some("http-alt"), 3306, "HTTP", Evidence::PortName),
            (None, Some("admin-http"), 9990, "HTTP", Evidence::PortName),
            (None, Some("db"), 3306, "MySQL", Evidence::PortNumber),
            (None, None, 9999, "TCP", Evidence::None),
        ] {
            let found = expected(app_protocol, name, number);
            assert_eq!((found.name, found.evidence), (expected_name, evidence));
        }
    }

    #[test]
    fn no_word_is_there_twice() {
        let mut words = WORDS.map(|(word, ..)| word).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), WORDS.len());
    }
}
