//! The two sides of the benchmark, and how a program is put on one of them.
//! Entries: [`within`] to do something in a side's namespace, [`spawn`] to start a program there.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};

use crate::command;

/// A network namespace and a processor: what would be a node in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The load and the outbound sidecar.
    Client,
    /// The servers and the inbound sidecar.
    Server,
}

/// Both, in the order in which everything is started.
pub(super) const SIDES: [Side; 2] = [Side::Client, Side::Server];

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Server => "server",
        }
    }

    pub(super) fn namespace(self) -> &'static str {
        match self {
            Side::Client => "linkerd-bench-client",
            Side::Server => "linkerd-bench-server",
        }
    }

    pub(super) fn address(self) -> Ipv4Addr {
        match self {
            Side::Client => Ipv4Addr::new(10, 77, 0, 1),
            Side::Server => Ipv4Addr::new(10, 77, 0, 2),
        }
    }

    pub(super) fn at(self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address(), port))
    }

    /// The two sides have a processor each, so that `direct` crosses processors as often as the
    /// other planes do.
    fn processor(self) -> usize {
        let last = thread::available_parallelism().map_or(0, |count| count.get() - 1);
        match self {
            Side::Client => 0,
            Side::Server => last.min(1),
        }
    }
}

/// Does `work` on a thread in the side's namespace and on its processor; what it starts stays there.
///
/// # Errors
/// When the namespace is not there, and those of `work`.
pub(super) fn within<T: Send>(side: Side, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = Path::new("/run/netns").join(side.namespace());
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("cannot enter {}", path.display()))?;
            let mut processors = CpuSet::new();
            processors.set(side.processor());
            sched_setaffinity(None, &processors).context("cannot choose a processor")?;
            work()
        });
        thread.join().expect("the thread returns its errors")
    })
}

/// Starts `command` in the side's namespace, on its processor.
///
/// # Errors
/// When it cannot be started.
pub(super) fn spawn(side: Side, command: &mut Command) -> Result<Child> {
    within(side, || {
        command
            .spawn()
            .with_context(|| format!("cannot run `{}`", command::words(command)))
    })
}

/// Runs `command` in the side's namespace, on its processor, and returns what it prints.
///
/// # Errors
/// Those of [`command::output`].
pub(super) fn output(side: Side, command: &mut Command) -> Result<String> {
    within(side, || command::output(command))
}
