//! The proxy's settings. Entry: [`Config::from_env`].
//! Every limit that production or a test might set otherwise stands in [`Limits`] with its reason, others beside what
//! they bound; nothing here opens a file or a socket.

use std::{
    collections::HashSet, fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration,
};

use linkerd_names::{Identity, OwnerKind, component, env, log_filter, ports};

mod parse;

use parse::Reader;

/// Everything that is configured from outside.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where connections of the application arrive.
    pub outbound_listener: SocketAddr,
    /// Where connections to the application arrive.
    pub inbound_listener: SocketAddr,
    /// Where tap listens.
    pub control_listener: SocketAddr,
    /// The only one who may tap through mesh TLS: `linkerd-api`.
    pub tap_identity: Option<Identity>,
    /// Where `/metrics`, `/live`, `/ready` and `/probe/tcp/<port>` are served.
    pub metrics_listener: SocketAddr,
    /// Inbound destination of a connection that was not redirected.
    pub inbound_forward: Option<SocketAddr>,
    /// Outbound destination of a connection that was not redirected.
    pub outbound_forward: Option<SocketAddr>,
    /// The destination service; without it nothing is looked up.
    pub control: Option<ControlAddress>,
    /// Mesh TLS; none when the proxy was injected without it.
    pub tls: Option<TlsSource>,
    /// Namespace of the pod.
    pub namespace: String,
    /// Inbound ports that are never parsed.
    pub inbound_opaque_ports: HashSet<u16>,
    /// Outbound ports that are never parsed.
    pub outbound_opaque_ports: HashSet<u16>,
    /// Ports of the application that kubelet asks the proxy about, each with the probe's timeout.
    pub tcp_probes: Vec<(u16, Duration)>,
    /// Filter of the log, which may be wrong: it is no reason not to start.
    pub log: String,
    /// Threads of the data path.
    pub cores: usize,
    /// Bounds of everything that could grow or wait.
    pub limits: Limits,
}

/// Address and identity of the destination service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlAddress {
    /// Name or IP.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whom to expect; none = plaintext.
    pub identity: Option<Identity>,
}

/// Where the credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSource {
    /// Files that somebody else writes.
    Files(TlsFiles),
    /// The identity service, for a key that is made here.
    Service(TlsService),
}

/// The identity service, and what it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsService {
    /// Name or IP.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whom to expect there.
    pub server: Identity,
    /// ServiceAccount token; read again for each question, because kubelet replaces it.
    pub token: PathBuf,
    /// Trust bundle, PEM.
    pub trust_anchors: PathBuf,
    /// The name that the certificate must carry.
    pub identity: Identity,
}

impl TlsSource {
    /// Whose credentials they are.
    pub fn identity(&self) -> &Identity {
        match self {
            Self::Files(files) => &files.identity,
            Self::Service(service) => &service.identity,
        }
    }
}

/// Where the credentials are, and whose they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Trust bundle, PEM.
    pub trust_anchors: PathBuf,
    /// Leaf certificate, DER.
    pub certificate: PathBuf,
    /// Private key, PKCS#8 DER.
    pub private_key: PathBuf,
    /// The name that the certificate must carry.
    pub identity: Identity,
}

