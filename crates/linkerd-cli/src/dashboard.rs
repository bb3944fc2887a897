//! `linkerd dashboard`: the page of `linkerd-api` on a port of this machine, and live requests for it.
//! Entry: [`run`]; `serve.rs` answers the browser.

mod live;
mod serve;
mod told;
mod upstream;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use linkerd_names::ports;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
};

use crate::{
    control_plane::{self, ConnectError, Forward, Kubernetes},
    global::Global,
    stdout,
};

/// Where Linkerd's dashboard is, so that bookmarks serve both.
const PORT_DEFAULT: u16 = 50750;

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
    let namespace = &global.linkerd_namespace;
    if let Err(error) = first_answer(&kubernetes, namespace).await {
        return Ok(control_plane::report(global, &error));
    }
    let listener = listen(address, *port).await?;
    let url = url(address, listener.local_addr()?.port());
    match show {
        Show::Linkerd | Show::Url => {
            stdout::print(&format!("Linkerd dashboard available at:\n{url}\n"));
        }
        Show::None => {}
    }
    if *show == Show::Linkerd {
        stdout::print("Opening Linkerd dashboard in the default browser\n");
        if let Err(error) = open(&url).await {
            crate::stderr::tell!("No browser could be opened: {error:#}. Open the URL yourself.");
        }
    }
    let shared = serve::Shared::new(global, kubernetes);
    tokio::select! {
        () = serve::serve(&listener, &shared) => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for Ctrl-C")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether there is a dashboard that the user may see.
async fn first_answer(kubernetes: &Kubernetes, namespace: &str) -> Result<(), ConnectError> {
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
    Err(ConnectError::Linkerd(format!(
        "pod {pod} in namespace {namespace:?} serves no dashboard: {reason}; if the control plane is older \
         than this command, which is of {}, upgrade it",
        linkerd_names::VERSION
    )))
}

async fn listen(address: &str, port: Option<u16>) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind((address, port.unwrap_or(PORT_DEFAULT))).await;
    match (bound, port) {
        (Err(error), None) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let any = TcpListener::bind((address, 0)).await;
            any.with_context(|| format!("cannot listen on {address}"))
        }
        (bound, _) => {
            let port = port.unwrap_or(PORT_DEFAULT);
            bound.with_context(|| {
                format!(
                    "cannot listen on {address} port {port}: choose others by --address and --port"
                )
            })
        }
    }
}

fn url(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("http://[{address}]:{port}")
    } else {
        format!("http://{address}:{port}")
    }
}

/// Opens the URL as the desktop would.
async fn open(url: &str) -> anyhow::Result<()> {
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let output = Command::new(program).arg(url).output().await;
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} ended with {}: {}", output.status, said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_colons_stands_in_brackets() {
        assert_eq!(url("localhost", 50750), "http://localhost:50750");
        assert_eq!(url("::1", 7), "http://[::1]:7");
    }

    #[tokio::test]
    async fn a_port_that_was_asked_for_is_had_or_refused_and_the_default_gives_way() {
        let taken = listen("127.0.0.1", Some(0)).await.expect("a free port");
        let port = taken.local_addr().expect("bound").port();
        let error = listen("127.0.0.1", Some(port)).await.expect_err("taken");
        assert!(
            format!("{error:#}").contains(&port.to_string()),
            "{error:#}"
        );
        // Whether somebody on this machine has the default or not, there are two different ports.
        let first = listen("127.0.0.1", None).await.expect("a port");
        let second = listen("127.0.0.1", None).await.expect("another port");
        let ports = [&first, &second].map(|it| it.local_addr().expect("bound").port());
        assert_ne!(ports[0], ports[1]);
    }
}
