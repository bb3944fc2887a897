//! `linkerd dashboard`: the page of `linkerd-api` on a port of this machine, and live requests for it.
//! Entry: [`run`]; `serve.rs` answers the browser.

mod live;
mod serve;
mod told;
mod upstream;

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use futures::future::join_all;
use linkerd_names::ports;
use linkerd_proto::public::Empty;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, lookup_host},
    process::Command,
};

use crate::{
    control_plane::{self, ConnectError, Forward, Kubernetes},
    global::Global,
    other_version, stdout,
};

/// Where Linkerd's dashboard is, so that bookmarks serve both.
const PORT_DEFAULT: u16 = 50750;

/// How often a free port of one address turns out to be taken on another before that is an error.
const PORTS_TRIED: usize = 8;

/// Asked before anything is opened.
const FIRST_QUESTION: &[u8] =
    b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Arguments of `linkerd dashboard`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  # Open the dashboard; Ctrl-C ends it.
  linkerd dashboard

  # Print where it is, for a browser elsewhere.
  linkerd dashboard --show url")]
pub(crate) struct Args {
    /// Port on this machine; 0 is any free one. Without this 50750, or any free one if that is taken
    #[arg(short, long)]
    port: Option<u16>,

    /// Address on this machine. Whoever reaches it sees figures and live requests, with your rights
    #[arg(long, default_value = "localhost")]
    address: String,

    /// What to do with the URL
    #[arg(long, default_value = "linkerd")]
    show: Show,
}

/// What is done with the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Show {
    /// Print it, and open it in a browser.
    Linkerd,
    /// Print it.
    Url,
    /// Print nothing.
    None,
}