/// Bounds. The defaults are what production uses; tests shorten some.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections that one listener serves at once; more wait in the kernel's backlog.
    pub connections_max: usize,
    /// One TCP connect to an endpoint that is not the only one. A pod that is gone answers with silence.
    pub connect_timeout: Duration,
    /// One to the only endpoint: the kernel sends a SYN again after one and three seconds, and one that is
    /// lost must not fail what nobody else can answer.
    pub lone_connect_timeout: Duration,
    /// One mesh handshake; a healthy one takes 2 ms and a round trip.
    pub handshake_timeout: Duration,
    /// A mesh handshake as the server. Longer than the client's bound, so that the client decides.
    pub accept_timeout: Duration,
    /// First pause after a failed handshake; it doubles up to [`Self::handshake_backoff_max`].
    pub handshake_backoff_min: Duration,
    /// Longest pause after failed handshakes: so long a repaired peer may stay in plaintext.
    pub handshake_backoff_max: Duration,
    /// How long the first connection to an address may wait for the destination service.
    pub discovery_timeout: Duration,
    /// How long a request may wait for a Service without endpoints to get one.
    pub endpoint_wait: Duration,
    /// Finding and reaching an endpoint for one request or one connection of bytes, all attempts together.
    pub bind_timeout: Duration,
    /// Endpoints that are tried for one request before its error is told.
    pub attempts_max: usize,
    /// Connects to an endpoint that fail in a row until it is left alone. One: each may cost a client
    /// the whole timeout, and a connect is cheap to try again.
    pub connect_failures_max: u8,
    /// Responses of an endpoint that fail in a row until it is left alone; some applications answer
    /// single requests with 5xx and are well.
    pub response_failures_max: u8,
    /// How long an endpoint is left alone before one request probes it: at first, and at most after
    /// failed probes. Up to half is taken off by lot.
    pub ejection_pause: (Duration, Duration),
    /// Outbound targets remembered at once.
    pub targets_max: usize,
    /// A target that nobody has used for so long is forgotten.
    pub target_idle: Duration,
    /// Pause between attempts to reach the destination service, first and longest.
    pub control_backoff: (Duration, Duration),
    /// Bytes that are read to tell the protocol; a longer request line is not HTTP to us.
    pub detect_bytes_max: usize,
    /// Bytes of a ClientHello, over all its records; ML-KEM makes it 1.5 kB, certificates never add to it.
    pub client_hello_bytes_max: usize,
    /// A client that stops amid what could become an HTTP request line speaks something else.
    pub detect_partial_timeout: Duration,
    /// A ClientHello that is not complete after this goes to the application as it came.
    pub client_hello_timeout: Duration,
    /// How long the early dial waits for a client that usually speaks first.
    pub early_dial_delay: Duration,
    /// How long a silent client of a server that cannot be reached may still speak.
    pub unreachable_grace: Duration,
    /// So long after its arrival a client may still begin a mesh handshake although the application has
    /// spoken: the ClientHello of a proxy is under way when its connection arrives, and a busy
    /// machine delays it. Only the greeting of a server that speaks first is held back so long, and
    /// only from clients without a proxy.
    pub hello_grace: Duration,
    /// So long a client of HTTP/2 may stay silent after its server has spoken.
    pub http2_grace: Duration,
    /// Idle HTTP/1 connections kept for one endpoint.
    pub idle_connections_max: usize,
    /// An idle HTTP/1 connection is closed after this: below the keep-alive of common servers (5 s).
    pub idle_connection_age: Duration,
    /// Streams of one connection that many clients share; with more another connection is made, so
    /// that a lost packet does not halt everybody.
    pub shared_streams_max: usize,
    /// A shared connection without streams is closed after this, one of HTTP/2 within twice of it.
    pub shared_idle: Duration,
    /// HTTP/2 connections to one endpoint; another is made when all streams are in use.
    pub h2_connections_max: usize,
    /// Streams of one HTTP/2 client.
    pub h2_streams_max: u32,
    /// The same at the port of the destination service, which a proxy asks about each of its targets by a
    /// stream of one connection: that of Prometheus has so many, and the service itself takes as many.
    pub discovery_streams_max: u32,
    /// Bytes of an HTTP/2 request's first frame of data, which is kept in case the endpoint refuses the
    /// request: what such a frame carries by default, and more than most gRPC calls have.
    pub h2_kept_bytes_max: usize,
    /// Decoded headers of one HTTP/2 message, bytes.
    pub h2_header_list_bytes_max: u32,
    /// Between two PINGs to a client of the inbound HTTP/2 server: one that has vanished without a
    /// word, or never finishes what it has begun, is found by its silence.
    pub h2_ping_interval: Duration,
    /// How long the answer to such a PING may take.
    pub h2_ping_timeout: Duration,
    /// Head of an HTTP/1 message, bytes; also its trailers, and what a client sends ahead of its turn.
    pub h1_head_bytes_max: usize,
    /// An inbound HTTP/1 connection is closed on which no request has begun for so long.
    pub h1_idle_timeout: Duration,
    /// Time from the first byte of an HTTP/1 request to the last one of its head.
    pub h1_partial_head_timeout: Duration,
    /// Different values of the label `authority`; further ones are counted as `other`.
    pub authorities_max: usize,
    /// Different routes of HTTP, each with its counters and histograms (1 kB); further ones are
    /// counted as one.
    pub routes_max: usize,
    /// Series that nobody has touched for so long are dropped.
    pub metrics_idle: Duration,
    /// Calls of tap at once: each costs every request a look.
    pub taps_max: usize,
    /// Events that wait for one tap's client; further ones are lost to it.
    pub tap_events_max: usize,
    /// Header fields that one event of tap reports.
    pub tap_headers_max: usize,
    /// Bytes of the names and values of these.
    pub tap_headers_bytes_max: usize,
    /// How often the credentials' files are compared with what is loaded.
    pub credentials_poll: Duration,
    /// One question to the identity service, from the name lookup to the answer.
    pub certify_timeout: Duration,
    /// Pause before the identity service is asked again, first and longest. The longest is short beside
    /// a third of a certificate's life.
    pub certify_backoff: (Duration, Duration),
    /// How long `/ready` waits for the first certificate.
    pub ready_timeout: Duration,
    /// How long connections may go on after SIGTERM; Kubernetes kills after 30 s.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            connect_timeout: Duration::from_secs(1),
            lone_connect_timeout: Duration::from_secs(4),
            handshake_timeout: Duration::from_secs(1),
            accept_timeout: Duration::from_secs(2),
            handshake_backoff_min: Duration::from_secs(1),
            handshake_backoff_max: Duration::from_secs(60),
            discovery_timeout: Duration::from_secs(3),
            endpoint_wait: Duration::from_secs(3),
            bind_timeout: Duration::from_secs(10),
            attempts_max: 3,
            connect_failures_max: 1,
            response_failures_max: 7,
            ejection_pause: (Duration::from_secs(1), Duration::from_secs(60)),
            targets_max: 1_000,
            target_idle: Duration::from_secs(600),
            control_backoff: (Duration::from_millis(100), Duration::from_secs(10)),
            detect_bytes_max: 8 * 1024,
            client_hello_bytes_max: 16 * 1024,
            detect_partial_timeout: Duration::from_millis(500),
            client_hello_timeout: Duration::from_secs(10),
            early_dial_delay: Duration::from_millis(3),
            unreachable_grace: Duration::from_secs(1),
            hello_grace: Duration::from_millis(3),
            http2_grace: Duration::from_secs(1),
            idle_connections_max: 256,
            idle_connection_age: Duration::from_secs(4),
            shared_streams_max: 128,
            shared_idle: Duration::from_secs(300),
            h2_connections_max: 64,
            h2_streams_max: 1_024,
            discovery_streams_max: 10_000,
            h2_kept_bytes_max: 16 * 1024,
            h2_header_list_bytes_max: 64 * 1024,
            h2_ping_interval: Duration::from_secs(60),
            h2_ping_timeout: Duration::from_secs(20),
            h1_head_bytes_max: 64 * 1024,
            h1_idle_timeout: Duration::from_secs(3600),
            h1_partial_head_timeout: Duration::from_secs(60),
            authorities_max: 500,
            routes_max: 2_000,
            metrics_idle: Duration::from_secs(600),
            taps_max: 16,
            tap_events_max: 100,
            tap_headers_max: 64,
            tap_headers_bytes_max: 8 * 1024,
            credentials_poll: Duration::from_millis(500),
            certify_timeout: Duration::from_secs(10),
            certify_backoff: (Duration::from_millis(200), Duration::from_secs(60)),
            ready_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(25),
        }
    }
}

