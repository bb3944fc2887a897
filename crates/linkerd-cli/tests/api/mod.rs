//! A Kubernetes API that knows some objects and answers questions about them, over plain HTTP.
//! Entry: [`Api::with`]. It knows label and field selectors as far as the CLI uses them, and no writes.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::Arc,
};

use serde::Deserialize as _;
use serde_json::{Value, json};

/// A run of the program: exit code, stdout, stderr.
pub(crate) type Run = (Option<i32>, String, String);

/// An API server, as long as the test runs.
pub(crate) struct Api {
    folder: tempfile::TempDir,
}

impl Api {
    /// Starts one that has the objects of `manifests`, YAML documents.
    pub(crate) fn with(manifests: &str) -> Self {
        let objects = serde_yaml::Deserializer::from_str(manifests)
            .map(|document| Value::deserialize(document).expect("YAML"))
            .filter(Value::is_object);
        let objects: Arc<Vec<Value>> = Arc::new(objects.collect());
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let objects = Arc::clone(&objects);
                std::thread::spawn(move || serve(&connection, &objects));
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = format!(
            "apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]
users: [{{name: u, user: {{token: none}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
current-context: c
"
        );
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig).expect("writable");
        Self { folder }
    }

    /// The program `linkerd`, which talks to this API.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_linkerd"));
        let kubeconfig = self.folder.path().join("kubeconfig");
        command.env_clear().env("KUBECONFIG", kubeconfig);
        command
    }

    /// Runs `linkerd` with `arguments` and nothing on stdin.
    pub(crate) fn linkerd(&self, arguments: &[&str]) -> Run {
        run(self.command().args(arguments))
    }
}

/// Runs a program with nothing on stdin.
pub(crate) fn run(command: &mut Command) -> Run {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Answers one request after the other until the client goes away.
fn serve(connection: &TcpStream, objects: &[Value]) {
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    while let Some(request) = lines.next() {
        // No request has a body.
        while lines.next().is_some_and(|header| !header.is_empty()) {}
        let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, body) = answer(&target, objects);
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut connection = connection;
        if connection.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(target: &str, objects: &[Value]) -> (&'static str, Value) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (api_version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        _ => return ("404 Not Found", not_found()),
    };
    let (namespace, plural, name) = match rest {
        ["namespaces", namespace, plural, name] => (Some(*namespace), *plural, Some(*name)),
        ["namespaces", namespace, plural] => (Some(*namespace), *plural, None),
        [plural, name] => (None, *plural, Some(*name)),
        [plural] => (None, *plural, None),
        _ => return ("404 Not Found", not_found()),
    };
    let mut found = objects.iter().filter(|object| {
        object["apiVersion"] == json!(api_version)
            && object["kind"]
                .as_str()
                .is_some_and(|kind| kind.to_lowercase() + "s" == plural)
            && namespace.is_none_or(|namespace| object["metadata"]["namespace"] == json!(namespace))
            && name.is_none_or(|name| object["metadata"]["name"] == json!(name))
    });
    if name.is_some() {
        return match found.next() {
            Some(object) => ("200 OK", object.clone()),
            None => ("404 Not Found", not_found()),
        };
    }
    let items: Vec<&Value> = found.filter(|object| selected(object, query)).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
    ("200 OK", list)
}

/// Whether label and field selectors, `=` and `!=` alone, choose the object.
fn selected(object: &Value, query: &str) -> bool {
    query.split('&').all(|parameter| {
        let (key, conditions) = parameter.split_once('=').unwrap_or((parameter, ""));
        let conditions = conditions
            .replace("%3D", "=")
            .replace("%21", "!")
            .replace("%2C", ",")
            .replace("%2F", "/");
        let fields = match key {
            "labelSelector" => object["metadata"]["labels"].clone(),
            "fieldSelector" => json!({
                "metadata.name": object["metadata"]["name"],
                "status.phase": object["status"]["phase"],
            }),
            _ => return true,
        };
        conditions.split(',').all(|condition| {
            let (field, wanted) = condition.split_once('=').expect("a comparison");
            match field.strip_suffix('!') {
                Some(field) => fields[field] != json!(wanted),
                None => fields[field] == json!(wanted),
            }
        })
    })
}

fn not_found() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": "not found", "reason": "NotFound", "code": 404,
    })
}
