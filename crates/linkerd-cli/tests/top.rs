//! `linkerd top` in a terminal, in front of a cluster and a control plane that this file plays.
//! The pseudo terminal is that of `script`, which every Debian has. Runs the real program.

use std::{
    convert::Infallible,
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    header::HeaderMap,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use linkerd_proto::{
    http_types::{HttpMethod, http_method},
    public::{TapByResourceResponse, tap_by_resource_response},
    tap::{
        TapEvent,
        tap_event::{
            EndpointMeta, Event, Http, ProxyDirection,
            http::{Event as HttpEvent, RequestInit, ResponseEnd},
        },
    },
};
use prost::Message as _;
use tokio::sync::Notify;

/// A screen that does not come within it does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the control plane does after one request has been told.
#[derive(Clone, Copy)]
enum Then {
    Nothing,
    EndTheTap,
    BreakTheConnection,
}

/// Plays the Kubernetes API and `linkerd-api` at one address.
fn serve(then: Then) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let broken = Arc::new(Notify::new());
                    let breaks = broken.clone();
                    let service = service_fn(move |request| answer(request, then, breaks.clone()));
                    let server = auto::Builder::new(TokioExecutor::new());
                    tokio::select! {
                        // What was answered is sent before the connection breaks.
                        biased;
                        // The program ends without saying good-bye.
                        _ = server.serve_connection(TokioIo::new(connection), service) => {}
                        () = broken.notified() => {}
                    }
                });
            }
        });
    });
    address
}

async fn answer(
    request: Request<Incoming>,
    then: Then,
    breaks: Arc<Notify>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, hyper::Error> {
    let is_tap = request.uri().path().ends_with("/TapByResource");
    let body = request.into_body().collect().await?.to_bytes();
    let frames = if is_tap {
        let told = stream::iter(events().map(|event| Ok(Frame::data(grpc(event)))));
        match then {
            Then::Nothing => told.chain(stream::pending()).boxed(),
            Then::BreakTheConnection => {
                let end = stream::once(async move {
                    breaks.notify_one();
                    std::future::pending().await
                });
                told.chain(end).boxed()
            }
            Then::EndTheTap => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().expect("a header"));
                told.chain(stream::iter([Ok(Frame::trailers(trailers))]))
                    .boxed()
            }
        }
    } else {
        // The proof of who asks, as the API server has stored it.
        stream::iter([Ok(Frame::data(body))]).boxed()
    };
    let kind = if is_tap {
        "application/grpc"
    } else {
        "application/json"
    };
    let response = Response::builder().header("content-type", kind);
    let body = StreamBody::new(frames).boxed_unsync();
    Ok(response.body(body).expect("a response"))
}

/// One request of the bot, and its end.
fn events() -> [TapEvent; 2] {
    let meta = |pod: &str| {
        let labels = [("pod", pod), ("namespace", "shop"), ("tls", "true")];
        Some(EndpointMeta {
            labels: labels.map(|(key, value)| (key.into(), value.into())).into(),
        })
    };
    let post = http_method::Type::Registered(1);
    let begin = HttpEvent::RequestInit(RequestInit {
        id: Some(Default::default()),
        method: Some(HttpMethod { r#type: Some(post) }),
        path: "/api/vote".into(),
        ..RequestInit::default()
    });
    let end = HttpEvent::ResponseEnd(ResponseEnd {
        id: Some(Default::default()),
        since_request_init: Duration::from_millis(7).try_into().ok(),
        ..ResponseEnd::default()
    });
    [begin, end].map(|event| TapEvent {
        proxy_direction: ProxyDirection::Inbound.into(),
        source_meta: meta("vote-bot"),
        destination_meta: meta("web"),
        event: Some(Event::Http(Http { event: Some(event) })),
        ..TapEvent::default()
    })
}

/// An event as gRPC frames it.
fn grpc(event: TapEvent) -> Bytes {
    let response = TapByResourceResponse {
        response: Some(tap_by_resource_response::Response::Event(event)),
    };
    let message = response.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("short"));
    frame.extend_from_slice(&message);
    frame.freeze()
}

/// A running `linkerd top` and all that it has written to its terminal.
struct Terminal {
    script: Child,
    keyboard: ChildStdin,
    output: mpsc::Receiver<Vec<u8>>,
    written: Vec<u8>,
}

/// What is left when the program has ended.
struct Ended {
    code: Option<i32>,
    /// What the first screen shows: the settings of the terminal before and after, and messages.
    lines: Vec<String>,
}

impl Terminal {
    /// Starts it on a terminal of 80 columns and 12 rows.
    fn start(name: &str, then: Then, environment: &[(&str, &str)]) -> Self {
        let address = serve(then);
        let kubeconfig = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("top-{name}"));
        let text = format!(
            "apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]
users: [{{name: u, user: {{token: not-a-secret}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u, namespace: shop}}}}]
current-context: c
"
        );
        fs::write(&kubeconfig, text).expect("writable");
        let program = env!("CARGO_BIN_EXE_linkerd");
        let shell = format!(
            "stty cols 80 rows 12; stty -g; \
             sh -c 'echo \"tty=$(tty) pid=$$\"; exec {program} top deploy/web --api-addr {address}'; \
             code=$?; stty -g; exit $code"
        );
        let mut script = Command::new("script")
            .args(["-q", "-e", "-c", &shell, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm-256color")
            .env("KUBECONFIG", kubeconfig)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script starts");
        let keyboard = script.stdin.take().expect("a pipe");
        let mut pipe = script.stdout.take().expect("a pipe");
        let (sender, output) = mpsc::sync_channel(64);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            script,
            keyboard,
            output,
            written: Vec::new(),
        }
    }

    fn screen(&self, columns: u16) -> vt100::Parser {
        let mut parser = vt100::Parser::new(12, columns, 0);
        parser.process(&self.written);
        parser
    }

    /// Waits until the screen has this text on it, and returns the screen.
    fn until(&mut self, columns: u16, text: &str) -> String {
        loop {
            let screen = self.screen(columns).screen().contents();
            if screen.contains(text) {
                return screen;
            }
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) => self.written.extend(bytes),
                Err(error) => panic!("{error}: no {text:?} on:\n{screen}"),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("it reads");
        self.keyboard.flush().expect("it reads");
    }

    /// A word that the shell has printed before the program began.
    fn word(&self, key: &str) -> String {
        let text = String::from_utf8_lossy(&self.written);
        let words = text.split_whitespace();
        let mut values = words.filter_map(|word| word.strip_prefix(key));
        values.next().expect("the shell has printed it").to_owned()
    }

    fn end(mut self) -> Ended {
        loop {
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) => self.written.extend(bytes),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("{error}:\n{}", self.screen(80).screen().contents()),
            }
        }
        let code = self.script.wait().expect("started").code();
        let parser = self.screen(80);
        let screen = parser.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        let lines = screen.contents();
        Ended {
            code,
            lines: lines.lines().map(str::to_owned).collect(),
        }
    }
}