/// Reads a duration as all settings write it: `300ms`, `10s`, `5m`, `1h`, `1d` or `0`.
///
/// # Errors
/// One word, when the text is not a duration.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse::duration(text)
}

/// What is wrong with the environment: every fault, one a line.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidConfig(pub Vec<String>);

impl Config {
    /// Reads the settings; `lookup` answers with a variable's value.
    ///
    /// # Errors
    /// [`InvalidConfig`] lists every variable that is wrong or missing.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidConfig> {
        let mut reader = Reader::new(lookup);
        let mut limits = Limits::default();
        if let Some(timeout) = reader.optional(env::BIND_TIMEOUT, parse::duration) {
            limits.bind_timeout = timeout;
        }
        if let Some(capacity) = reader.optional(env::OUTBOUND_ROUTER_CAPACITY, parse::number) {
            limits.targets_max = capacity;
        }
        let namespace = reader.required(env::POD_NAMESPACE).unwrap_or_default();
        let listener = |reader: &mut Reader<_>, name, ip: [u8; 4], port| {
            reader
                .optional(name, parse::listener)
                .unwrap_or_else(|| SocketAddr::from((ip, port)))
        };
        let config = Self {
            outbound_listener: listener(
                &mut reader,
                env::PRIVATE_LISTENER,
                [127, 0, 0, 1],
                ports::PROXY_OUTBOUND,
            ),
            inbound_listener: listener(
                &mut reader,
                env::PUBLIC_LISTENER,
                [0; 4],
                ports::PROXY_INBOUND,
            ),
            control_listener: listener(
                &mut reader,
                env::CONTROL_LISTENER,
                [0; 4],
                ports::PROXY_CONTROL,
            ),
            metrics_listener: listener(
                &mut reader,
                env::METRICS_LISTENER,
                [127, 0, 0, 1],
                ports::PROXY_METRICS,
            ),
            tap_identity: reader.optional(env::CONTROLLER_NAMESPACE, tap_identity),
            inbound_forward: reader.optional(env::PRIVATE_FORWARD, parse::listener),
            outbound_forward: reader.optional(env::PUBLIC_FORWARD, parse::listener),
            control: control(&mut reader),
            tls: tls(&mut reader, &namespace),
            namespace,
            inbound_opaque_ports: reader
                .optional(env::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION, parse::ports)
                .unwrap_or_default(),
            outbound_opaque_ports: reader
                .optional(env::OUTBOUND_PORTS_DISABLE_PROTOCOL_DETECTION, parse::ports)
                .unwrap_or_default(),
            tcp_probes: reader
                .optional(env::TCP_PROBES, parse::tcp_probes)
                .unwrap_or_default(),
            log: reader
                .text(env::LOG)
                .unwrap_or_else(|| log_filter::DEFAULT.to_owned()),
            cores: reader
                .optional(env::CORES, parse::number)
                .unwrap_or(1)
                .max(1),
            limits,
        };
        reader.finish().map(|()| config).map_err(InvalidConfig)
    }
}

