//! A program that runs beside the benchmark: its output goes to a log file, and it ends when this is
//! dropped. Entry: [`Process::start`].

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::side::{Side, spawn};

/// A program that does not end on SIGTERM by then is killed. One in callgrind takes seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A running program.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` on `side`; what it prints is added to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(side: Side, command: &mut Command, log: &Path) -> Result<Self> {
        let file = open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = spawn(side, command)?;
        Ok(Self {
            child,
            log: log.to_path_buf(),
        })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// # Errors
    /// When it has ended; the log says why.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("ended with {status}; see {}", self.log.display()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = stop(&mut self.child) {
            anstream::eprintln!(
                "cannot stop a process, see {}: {error:#}",
                self.log.display()
            );
        }
    }
}

fn open(log: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))
}

fn stop(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.context("a child has a process id")?, Signal::TERM)?;
    let started = Instant::now();
    while child.try_wait()?.is_none() {
        if started.elapsed() > STOP_TIMEOUT {
            child.kill()?;
            child.wait()?;
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
