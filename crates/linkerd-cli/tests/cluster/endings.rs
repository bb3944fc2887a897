//! How commands that go on end: by Ctrl-C, and when nobody reads them any more. Runs the real program.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use linkerd_names::ports;

use crate::{
    figures::cluster,
    kubernetes::{Answer, Cluster, Figures, Running, list},
};

/// What does not happen within it does not happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a shell reports for a program that SIGPIPE ended.
const READER_GONE: Option<i32> = Some(128 + 13);

/// A command that goes on. It ends with the test.
struct Started {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Started {
    fn by(running: &Running, arguments: &[&str]) -> Self {
        Self::of(running.command().args(arguments))
    }

    fn of(command: &mut Command) -> Self {
        let mut command = interruptible(command);
        let command = command.stdin(Stdio::null());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("a pipe");
        Self {
            child,
            stdout: BufReader::new(stdout),
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("UTF-8");
        line
    }

    /// Waits for a line on stderr.
    fn told(&mut self) -> String {
        let stderr = self.child.stderr.as_mut().expect("a pipe");
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            stderr.read_exact(&mut byte).expect("a line");
            line.extend(byte);
        }
        String::from_utf8(line).expect("UTF-8")
    }

    /// As the terminal does when somebody presses Ctrl-C.
    fn interrupt(&self) {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", "INT", &id]).status();
        assert!(kill.expect("kill starts").success());
    }

    /// Waits for the end, while what it still prints is read, or while nobody reads it.
    fn end(mut self, reads: bool) -> (ExitStatus, String) {
        let mut stdout = Some(self.stdout);
        if !reads {
            stdout = None;
        }
        let begin = Instant::now();
        let reading = stdout.map(|mut stdout| {
            // Its end is that of the program, or the test's.
            thread::spawn(move || drop(stdout.read_to_end(&mut Vec::new())))
        });
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if begin.elapsed() > PATIENCE {
                self.child.kill().expect("a child");
                panic!("it goes on");
            }
            thread::sleep(Duration::from_millis(5));
        };
        if let Some(reading) = reading {
            reading.join().expect("no panic");
        }
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().expect("a pipe");
        pipe.read_to_string(&mut stderr).expect("UTF-8");
        (status, stderr)
    }
}

/// The command with SIGINT as a terminal has it: who starts the tests in the background of a shell ignores that signal,
/// and all that they start would too.
fn interruptible(command: &Command) -> Command {
    let mut env = Command::new("env");
    env.arg("--default-signal=INT").arg(command.get_program());
    env.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => env.env(key, value),
            None => env.env_remove(key),
        };
    }
    env
}

/// Waits until the API server has no port-forward any more.
fn no_forward_is_left(running: &Running) {
    let begin = Instant::now();
    while running.open_forwards.load(Ordering::SeqCst) > 0 {
        assert!(begin.elapsed() < PATIENCE, "a port-forward stays open");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A dashboard that answers everything with this status.
fn dashboard(status: u16) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for connection in listener.incoming() {
            let connection = connection.expect("a connection");
            thread::spawn(move || -> std::io::Result<()> {
                let mut reader = BufReader::new(&connection);
                let answer = format!("HTTP/1.1 {status} Answer\r\nContent-Length: 2\r\n\r\n{{}}");
                loop {
                    let mut line = String::new();
                    while reader.read_line(&mut line)? > 2 {
                        line.clear();
                    }
                    if line.is_empty() {
                        return Ok(());
                    }
                    (&connection).write_all(answer.as_bytes())?;
                }
            });
        }
    });
    address
}

fn with_dashboard(status: u16) -> Running {
    let mut cluster = cluster(Figures::Unknown);
    cluster.forwards.insert(ports::DASHBOARD, dashboard(status));
    cluster.start_with_control_plane()
}

/// Asks for the page as a browser does, whose connection stays.
fn browse(url: &str) -> TcpStream {
    let address = url.trim().strip_prefix("http://").expect("a URL");
    let mut browser = TcpStream::connect(address).expect("it listens");
    let question = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    browser.write_all(question.as_bytes()).expect("it reads");
    browser.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut status = [0; 12];
    browser.read_exact(&mut status).expect("it answers");
    assert_eq!(&status, b"HTTP/1.1 200");
    browser
}

