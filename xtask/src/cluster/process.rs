//! Starts the cluster's processes and finds them again: by their program and by an argument that
//! names the state folder, never by a number noted earlier, which may be another process by now.
//! Entries: [`start`], [`find`], [`kill`].

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::command;

/// The programs that belong to a cluster when an argument of theirs lies in its state folder.
const PROGRAMS: [&str; 8] = [
    "containerd",
    "containerd-shim-runc-v2",
    "kubernetes",
    "nsenter",
    "pause",
    "runc",
    "setsid",
    "unshare",
];
/// How long a killed process may need until it is gone: a node's first process waits for all others.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// A process that starts is not to be seen while it changes from one program to the next. One that
/// stays away for this long has ended.
const MISSING_MAX: Duration = Duration::from_secs(3);
/// Lines of a log that an error shows.
const LOG_LINES: usize = 8;

/// A process of the cluster.
#[derive(Debug)]
pub(super) struct Process {
    /// As the machine sees it, also for a process inside of a node.
    pub(super) pid: Pid,
    /// File name of the executable.
    pub(super) program: String,
    /// The command line.
    pub(super) arguments: Vec<String>,
}

impl Process {
    /// Whether this runs the component `name` on behalf of a file in `folder`, or is about to.
    pub(super) fn is_component(&self, name: &str, folder: &Path) -> bool {
        self.arguments.iter().any(|argument| argument == name) && self.names(folder)
    }

    /// Whether this is the first process of the node whose files lie in `folder`.
    pub(super) fn is_first(&self, folder: &Path) -> bool {
        self.program == "pause" && self.names(folder)
    }

    fn names(&self, folder: &Path) -> bool {
        let folder = folder.to_string_lossy();
        self.arguments.iter().any(|argument| {
            argument.match_indices(&*folder).any(|(start, _)| {
                let rest = &argument[start + folder.len()..];
                rest.is_empty() || rest.starts_with('/')
            })
        })
    }
}

/// Starts `command` in a session of its own, with its output in the file `log`; it outlives us.
///
/// `enter` is the command line that leads into the node where it shall run; empty on the machine.
///
/// # Errors
/// When it cannot be started. A daemon that ends soon after is noticed by whoever waits for it.
pub(super) fn start(enter: &[String], daemon: &[String], log: &Path) -> Result<()> {
    let file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let session = ["setsid", "--fork"];
    let words: Vec<&str> = enter
        .iter()
        .map(String::as_str)
        .chain(session)
        .chain(daemon.iter().map(String::as_str))
        .collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir("/");
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot run `{}`", command::words(&command)))?;
    if !status.success() {
        bail!(
            "`{}` ended with {status}{}",
            command::words(&command),
            tail(log)
        );
    }
    Ok(())
}

/// Returns the processes of the cluster whose state folder is `state`, also those inside of nodes.
pub(super) fn find(state: &Path) -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        // A process that ends while we look is none of ours any more.
        let Ok(program) = fs::read_link(entry.path().join("exe")) else {
            continue;
        };
        let Ok(arguments) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let program = file_name(&program);
        if !PROGRAMS.contains(&program.as_str()) {
            continue;
        }
        let arguments = arguments.split(|byte| *byte == 0);
        let arguments = arguments
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let pid = Pid::from_raw(pid).expect("no process has the number 0");
        let process = Process {
            pid,
            program,
            arguments,
        };
        if process.names(state) {
            found.push(process);
        }
    }
    Ok(found)
}

/// Sends `signal`; a process that has ended meanwhile is fine.
pub(super) fn signal(pid: Pid, signal: Signal) -> Result<()> {
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot end process {pid:?}")),
    }
}

/// Kills processes until `remaining` returns none.
///
/// # Errors
/// When some are still there after 20 s.
pub(super) fn kill(remaining: impl Fn() -> Result<Vec<Pid>>) -> Result<()> {
    wait("the end of the cluster's processes", END_TIMEOUT, || {
        let pids = remaining()?;
        for pid in &pids {
            signal(*pid, Signal::KILL)?;
        }
        Ok(pids.is_empty())
    })
}

/// Waits until `done` says yes.
///
/// # Errors
/// Those of `done`, and when it has said no for `timeout`.
pub(super) fn wait(
    what: &str,
    timeout: Duration,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !done()? {
        if start.elapsed() > timeout {
            bail!("{what}: still not there after {} s", timeout.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Waits until `done` says yes, like [`wait`], while processes run that it depends on. `missing` returns
/// the name and the log of one that does not.
///
/// # Errors
/// Those of [`wait`], and when a process has ended; the end of its log is in the error.
pub(super) fn wait_while_running(
    what: &str,
    timeout: Duration,
    missing: impl Fn() -> Result<Option<(String, PathBuf)>>,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let mut since: Option<Instant> = None;
    wait(what, timeout, || {
        match missing()? {
            None => since = None,
            Some((name, log)) => {
                let missed = since.get_or_insert_with(Instant::now).elapsed();
                ensure!(missed < MISSING_MAX, "{name} has ended{}", tail(&log));
            }
        }
        done()
    })
}

/// Returns the last lines of a log, to stand behind an error; empty when there is no log.
pub(super) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return format!(" ({} is empty)", log.display());
    }
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    format!("; the end of {}:\n{last}", log.display())
}

/// The file name of an executable; the kernel marks one that was deleted meanwhile.
fn file_name(program: &Path) -> String {
    let name = program.file_name().map(PathBuf::from).unwrap_or_default();
    let name = name.to_string_lossy();
    name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(program: &str, arguments: &[&str]) -> Process {
        Process {
            pid: Pid::from_raw(1).unwrap(),
            program: program.to_owned(),
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    #[test]
    fn a_process_belongs_to_the_folder_that_an_argument_names() {
        let kubelet = process(
            "kubernetes",
            &["k", "kubelet", "--config=/c/cluster/node1/k.yaml"],
        );
        assert!(kubelet.names(Path::new("/c/cluster")));
        assert!(kubelet.is_component("kubelet", Path::new("/c/cluster/node1")));
        assert!(!kubelet.is_component("kubelet", Path::new("/c/cluster/node11")));
        assert!(!kubelet.is_component("kubelet", Path::new("/c/cluster/node")));
        assert!(!kubelet.is_component("kube-proxy", Path::new("/c/cluster/node1")));
        let first = process("pause", &["/b/pause", "/c/cluster/node1"]);
        assert!(first.is_first(Path::new("/c/cluster/node1")));
    }

    #[test]
    fn finds_nothing_for_a_folder_that_no_process_names() {
        assert!(find(Path::new("/no/such/folder")).unwrap().is_empty());
    }

    #[test]
    fn a_deleted_program_keeps_its_name() {
        assert_eq!(
            file_name(Path::new("/b/kubernetes (deleted)")),
            "kubernetes"
        );
    }

    #[test]
    fn waiting_ends_when_a_process_has_ended() {
        let missing = || Ok(Some(("kubelet".to_owned(), PathBuf::from("/no/such.log"))));
        let wait = || wait_while_running("a node", END_TIMEOUT, missing, || Ok(false));
        let error = wait().unwrap_err().to_string();
        assert_eq!(error, "kubelet has ended (/no/such.log is empty)");
        let start = wait_while_running("a node", END_TIMEOUT, missing, || Ok(true));
        assert!(start.is_ok(), "a process may be out of sight for a moment");
    }

    #[test]
    fn waiting_ends_with_an_error_that_says_for_what() {
        let error = wait("the moon", Duration::ZERO, || Ok(false))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "the moon: still not there after 0 s");
    }
}
