//! A Kubernetes API and a `linkerd-api` that are answers by heart: paths and objects, nothing behind them.
//! Entries: [`Cluster::serve`], [`Cluster::run`].

mod port_forward;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use linkerd_proto::public::{
    CheckResult, CheckStatus, EdgesRequest, EdgesResponse, Empty, ListPodsRequest,
    ListPodsResponse, SelfCheckRequest, SelfCheckResponse, StatSummaryRequest, StatSummaryResponse,
    TapByResourceRequest, TapByResourceResponse, VersionInfo,
    api_server::{Api, ApiServer},
};
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

/// What a path is answered with: a status code and an object.
pub(crate) type Answer = (u16, Value);

/// The answers. What has none is an empty list, or `not found` when it is one object.
#[derive(Clone, Default)]
pub(crate) struct Cluster {
    /// By path, without the query.
    pub(crate) answers: BTreeMap<String, Answer>,
    /// Answers of the first question for a path, before those above.
    pub(crate) at_first: BTreeMap<String, Answer>,
    /// What may not be created, whatever the answer to access reviews is else: `clusterroles`.
    pub(crate) refused: BTreeSet<&'static str>,
    /// What proxies have at `/metrics`, by the path of the port-forward to them.
    pub(crate) proxies: BTreeMap<String, &'static str>,
    /// What the header `Date` of answers says; none: there is no such header.
    pub(crate) time: Option<SystemTime>,
    /// What `linkerd-api` says of what it depends on; none: it does not answer.
    pub(crate) self_check: Option<Vec<(&'static str, Result<(), &'static str>)>>,
    /// Why `linkerd-api` cannot check itself, when it cannot.
    pub(crate) api_problem: Option<&'static str>,
    /// The version that `linkerd-api` says it has.
    pub(crate) version: String,
}

/// What a run of the program left behind.
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
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
            .insert(path.to_owned(), refusal(403, "Forbidden"));
    }

    /// Forgets `path`: nothing is there.
    pub(crate) fn lacks(&mut self, path: &str) {
        let absent = refusal(404, "NotFound");
        self.answers.insert(path.to_owned(), absent);
    }

    /// The answer to an access review, when what it asks for is refused.
    fn refuses(&self, review: &[u8]) -> Option<Answer> {
        let review: Value = serde_json::from_slice(review).ok()?;
        let resource = review["spec"]["resourceAttributes"]["resource"].as_str()?;
        let refused = self.refused.contains(resource);
        refused.then(|| (200, json!({"spec": {}, "status": {"allowed": false}})))
    }

    /// Runs `linkerd` with `arguments` against this cluster.
    pub(crate) fn run(self, arguments: &[&str]) -> Run {
        let kubernetes = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let server = format!("http://{}", kubernetes.local_addr().expect("bound"));
        let file = tempfile::NamedTempFile::new_in(PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
        let file = file.expect("writable");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "x"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        serde_json::to_writer(&file, &config).expect("writable");
        let api = self.serve_api();
        let answers = Arc::new(Mutex::new(self));
        std::thread::spawn(move || {
            for connection in kubernetes.incoming() {
                let answers = answers.clone();
                // The program ends connections as it likes.
                std::thread::spawn(move || {
                    serve(&connection.expect("a connection"), &answers).ok()
                });
            }
        });
        let output = Command::new(env!("CARGO_BIN_EXE_linkerd"))
            .args(arguments)
            .env_clear()
            .env("KUBECONFIG", file.path())
            .args(["--api-addr", &api])
            .output()
            .expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Run {
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            code: output.status.code(),
        }
    }

    /// Starts `linkerd-api` and returns its address; one where nobody is when it shall not answer.
    fn serve_api(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound").to_string();
        let Some(results) = self.self_check.clone() else {
            return address;
        };
        let answers = ControlPlane {
            results,
            problem: self.api_problem,
            version: self.version.clone(),
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async move {
                listener.set_nonblocking(true).expect("a socket");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                let incoming = tonic::transport::server::TcpIncoming::from(listener);
                let server =
                    tonic::transport::Server::builder().add_service(ApiServer::new(answers));
                server
                    .serve_with_incoming(incoming)
                    .await
                    .expect("it serves");
            });
        });
        address
    }
}

/// A list of objects as Kubernetes answers.
pub(crate) fn list(items: Vec<Value>) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
}

fn refusal(code: u16, reason: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code,
    });
    (code, status)
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
        let (answer, time, proxy) = {
            let mut cluster = cluster.lock().expect("no panic");
            let first = cluster.at_first.remove(path);
            let refused = || cluster.refuses(&body);
            let answer = first.or_else(refused);
            let answer = answer.or_else(|| cluster.answers.get(path).cloned());
            (answer, cluster.time, cluster.proxies.get(path).copied())
        };
        if let Some(metrics) = proxy {
            return port_forward::serve(connection, &head, metrics);
        }
        let (code, object) = answer.unwrap_or_else(|| nothing(path));
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

/// The answer of an empty cluster: lists have plural names without an object's name after them.
fn nothing(path: &str) -> Answer {
    let segments = path.split('/').filter(|part| !part.is_empty()).count();
    let before_resource = if path.starts_with("/apis/") { 3 } else { 2 };
    let within = if path.contains("/namespaces/") { 2 } else { 0 };
    if segments == before_resource + within + 1 {
        (200, list(Vec::new()))
    } else {
        refusal(404, "NotFound")
    }
}

/// What `linkerd-api` answers.
struct ControlPlane {
    results: Vec<(&'static str, Result<(), &'static str>)>,
    problem: Option<&'static str>,
    version: String,
}

/// Only what `check` and `version` ask is answered.
fn unasked<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in this test"))
}

#[tonic::async_trait]
impl Api for ControlPlane {
    type TapByResourceStream = futures::stream::Empty<Result<TapByResourceResponse, Status>>;

    async fn version(&self, _: Request<Empty>) -> Result<Response<VersionInfo>, Status> {
        Ok(Response::new(VersionInfo {
            release_version: self.version.clone(),
            ..VersionInfo::default()
        }))
    }

    async fn self_check(
        &self,
        _: Request<SelfCheckRequest>,
    ) -> Result<Response<SelfCheckResponse>, Status> {
        if let Some(problem) = self.problem {
            return Err(Status::unavailable(problem));
        }
        let results = self.results.iter().map(|(subsystem, outcome)| CheckResult {
            subsystem_name: (*subsystem).to_owned(),
            check_description: format!("control plane can talk to {subsystem}"),
            status: match outcome {
                Ok(()) => CheckStatus::Ok.into(),
                Err(_) => CheckStatus::Error.into(),
            },
            friendly_message_to_user: outcome.err().unwrap_or_default().to_owned(),
        });
        Ok(Response::new(SelfCheckResponse {
            results: results.collect(),
        }))
    }

    async fn stat_summary(
        &self,
        _: Request<StatSummaryRequest>,
    ) -> Result<Response<StatSummaryResponse>, Status> {
        unasked()
    }

    async fn list_pods(
        &self,
        _: Request<ListPodsRequest>,
    ) -> Result<Response<ListPodsResponse>, Status> {
        unasked()
    }

    async fn tap_by_resource(
        &self,
        _: Request<TapByResourceRequest>,
    ) -> Result<Response<Self::TapByResourceStream>, Status> {
        unasked()
    }

    async fn edges(&self, _: Request<EdgesRequest>) -> Result<Response<EdgesResponse>, Status> {
        unasked()
    }
}