#[test]
fn a_tap_ends_by_ctrl_c_and_closes_its_port_forward() {
    let running = cluster(Figures::Events).start_with_control_plane();
    let mut tap = Started::by(&running, &["tap", "deploy"]);
    assert!(tap.line().starts_with("unknown proxy="));
    assert_eq!(running.open_forwards.load(Ordering::SeqCst), 1);
    tap.interrupt();
    let (status, stderr) = tap.end(true);
    assert_eq!((status.signal(), stderr.as_str()), (Some(2), ""));
    no_forward_is_left(&running);
}

#[test]
fn a_tap_that_nobody_reads_ends() {
    for flags in [&[][..], &["-o", "wide"], &["-o", "json"]] {
        let running = cluster(Figures::Events).start_with_control_plane();
        let mut tap = Started::by(&running, &[&["tap", "deploy"], flags].concat());
        assert!(!tap.line().is_empty());
        let (status, stderr) = tap.end(false);
        assert_eq!((status.code(), stderr.as_str()), (READER_GONE, ""));
        no_forward_is_left(&running);
    }
}

#[test]
fn the_dashboard_ends_by_ctrl_c_and_closes_its_port_forwards() {
    let running = with_dashboard(200);
    let arguments = ["dashboard", "--show", "url", "--port", "0"];
    let mut dashboard = Started::by(&running, &arguments);
    assert_eq!(dashboard.line(), "Linkerd dashboard available at:\n");
    let url = dashboard.line();
    let _browser = browse(&url);
    assert!(running.open_forwards.load(Ordering::SeqCst) > 0);
    dashboard.interrupt();
    let (status, stderr) = dashboard.end(true);
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    no_forward_is_left(&running);
}

#[test]
fn a_browser_is_served_while_the_program_that_opened_it_goes_on() {
    let running = with_dashboard(200);
    let folder = tempfile::tempdir().expect("a folder");
    let browser = folder.path().join("xdg-open");
    // It ends when its folder is removed, at the end of the test.
    let script = "#!/bin/sh\nwhile [ -e \"$0\" ]; do sleep 0.05; done\n";
    fs::write(&browser, script).expect("writable");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&browser, executable).expect("our own");
    let mut command = running.command();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let command = command.env("PATH", path).args(["dashboard", "--port", "0"]);
    let mut dashboard = Started::of(command);
    dashboard.line();
    let url = dashboard.line();
    assert!(dashboard.line().starts_with("Opening Linkerd dashboard "));
    browse(&url);
    dashboard.interrupt();
    let (status, stderr) = dashboard.end(true);
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_control_plane_without_a_dashboard_is_named_with_its_version() {
    let running = with_dashboard(404);
    let run = running.linkerd(&["dashboard", "--show", "url"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    for part in [
        "pod linkerd-api-1 in namespace \"linkerd\" serves no dashboard: it answered \"HTTP/1.1 404\"; the control \
         plane is of version 0.0.9 and does not know this program's dashboard; ",
        "`linkerd upgrade | kubectl apply -f -`\n",
    ] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
}

/// A cluster in which a check waits: there is no control plane.
fn waiting(at_first: bool) -> Running {
    let mut cluster = crate::check::well();
    let none: Answer = (200, list(Vec::new()));
    let pods = "/api/v1/namespaces/linkerd/pods".to_owned();
    if at_first {
        cluster.at_first.insert(pods, none);
    } else {
        cluster.answers.insert(pods, none);
    }
    Cluster::start(cluster)
}

#[test]
fn a_check_that_waits_ends_by_ctrl_c() {
    let running = waiting(false);
    let mut check = Started::by(&running, &["check", "--wait"]);
    assert!(check.told().starts_with("Waiting: No running pods for "));
    check.interrupt();
    let (status, _) = check.end(true);
    assert_eq!(status.signal(), Some(2));
}

#[test]
fn a_check_that_nobody_reads_ends() {
    let running = waiting(true);
    let mut check = Started::by(&running, &["check", "--wait"]);
    assert_eq!(check.line(), "kubernetes-api\n");
    assert!(check.told().starts_with("Waiting: "));
    let (status, _) = check.end(false);
    assert_eq!(status.code(), READER_GONE);
}