impl Ended {
    /// The messages, after a look at the settings: they must be what they were.
    fn messages(&self) -> String {
        let [before, _shell, messages @ .., after] = &self.lines[..] else {
            panic!("{:?}", self.lines)
        };
        assert_eq!(before, after);
        messages.join("\n")
    }
}

#[test]
fn a_row_is_seen_and_q_and_ctrl_c_give_the_terminal_back() {
    for key in ["q", "\u{3}"] {
        let mut terminal = Terminal::start("quit", Then::Nothing, &[]);
        let screen = terminal.until(80, "√");
        // Of the context.
        assert!(screen.contains(" -n shop"), "{screen}");
        let row: Vec<&str> = screen
            .lines()
            .nth(2)
            .expect("a row")
            .split_whitespace()
            .collect();
        assert_eq!(
            row,
            [
                "vote-bot",
                "web",
                "POST",
                "/api/vote",
                "1",
                "7ms",
                "7ms",
                "7ms",
                "100.00%",
                "√"
            ]
        );
        terminal.press(key);
        let ended = terminal.end();
        assert_eq!((ended.code, ended.messages().as_str()), (Some(0), ""));
    }
}

#[test]
fn a_signal_gives_the_terminal_back() {
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let mut terminal = Terminal::start("signal", Then::Nothing, &[]);
        terminal.until(80, "/api/vote");
        let kill = Command::new("kill")
            .args(["-s", signal, &terminal.word("pid=")])
            .status();
        assert!(kill.expect("kill starts").success());
        let ended = terminal.end();
        assert_eq!((ended.code, ended.messages().as_str()), (Some(code), ""));
    }
}

#[test]
fn the_end_of_the_tap_is_told_on_the_terminal_as_it_was() {
    let ended = Terminal::start("end", Then::EndTheTap, &[]).end();
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.messages(),
        "Error: the control plane has ended the tap"
    );
}

#[test]
fn a_connection_that_breaks_is_told_with_what_to_do() {
    let ended = Terminal::start("break", Then::BreakTheConnection, &[]).end();
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.messages(),
        "Error: tap ended: the connection to the control plane was lost; start it again"
    );
}

#[test]
fn a_resized_terminal_gets_other_columns() {
    let mut terminal = Terminal::start("resize", Then::Nothing, &[]);
    assert!(terminal.until(80, "/api/vote").contains("SOURCE"));
    let tty = terminal.word("tty=");
    // It draws all of the screen anew.
    terminal.written.clear();
    let stty = Command::new("stty")
        .args(["-F", &tty, "cols", "60"])
        .status();
    assert!(stty.expect("stty starts").success());
    let screen = terminal.until(60, "r reverse");
    assert!(
        !screen.contains("SOURCE") && screen.contains("SUCCESS"),
        "{screen}"
    );
    terminal.press("q");
    assert_eq!(terminal.end().code, Some(0));
}

#[test]
fn no_color_is_honoured() {
    for (environment, colored) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let mut terminal = Terminal::start("color", Then::Nothing, environment);
        terminal.until(80, "√");
        // Green is number 2 of the terminal's colours.
        let text = String::from_utf8_lossy(&terminal.written);
        assert_eq!(text.contains("[38;5;2"), colored, "{text:?}");
        terminal.press("q");
        assert_eq!(terminal.end().code, Some(0));
    }
}