/// Serves the dashboard until it is interrupted.
///
/// # Errors
/// When the address cannot be had.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Args {
        port,
        address,
        show,
    } = args;
    let kubernetes = match control_plane::kubernetes(global).await {
        Ok(kubernetes) => kubernetes,
        Err(error) => return Ok(control_plane::report(global, &error)),
    };
    if let Err(error) = first_answer(global, &kubernetes).await {
        return Ok(control_plane::report(global, &error));
    }
    let listeners = listen(address, *port).await?;
    let url = url(address, listeners[0].local_addr()?);
    match show {
        Show::Linkerd | Show::Url => {
            stdout::print(&format!("Linkerd dashboard available at:\n{url}\n"));
        }
        Show::None => {}
    }
    let opening = async {
        if *show == Show::Linkerd {
            stdout::print("Opening Linkerd dashboard in the default browser\n");
            if let Err(error) = open(&url).await {
                crate::stderr::tell!(
                    "No browser could be opened: {error:#}. Open the URL yourself."
                );
            }
        }
    };
    let shared = serve::Shared::new(global, kubernetes);
    let serving = join_all(listeners.iter().map(|it| serve::serve(it, &shared)));
    tokio::select! {
        // A desktop that runs the browser itself ends with it, and the page is asked for before.
        _ = async { tokio::join!(serving, opening) } => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for Ctrl-C")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether there is a dashboard that the user may see.
async fn first_answer(global: &Global, kubernetes: &Kubernetes) -> Result<(), ConnectError> {
    let namespace = &global.linkerd_namespace;
    let forward = control_plane::forward(kubernetes, namespace, ports::DASHBOARD).await?;
    let Forward {
        pod,
        mut stream,
        problem,
    } = forward;
    let ask = async {
        stream.write_all(FIRST_QUESTION).await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        Ok::<_, std::io::Error>(status)
    };
    let reason = tokio::select! {
        biased;
        Some(problem) = problem => problem.trim().to_owned(),
        answer = tokio::time::timeout(control_plane::TIMEOUT, ask) => match answer {
            Ok(Ok(status)) if status.ends_with(b" 200") => return Ok(()),
            Ok(Ok(status)) => format!("it answered {:?}", String::from_utf8_lossy(&status)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", control_plane::TIMEOUT.as_secs()),
        },
    };
    let mut trouble = format!("pod {pod} in namespace {namespace:?} serves no dashboard: {reason}");
    if let Some(words) = words_of_other_version(global, kubernetes).await {
        trouble = format!("{trouble}; {words}");
    }
    Err(ConnectError::Linkerd(trouble))
}

/// What to say when the control plane is of another version, which may be why it serves no dashboard.
async fn words_of_other_version(global: &Global, kubernetes: &Kubernetes) -> Option<String> {
    let namespace = &global.linkerd_namespace;
    let client = control_plane::forwarded(kubernetes, namespace).await.ok()?;
    let version = control_plane::answer(client.clone().version(Empty {})).await;
    let is_same = version.is_ok_and(|it| it.release_version == linkerd_names::VERSION);
    if is_same {
        return None;
    }
    Some(other_version::explain(global, &client, "this program's dashboard").await)
}

/// Listens on every address of the name, on the same port: a browser tries whichever it likes first, and must not
/// find somebody else there. There is at least one.
async fn listen(address: &str, port: Option<u16>) -> anyhow::Result<Vec<TcpListener>> {
    let addresses = lookup_host((address, 0)).await;
    let mut known = BTreeSet::new();
    // A name that stands twice in /etc/hosts has each of its addresses twice.
    let addresses: Vec<IpAddr> = addresses
        .with_context(|| format!("cannot find the address {address} on this machine"))?
        .map(|it| it.ip())
        .filter(|ip| known.insert(*ip))
        .collect();
    let mut bound = bind_all(&addresses, port.unwrap_or(PORT_DEFAULT)).await;
    for _ in 0..PORTS_TRIED {
        match &bound {
            Err(error) if error.kind() == ErrorKind::AddrInUse && port.unwrap_or(0) == 0 => {
                bound = bind_all(&addresses, 0).await;
            }
            _ => break,
        }
    }
    bound.with_context(|| {
        let port = port.unwrap_or(PORT_DEFAULT);
        format!("cannot listen on {address} port {port}: choose others by --address and --port")
    })
}

/// An address that this machine does not have, such as `::1` where IPv6 is off, is passed over while there is another.
async fn bind_all(addresses: &[IpAddr], mut port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut refused = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpListener::bind((*address, port)).await {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                listeners.push(listener);
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
            Err(error) => refused = error,
        }
    }
    if listeners.is_empty() {
        return Err(refused);
    }
    Ok(listeners)
}

/// What a browser on this machine can open, and `linkerd-api` takes for its own: `localhost` or an address.
fn url(address: &str, bound: SocketAddr) -> String {
    if address == "localhost" {
        return format!("http://localhost:{}", bound.port());
    }
    let mut shown = bound;
    if bound.ip().is_unspecified() {
        shown.set_ip(match bound {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{shown}")
}

/// Opens the URL as the desktop would. What the browser says is its own: it may run for as long as we do.
async fn open(url: &str) -> anyhow::Result<()> {
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().await;
    let status = status.with_context(|| format!("cannot run {program}"))?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_one_that_a_browser_can_open_and_the_page_accepts() {
        let shown = |address: &str, bound: &str| url(address, bound.parse().expect("an address"));
        assert_eq!(shown("localhost", "[::1]:50750"), "http://localhost:50750");
        assert_eq!(shown("::1", "[::1]:7"), "http://[::1]:7");
        assert_eq!(shown("0.0.0.0", "0.0.0.0:7"), "http://127.0.0.1:7");
        assert_eq!(shown("::", "[::]:7"), "http://[::1]:7");
        assert_eq!(shown("desk", "192.0.2.1:7"), "http://192.0.2.1:7");
    }

    fn port(listeners: &[TcpListener]) -> u16 {
        listeners[0].local_addr().expect("bound").port()
    }

    #[tokio::test]
    async fn a_port_that_was_asked_for_is_had_or_refused_and_the_default_gives_way() {
        let taken = listen("127.0.0.1", Some(0)).await.expect("a free port");
        let error = listen("127.0.0.1", Some(port(&taken)))
            .await
            .expect_err("taken");
        assert!(
            format!("{error:#}").contains(&port(&taken).to_string()),
            "{error:#}"
        );
        // Whether somebody on this machine has the default or not, there are two different ports.
        let first = listen("127.0.0.1", None).await.expect("a port");
        let second = listen("127.0.0.1", None).await.expect("another port");
        assert_ne!(port(&first), port(&second));
    }

    #[tokio::test]
    async fn a_port_that_another_has_on_one_of_the_addresses_is_taken() {
        let both = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)].map(IpAddr::V4);
        let listeners = bind_all(&both, 0).await.expect("two addresses");
        assert_eq!(listeners.len(), 2);
        assert_eq!(port(&listeners[..1]), port(&listeners[1..]));
        let other = TcpListener::bind((both[1], 0)).await.expect("a port");
        let taken = other.local_addr().expect("bound").port();
        let error = bind_all(&both, taken).await.expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn an_address_that_this_machine_lacks_is_passed_over() {
        let lacking = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listeners = bind_all(&[lacking, here], 0).await.expect("one address");
        assert_eq!(listeners.len(), 1);
        let error = bind_all(&[lacking], 0).await.expect_err("no address");
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    }
}
