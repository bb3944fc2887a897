//! A Kubernetes API that is played, over plain HTTP. Entries: [`Running::with`], [`Cluster::run`].

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use linkerd_names::ports;
use serde::Deserialize as _;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{control_plane, objects, port_forward};

/// Nobody listens there, and no test is given the port.
pub(crate) const CLOSED: &str = "127.0.0.1:1";

/// What a path is answered with: a status code and an object.
pub(crate) type Answer = (u16, Value);

/// What is there, and answers by heart to other questions.
#[derive(Clone, Default)]
pub(crate) struct Cluster {
    /// They are listed, selected and got.
    pub(crate) objects: Vec<Value>,
    /// By path, without the query; before the objects.
    pub(crate) answers: BTreeMap<String, Answer>,
    /// Answers of the first question for a path, before those above.
    pub(crate) at_first: BTreeMap<String, Answer>,
    /// What may not be created, whatever the answer to access reviews is else: `clusterroles`.
    pub(crate) refused: BTreeSet<&'static str>,
    /// What proxies have at `/metrics`, by the path of the port-forward to them.
    pub(crate) proxies: BTreeMap<String, &'static str>,
    /// Where port-forwards to these ports of any other pod lead.
    pub(crate) forwards: BTreeMap<u16, SocketAddr>,
    /// How many of them are open.
    pub(crate) open_forwards: Arc<AtomicUsize>,
    /// What the header `Date` of answers says; none: there is no such header.
    pub(crate) time: Option<SystemTime>,
    /// What `linkerd-api` says of what it depends on; none: it does not answer.
    pub(crate) self_check: Option<Vec<(&'static str, Result<(), &'static str>)>>,
    /// Why `linkerd-api` cannot check itself, when it cannot.
    pub(crate) api_problem: Option<&'static str>,
    /// The version that `linkerd-api` says it has.
    pub(crate) version: String,
    /// What `linkerd-api` answers to whoever asks for traffic or pods.
    pub(crate) figures: Figures,
}

/// What `linkerd-api` answers to questions about the mesh.
#[derive(Clone, Copy, Default)]
pub(crate) enum Figures {
    /// That it does not know the question, as one of an earlier version does.
    #[default]
    Unknown,
    /// An error that names the namespace which it was asked about.
    Namespace,
    /// Two pods of the namespace `shop`, of which the one that is meshed has the label `app=web`.
    Pods,
    /// The same of a version that knows no labels.
    PodsOfEarlier,
    /// Events of a tap, as fast as they are read, without end.
    Events,
    /// So many edges, as of pods.
    Edges(usize),
}

/// A cluster that answers as long as the test runs.
pub(crate) struct Running {
    kubeconfig: NamedTempFile,
    pub(crate) open_forwards: Arc<AtomicUsize>,
}

/// What a run of the program left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Cluster {
    /// Answers `path` with an object.
    pub(crate) fn has(&mut self, path: &str, object: Value) {
        self.answers.insert(path.to_owned(), (200, object));
    }

    /// Answers `path` with a list of these objects.
    pub(crate) fn lists(&mut self, path: &str, items: Vec<Value>) {
        self.has(path, list(items));
    }

    /// Refuses `path` for missing rights.
    pub(crate) fn forbids(&mut self, path: &str) {
        self.answers
            .insert(path.to_owned(), status(403, "Forbidden"));
    }

    /// Forgets `path`: nothing is there.
    pub(crate) fn lacks(&mut self, path: &str) {
        let absent = status(404, "NotFound");
        self.answers.insert(path.to_owned(), absent);
    }

    /// The answer to an access review, when what it asks for is refused.
    fn refuses(&self, review: &[u8]) -> Option<Answer> {
        let review: Value = serde_json::from_slice(review).ok()?;
        let resource = review["spec"]["resourceAttributes"]["resource"].as_str()?;
        let refused = self.refused.contains(resource);
        refused.then(|| (200, json!({"spec": {}, "status": {"allowed": false}})))
    }

    /// Runs `linkerd` with `arguments` against this cluster and its control plane.
    pub(crate) fn run(self, arguments: &[&str]) -> Run {
        let api = control_plane::serve(&self);
        let arguments = [arguments, &["--api-addr", &api]].concat();
        self.start().linkerd(&arguments)
    }

    /// Begins to answer, with its control plane in a pod that port-forwards lead to.
    pub(crate) fn start_with_control_plane(mut self) -> Running {
        let api = control_plane::serve(&self).parse().expect("an address");
        self.forwards.insert(ports::API, api);
        let pod = json!({
            "metadata": {"name": "linkerd-api-1"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        self.lists("/api/v1/namespaces/linkerd/pods", vec![pod]);
        self.start()
    }

    /// Begins to answer.
    pub(crate) fn start(self) -> Running {
        let open_forwards = self.open_forwards.clone();
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let server = format!("http://{}", listener.local_addr().expect("bound"));
        let cluster = Arc::new(Mutex::new(self));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let cluster = cluster.clone();
                // The program ends connections as it likes.
                std::thread::spawn(move || {
                    serve(&connection.expect("a connection"), &cluster).ok()
                });
            }
        });
        Running {
            kubeconfig: kubeconfig(&server),
            open_forwards,
        }
    }
}

