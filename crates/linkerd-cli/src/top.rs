//! `linkerd top`: the requests and connections of workloads' pods, added up by who asks whom for what, live.
//! Entry: [`run`]; `figures.rs` counts, `view.rs` knows what keys do, `screen.rs` draws.

mod cells;
mod figures;
mod layout;
#[cfg(test)]
mod samples;
mod screen;
mod terminal;
mod view;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt as _;
use linkerd_names::{OwnerKind, ResourceType};
use linkerd_proto::public::{TapByResourceRequest, tap_by_resource_response::Response};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use crate::{
    global::Global,
    kubeconfig,
    tap::{
        self, Filters, Protocol,
        request::{self, Question},
    },
    visible::visible_words,
};

use figures::{Figures, Names};
use screen::{Colors, Surroundings};
use terminal::Screen;
use view::{After, View};

/// So long an event may wait until it is seen. Shorter, and figures are hard to read.
const REDRAW_INTERVAL: Duration = Duration::from_millis(250);
/// What needs no terminal.
const INSTEAD: &str = "linkerd tap prints events line by line, linkerd stat prints figures";

/// Arguments of `linkerd top`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  # Who asks a deployment for what, and what it asks of others.
  linkerd top deploy/web -n emojivoto

  # The same of several workloads.
  linkerd top deploy/web deploy/voting -n emojivoto
  linkerd top deploy -l app.kubernetes.io/part-of=shop -A

  # What it asks of another one, whoever of its pods asks.
  linkerd top deploy/web -n emojivoto --to deploy/voting --hide-sources

  # All requests of a namespace to paths that begin with /api.
  linkerd top ns/emojivoto --path /api")]
pub(crate) struct Args {
    #[command(flatten)]
    filters: Filters,

    /// Add up what comes from all sources
    #[arg(long)]
    hide_sources: bool,
}

/// Shows the table until the user quits, a signal comes, or the control plane ends the tap.
///
/// # Errors
/// When stdout is no terminal, the flags make no sense, the user may not tap, or the control plane has no
/// answer or ends the tap.
pub(crate) async fn run(global: &Global, args: &Args) -> anyhow::Result<ExitCode> {
    let Args {
        filters,
        hide_sources,
    } = args;
    let namespace = kubeconfig::namespace(global, filters.namespace.as_deref()).await;
    let Question { request, kinds } = request::build(filters, &namespace)?;
    ensure!(
        io::stdout().is_terminal(),
        "top draws on a terminal, and stdout is none: {INSTEAD}"
    );
    ensure!(
        std::env::var("TERM").is_ok_and(|term| term != "dumb"),
        "top draws on a terminal, and TERM says that this one cannot move its cursor: {INSTEAD}"
    );
    ensure!(
        !(global.verbose && io::stderr().is_terminal()),
        "--verbose writes to the terminal that top draws on: redirect stderr, such as 2>top.log"
    );
    let mut figures = Figures::new(names(filters, &namespace, &request, &kinds));
    let mut events = match tap::events(global, request).await? {
        Ok(events) => events,
        Err(code) => return Ok(code),
    };
    let mut signals = Signals::new().context("cannot wait for signals")?;
    let mut view = View::new(*hide_sources);
    let mut surroundings = Surroundings {
        title: title(filters, &namespace, &kinds),
        colors: colors(),
        trouble: None,
    };
    let mut screen = Screen::open().context("cannot take the terminal")?;
    let mut input = EventStream::new();
    let mut redraws = interval(REDRAW_INTERVAL);
    redraws.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changed = true;
    // Each of the branches waits for one thing without losing it when another comes first.
    loop {
        let draw_now = tokio::select! {
            update = events.next() => {
                match update? {
                    Some(Response::Event(event)) => figures.add(&event),
                    Some(Response::Trouble(trouble)) => {
                        let text = format!("pod {}: {}", trouble.pod, trouble.error);
                        surroundings.trouble = Some(visible_words(&text));
                    }
                    None => bail!("the control plane has ended the tap"),
                }
                changed = true;
                false
            }
            _ = redraws.tick() => changed,
            input = input.next() => {
                match input.context("the terminal has gone")?.context("cannot read keys")? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        match view.key(key, &figures) {
                            After::Continue => {}
                            After::Clear => {
                                figures.clear();
                                surroundings.trouble = None;
                            }
                            After::Quit => return Ok(ExitCode::SUCCESS),
                        }
                        true
                    }
                    Event::Resize(..) => true,
                    _ => false,
                }
            }
            code = signals.next() => return Ok(code),
        };
        if draw_now {
            screen
                .draw(|frame| screen::draw(frame, &surroundings, &mut view, &figures))
                .context("cannot draw on the terminal")?;
            changed = false;
        }
    }
}

/// The signals that end a program and leave it time to give the terminal back.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one, and returns what a shell says of a program that it has ended: 128 and its number.
    async fn next(&mut self) -> ExitCode {
        tokio::select! {
            _ = self.interrupt.recv() => ExitCode::from(128 + 2),
            _ = self.terminate.recv() => ExitCode::from(128 + 15),
            _ = self.hangup.recv() => ExitCode::from(128 + 1),
        }
    }
}

fn names(
    filters: &Filters,
    namespace: &str,
    request: &TapByResourceRequest,
    kinds: &[ResourceType],
) -> Names {
    let namespace = match (kinds, &request.target) {
        _ if filters.all_namespaces => String::new(),
        // The namespace itself, if it is one that has been asked for.
        ([ResourceType::Namespace], Some(one)) if request.other_targets.is_empty() => {
            one.resource.clone().unwrap_or_default().name
        }
        ([ResourceType::Namespace], _) => String::new(),
        _ => namespace.to_owned(),
    };
    Names {
        of_pods: kinds == [ResourceType::Workload(OwnerKind::Pod)],
        namespace,
    }
}

/// What is watched, as it was written, and the namespace of it, whoever has named that.
fn title(filters: &Filters, namespace: &str, kinds: &[ResourceType]) -> String {
    let Filters {
        resource,
        selector,
        namespace: _,
        all_namespaces,
        to,
        to_namespace,
        protocol,
        max_rps: _,
        scheme,
        method,
        authority,
        path,
    } = filters;
    let mut title = resource.join(" ");
    if !selector.selector.is_empty() {
        title.push_str(&format!(" -l {}", selector.selector));
    }
    if *all_namespaces {
        title.push_str(" -A");
    } else if kinds != [ResourceType::Namespace] {
        title.push_str(&format!(" -n {namespace}"));
    }
    match protocol {
        Some(Protocol::Http) => title.push_str(" --protocol http"),
        Some(Protocol::Tcp) => title.push_str(" --protocol tcp"),
        None => {}
    }
    for (flag, value) in [
        ("to", to),
        ("to-namespace", to_namespace),
        ("scheme", scheme),
        ("method", method),
        ("authority", authority),
        ("path", path),
    ] {
        if let Some(value) = value {
            title.push_str(&format!(" --{flag} {value}"));
        }
    }
    visible_words(&title)
}

fn colors() -> Colors {
    match anstream::AutoStream::choice(&io::stdout()) {
        anstream::ColorChoice::Never => Colors::No,
        _ => Colors::Yes,
    }
}
