//! A pod and a peer for one test: two network namespaces with a wire between them.
//! Entry: [`in_a_pod`]. The test runs again in a process of its own inside the pod's namespace;
//! both namespaces go when their last process ends.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use socket2::SockRef;

/// Set for the process that is in the pod's namespace.
const INSIDE: &str = "LINKERD_INIT_TEST_INSIDE";
/// How long a connection within the machine may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pod's addresses, IPv4 and IPv6; the peer's end with `1`.
pub(crate) const POD: [&str; 2] = ["10.99.0.2", "fd00:99::2"];
/// The peer's addresses.
pub(crate) const PEER: [&str; 2] = ["10.99.0.1", "fd00:99::1"];
/// Addresses behind the peer, such as those of Services: nobody has them.
pub(crate) const ELSEWHERE: [&str; 2] = ["192.0.2.7", "2001:db8::7"];

/// The test's own namespace, with an interface `eth0` whose other end is in the peer's.
pub(crate) struct Pod {
    peer: Child,
}

/// Runs `test`, a closure within a test function, in a fresh pod, or says on stderr why it cannot.
pub(crate) fn in_a_pod<F: FnOnce(&Pod)>(test: F) {
    let name = test_name::<F>();
    if std::env::var_os(INSIDE).is_some() {
        return test(&Pod::start());
    }
    if let Some(reason) = obstacle() {
        let line = format!("skipped: {name}: {reason}\n");
        // Not eprintln!, which the test harness would keep to itself.
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let output = Command::new("unshare")
        .args(["--net", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "no test is named {name}: {text}");
}

/// The test's name for the harness: `netns::running::claim::{{closure}}` lies in `running::claim`.
fn test_name<F>() -> &'static str {
    let path = std::any::type_name::<F>();
    let (_, path) = path.split_once("::").unwrap();
    path.strip_suffix("::{{closure}}").unwrap()
}

fn obstacle() -> Option<String> {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return Some("needs root".to_owned());
    }
    let tools = [
        "unshare",
        "nsenter",
        "setpriv",
        "ip",
        "bash",
        "iptables-nft-save",
    ];
    for tool in tools {
        if let Err(error) = Command::new(tool).arg("--version").output() {
            return Some(format!("cannot run {tool}: {error}"));
        }
    }
    let namespace = Command::new("unshare")
        .args(["--net", "--mount", "true"])
        .output()
        .unwrap();
    (!namespace.status.success()).then(|| text(&namespace))
}

impl Pod {
    fn start() -> Self {
        // The peer's namespace lives as long as this process keeps its end of the pipe.
        let mut peer = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(peer.stdout.as_mut().unwrap())
            .read_line(&mut ready)
            .unwrap();
        assert_eq!(ready, "ready\n");

        let pod = Self { peer };
        let peer_id = pod.peer.id();
        run("ip link set lo up");
        run(&format!(
            "ip link add eth0 type veth peer name eth0 netns {peer_id}"
        ));
        pod.run_in_peer("ip link set lo up");
        for at in 0..2 {
            let length = ["/24", "/64 nodad"][at];
            run(&format!("ip address add {}{length} dev eth0", POD[at]));
            pod.run_in_peer(&format!("ip address add {}{length} dev eth0", PEER[at]));
        }
        pod.run_in_peer("ip link set eth0 up");
        run("ip link set eth0 up");
        run(&format!("ip -4 route add default via {}", PEER[0]));
        run(&format!("ip -6 route add default via {}", PEER[1]));
        pod
    }

    fn run_in_peer(&self, command: &str) {
        run(&format!(
            "nsenter --net=/proc/{}/ns/net {command}",
            self.peer.id()
        ));
    }

    /// Connects from the peer and hangs up at once. True when somebody accepted.
    pub(crate) fn peer_connects_to(&self, address: &str, port: u16) -> bool {
        let namespace = format!("--net=/proc/{}/ns/net", self.peer.id());
        connects(Command::new("nsenter").arg(namespace), address, port)
    }

    /// Connects as the proxy's user. True when somebody accepted.
    pub(crate) fn proxy_connects_to(&self, address: &str, port: u16) -> bool {
        let user = ["--reuid=2102", "--regid=2102", "--clear-groups"];
        connects(Command::new("setpriv").args(user), address, port)
    }

    /// Connects as an application. True when somebody accepted.
    pub(crate) fn app_connects_to(&self, address: &str, port: u16) -> bool {
        let address = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
        TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(self.peer.stdin.take());
        self.peer.wait().unwrap();
    }
}

/// Lets bash connect, through the command that brings it to its place.
fn connects(through: &mut Command, address: &str, port: u16) -> bool {
    let output = through
        .args(["bash", "-c", &format!("exec 3<>/dev/tcp/{address}/{port}")])
        .output()
        .unwrap();
    let text = text(&output);
    assert!(
        output.status.success() || text.contains("Connection refused"),
        "{text}"
    );
    output.status.success()
}

/// A listener in the pod.
pub(crate) struct Listener(TcpListener);

impl Listener {
    pub(crate) fn bind(address: &str, port: u16) -> Self {
        let address = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    /// Where the next waiting connection was going before it was redirected; none when no
    /// connection waits. A connection that was not redirected was going to this listener.
    pub(crate) fn next_destination(&self) -> Option<SocketAddr> {
        let (stream, _) = match self.0.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        };
        let socket = SockRef::from(&stream);
        let original = if stream.local_addr().unwrap().is_ipv4() {
            socket.original_dst_v4()
        } else {
            socket.original_dst_v6()
        };
        Some(original.map_or(stream.local_addr().unwrap(), |found| {
            found.as_socket().unwrap()
        }))
    }
}

/// The same address and port as [`Listener::next_destination`] gives it.
pub(crate) fn destination(address: &str, port: u16) -> Option<SocketAddr> {
    Some(SocketAddr::new(address.parse::<IpAddr>().unwrap(), port))
}

/// Runs `linkerd-init` with `flags`.
pub(crate) fn init(flags: &str) -> Output {
    init_command(flags).output().unwrap()
}

/// `linkerd-init` with `flags`, to be run.
pub(crate) fn init_command(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkerd-init"));
    command.args(flags.split_whitespace());
    command
}

/// Every rule of table `nat`, both families and both packet filters, without counters and dates.
pub(crate) fn rules() -> Vec<String> {
    let mut rules = Vec::new();
    for tool in [
        "iptables-nft",
        "ip6tables-nft",
        "iptables-legacy",
        "ip6tables-legacy",
    ] {
        let saved = run(&format!("{tool}-save -t nat"));
        rules.extend(
            saved
                .lines()
                .filter(|line| line.starts_with("-A"))
                .map(|line| format!("{tool} {line}")),
        );
    }
    rules
}

/// Runs a command that must succeed, and returns its stdout.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Both outputs of a process.
pub(crate) fn text(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    format!("{stdout}{}", String::from_utf8_lossy(&output.stderr))
}