impl Running {
    /// One that has the objects of `manifests`, YAML documents.
    pub(crate) fn with(manifests: &str) -> Self {
        let objects = serde_yaml::Deserializer::from_str(manifests)
            .map(|document| Value::deserialize(document).expect("YAML"))
            .filter(Value::is_object);
        let cluster = Cluster {
            objects: objects.collect(),
            ..Cluster::default()
        };
        cluster.start()
    }

    /// The program `linkerd`, which talks to this cluster.
    pub(crate) fn command(&self) -> Command {
        linkerd(self.kubeconfig.path())
    }

    /// Runs `linkerd` with `arguments`.
    pub(crate) fn linkerd(&self, arguments: &[&str]) -> Run {
        run(self.command().args(arguments))
    }
}

/// Credentials for the Kubernetes API at this address: in no namespace, and by another context in `shop`.
pub(crate) fn kubeconfig(server: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "not-a-secret"}}],
        "contexts": [
            {"name": "c", "context": {"cluster": "c", "user": "u"}},
            {"name": "shop", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
        ],
    });
    serde_json::to_writer(&file, &config).expect("writable");
    file
}

/// The program `linkerd` with these credentials.
pub(crate) fn linkerd(kubeconfig: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkerd"));
    command.env_clear().env("KUBECONFIG", kubeconfig);
    command
}

/// Runs a program with nothing on stdin.
pub(crate) fn run(command: &mut Command) -> Run {
    let command = command.stdin(Stdio::null());
    let output = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Run {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// What a run that ended well printed.
pub(crate) fn success(run: Run) -> String {
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    run.stdout
}

/// Why a run did nothing.
pub(crate) fn refusal(run: Run) -> String {
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
    run.stderr
}

/// A list of objects as Kubernetes answers.
pub(crate) fn list(items: Vec<Value>) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// Why Kubernetes does not do what it is asked for.
pub(crate) fn status(code: u16, reason: &str) -> Answer {
    let object = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code,
    });
    (code, object)
}

/// The port of a port-forward that is asked for.
fn forwarded_port(target: &str) -> Option<u16> {
    let (path, query) = target.split_once('?')?;
    let mut flags = form_urlencoded::parse(query.as_bytes());
    let (_, port) = flags.find(|(name, _)| name == "ports")?;
    path.ends_with("/portforward").then(|| port.parse().ok())?
}

/// Answers the requests of one connection.
fn serve(mut connection: &TcpStream, cluster: &Mutex<Cluster>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let target = head.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let ((code, object), time, proxy, forward) = {
            let mut cluster = cluster.lock().expect("no panic");
            let first = cluster.at_first.remove(path);
            let refused = || cluster.refuses(&body);
            let answer = first.or_else(refused);
            let answer = answer.or_else(|| cluster.answers.get(path).cloned());
            let answer = answer.unwrap_or_else(|| objects::answer(target, &cluster.objects));
            let proxy = cluster.proxies.get(path).copied();
            let forward = forwarded_port(target).and_then(|port| {
                let to = *cluster.forwards.get(&port)?;
                Some((port, to, cluster.open_forwards.clone()))
            });
            (answer, cluster.time, proxy, forward)
        };
        if let Some(metrics) = proxy {
            return port_forward::serve(connection, &head, metrics);
        }
        if let Some((port, to, open)) = forward {
            open.fetch_add(1, Ordering::SeqCst);
            let ended = port_forward::relay(connection, &head, port, to);
            open.fetch_sub(1, Ordering::SeqCst);
            return ended;
        }
        let body = object.to_string();
        let date = time.map(|time| format!("Date: {}\r\n", httpdate::fmt_http_date(time)));
        write!(
            connection,
            "HTTP/1.1 {code} Answer\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            date.unwrap_or_default(),
            body.len()
        )?;
    }
}