/// The destination service. Its identity is dropped where the connection stays within the pod.
fn control<L: Fn(&str) -> Option<String>>(reader: &mut Reader<L>) -> Option<ControlAddress> {
    let (host, port) = reader.optional(env::CONTROL_URL, parse::host_and_port)?;
    let identity = reader.optional(env::TLS_CONTROLLER_IDENTITY, identity);
    let loopback = host == "localhost."
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    Some(ControlAddress {
        host,
        port,
        identity: identity.filter(|_| !loopback),
    })
}

/// The credentials' source: the identity service when its address is set, files when a path is; TLS is
/// off when neither is. What is set only in part is an error.
fn tls<L: Fn(&str) -> Option<String>>(
    reader: &mut Reader<L>,
    namespace: &str,
) -> Option<TlsSource> {
    let files = [env::TLS_CERT, env::TLS_PRIVATE_KEY].map(|name| reader.text(name));
    let address = reader.text(env::IDENTITY_URL);
    let anchors = reader.text(env::TLS_TRUST_ANCHORS);
    let needed: &[&str] = match (&address, &files) {
        (Some(_), [None, None]) => &[
            env::TLS_TRUST_ANCHORS,
            env::IDENTITY_TOKEN_FILE,
            env::TLS_CONTROLLER_IDENTITY,
        ],
        (Some(_), _) => {
            reader.fault(format!(
                "{} and {} are not needed when {} is set.",
                env::TLS_CERT,
                env::TLS_PRIVATE_KEY,
                env::IDENTITY_URL
            ));
            return None;
        }
        (None, [None, None]) if anchors.is_none() => return None,
        (None, _) => &[env::TLS_TRUST_ANCHORS, env::TLS_CERT, env::TLS_PRIVATE_KEY],
    };
    for name in needed.iter().chain(&[env::TLS_POD_IDENTITY]) {
        if reader.text(name).is_none() {
            reader.fault(format!(
                "{name} is not set; it is required when TLS paths are set."
            ));
        }
    }
    let identity_text = reader
        .text(env::TLS_POD_IDENTITY)?
        .replace(env::POD_NAMESPACE_TOKEN, namespace);
    let identity = reader.parse(env::TLS_POD_IDENTITY, &identity_text, identity);
    let trust_anchors = PathBuf::from(anchors?);
    if address.is_none() {
        let [certificate, private_key] = files;
        return Some(TlsSource::Files(TlsFiles {
            trust_anchors,
            certificate: certificate?.into(),
            private_key: private_key?.into(),
            identity: identity?,
        }));
    }
    let address = reader.optional(env::IDENTITY_URL, parse::host_and_port);
    let server = reader.optional(env::TLS_CONTROLLER_IDENTITY, self::identity);
    let (host, port) = address?;
    Some(TlsSource::Service(TlsService {
        host,
        port,
        server: server?,
        token: reader.text(env::IDENTITY_TOKEN_FILE)?.into(),
        trust_anchors,
        identity: identity?,
    }))
}

fn tap_identity(namespace: &str) -> Result<Identity, String> {
    Identity::new(component::API, OwnerKind::Deployment, namespace, namespace)
        .map_err(|error| error.reason.to_owned())
}

fn identity(text: &str) -> Result<Identity, String> {
    Identity::from_str(text).map_err(|error| error.reason.to_owned())
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for InvalidConfig {}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, InvalidConfig> {
        let map: HashMap<String, String> = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Config::from_env(|name| map.get(name).cloned())
    }

    const FILES: [(&str, &str); 3] = [
        (env::TLS_TRUST_ANCHORS, "/a.pem"),
        (env::TLS_CERT, "/c.crt"),
        (env::TLS_PRIVATE_KEY, "/k.p8"),
    ];

    #[test]
    fn the_defaults_are_the_ports_of_the_names_crate() {
        let config = read(&[(env::POD_NAMESPACE, "ns")]).unwrap();
        assert_eq!(config.outbound_listener, "127.0.0.1:4140".parse().unwrap());
        assert_eq!(config.inbound_listener, "0.0.0.0:4143".parse().unwrap());
        assert!(config.tls.is_none());
        assert!(config.control.is_none());
    }

    #[test]
    fn the_pod_namespace_is_put_into_the_identity() {
        let identity =
            "web.deployment.$LINKERD2_PROXY_POD_NAMESPACE.linkerd-managed.l5d.svc.cluster.local";
        let mut variables = FILES.to_vec();
        variables.extend([
            (env::POD_NAMESPACE, "shop"),
            (env::TLS_POD_IDENTITY, identity),
        ]);
        let tls = read(&variables).unwrap().tls.unwrap();
        assert_eq!(
            tls.identity().as_str(),
            "web.deployment.shop.linkerd-managed.l5d.svc.cluster.local"
        );
    }

    #[test]
    fn partly_set_tls_is_an_error_that_names_what_is_missing() {
        let faults = read(&[(env::POD_NAMESPACE, "ns"), (env::TLS_CERT, "/c.crt")])
            .unwrap_err()
            .0;
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].starts_with(env::TLS_TRUST_ANCHORS));
    }

    const SERVICE: [(&str, &str); 6] = [
        (env::POD_NAMESPACE, "ns"),
        (env::IDENTITY_URL, "tcp://localhost.:8080"),
        (env::IDENTITY_TOKEN_FILE, "/token"),
        (env::TLS_TRUST_ANCHORS, "/a.pem"),
        (env::TLS_POD_IDENTITY, "me.deployment"),
        (env::TLS_CONTROLLER_IDENTITY, "destination.deployment"),
    ];

    #[test]
    fn the_identity_service_takes_the_place_of_the_files() {
        let tls = read(&SERVICE).unwrap().tls.unwrap();
        let TlsSource::Service(service) = tls else {
            panic!("{tls:?}")
        };
        assert_eq!((service.host.as_str(), service.port), ("localhost.", 8080));
        // Even within the pod it has to prove itself.
        assert_eq!(service.server.as_str(), "destination.deployment");
        assert_eq!(service.identity.as_str(), "me.deployment");
        assert_eq!(service.token, PathBuf::from("/token"));
    }

    #[test]
    fn a_partly_set_identity_service_is_an_error_that_names_what_is_missing() {
        for missing in 2..SERVICE.len() {
            let mut variables = SERVICE.to_vec();
            let (name, _) = variables.remove(missing);
            let faults = read(&variables).unwrap_err().0;
            assert!(
                faults.iter().any(|fault| fault.starts_with(name)),
                "{faults:?}"
            );
        }
        let both = [SERVICE.as_slice(), &[(env::TLS_CERT, "/c.crt")]].concat();
        assert_eq!(read(&both).unwrap_err().0.len(), 1);
    }

    #[test]
    fn a_lone_identity_leaves_tls_off() {
        let config = read(&[(env::POD_NAMESPACE, "ns"), (env::TLS_POD_IDENTITY, "a.b")]).unwrap();
        assert!(config.tls.is_none());
    }

    #[test]
    fn every_fault_is_told() {
        let faults = read(&[
            (env::BIND_TIMEOUT, "10"),
            (env::PUBLIC_LISTENER, "http://0.0.0.0:1"),
            (env::CONTROL_URL, "tcp://host"),
        ])
        .unwrap_err()
        .0;
        assert_eq!(
            faults,
            [
                "LINKERD2_PROXY_BIND_TIMEOUT=\"10\" is not valid: NotADuration",
                "LINKERD2_PROXY_POD_NAMESPACE is not set",
                "LINKERD2_PROXY_PUBLIC_LISTENER=\"http://0.0.0.0:1\" is not valid: UrlError(UnsupportedScheme)",
                "LINKERD2_PROXY_CONTROL_URL=\"tcp://host\" is not valid: UrlError(MissingPort)",
            ]
        );
    }

    #[test]
    fn the_controller_within_the_pod_needs_no_identity() {
        let url = |url| {
            read(&[
                (env::POD_NAMESPACE, "ns"),
                (env::CONTROL_URL, url),
                (env::TLS_CONTROLLER_IDENTITY, "c.deployment.x"),
            ])
            .unwrap()
            .control
            .unwrap()
        };
        assert_eq!(url("tcp://localhost.:8086").identity, None);
        assert_eq!(url("tcp://127.0.0.1:8086").identity, None);
        assert!(url("tcp://localhost:8086").identity.is_some());
        assert!(
            url("tcp://linkerd-destination.linkerd.svc.cluster.local:8086")
                .identity
                .is_some()
        );
    }
}
