//! A shell on a pseudo-terminal whose output is kept with its times. Entry: [`Session::start`].
//! The pseudo-terminal is that of `script`, which every Debian has.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};

/// The terminal's size: wide enough for the widest table that is shown.
pub(super) const COLUMNS: u16 = 120;
pub(super) const ROWS: u16 = 32;
/// Rows of the screen on which output is laid out that does not take the whole terminal.
const ROWS_MAX: u16 = 2000;
/// Between two keys.
const KEY_INTERVAL: Duration = Duration::from_millis(25);
/// From the last key of a line to Enter; the shell has shown the line by then.
const ENTER_PAUSE: Duration = Duration::from_millis(400);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// By this the shell tells terminals that a command has ended, and how; nothing of it is seen.
const END_MARK: &str = "\x1b]133;D;";
const END_MARK_END: char = '\x07';
/// A program that says this takes the whole terminal.
const ALTERNATE_SCREEN: &str = "\x1b[?1049h";
/// Bash's settings; a pipeline fails when any part of it does.
const SETTINGS: &str = r#"PS1='\[\e[1;32m\]$\[\e[0m\] '
PROMPT_COMMAND='printf "\033]133;D;%s\007" "$?"'
bind 'set enable-bracketed-paste off'
unset HISTFILE
set -o pipefail
"#;

/// What the terminal showed, and when.
#[derive(Debug)]
pub(super) struct Recording {
    /// When it began.
    pub(super) began: SystemTime,
    /// All of it, in the order of time.
    pub(super) events: Vec<Event>,
}

/// Something that happened so long after the beginning.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) at: Duration,
    pub(super) what: What,
}

#[derive(Debug, PartialEq)]
pub(super) enum What {
    /// The terminal was sent this.
    Output(String),
    /// A command is about to be typed.
    Mark(String),
}

/// A running shell.
pub(super) struct Session {
    child: Child,
    keyboard: ChildStdin,
    started: Instant,
    began: SystemTime,
    events: Arc<Mutex<Vec<Event>>>,
    reader: JoinHandle<()>,
    /// How much had been shown when the present command was started.
    before: usize,
}

impl Session {
    /// Starts bash in `folder` and waits for its first prompt.
    pub(super) fn start(folder: &Path, environment: &[(&str, String)]) -> Result<Self> {
        let settings = folder.join(".bashrc");
        fs::write(&settings, SETTINGS).context("cannot write the shell's settings")?;
        let shell = format!(
            "stty cols {COLUMNS} rows {ROWS}; exec bash --noprofile --rcfile {} -i",
            settings.display()
        );
        // A job in the background of a script begins with Ctrl-C ignored, and so would all that it starts.
        let mut script = Command::new("env");
        script
            .args(["--default-signal=INT,QUIT", "script"])
            .args(["-q", "-e", "-c", &shell, "/dev/null"])
            .current_dir(folder)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = script.spawn().context("cannot run script")?;
        let keyboard = child.stdin.take().context("no stdin")?;
        let mut output = child.stdout.take().context("no stdout")?;
        let (started, began) = (Instant::now(), SystemTime::now());
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            let mut pending = Vec::new();
            // An error is the end, as for a person who looks at it.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                pending.extend_from_slice(&bytes[..count]);
                let text = take_text(&mut pending);
                if !text.is_empty() {
                    push(&seen, started.elapsed(), What::Output(text));
                }
            }
        });
        let mut session = Self {
            child,
            keyboard,
            started,
            began,
            events,
            reader,
            before: 0,
        };
        session.wait_for_end(Duration::from_secs(10))?;
        Ok(session)
    }

    /// Notes that a command begins.
    pub(super) fn mark(&self, command: &str) {
        let mark = What::Mark(command.to_owned());
        push(&self.events, self.started.elapsed(), mark);
    }

    /// Types a line as a person does, and Enter.
    pub(super) fn type_line(&mut self, line: &str) -> Result<()> {
        let mut key = [0; 4];
        for one in line.chars() {
            self.press(one.encode_utf8(&mut key))?;
            thread::sleep(KEY_INTERVAL);
        }
        thread::sleep(ENTER_PAUSE);
        self.before = self.shown().len();
        self.press("\r")
    }

    /// Presses keys.
    pub(super) fn press(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes())?;
        self.keyboard.flush()?;
        Ok(())
    }

    /// Waits until the shell is back, and returns the exit code.
    pub(super) fn wait_for_end(&mut self, timeout: Duration) -> Result<u8> {
        let since = Instant::now();
        loop {
            if let Some(code) = end_code(&self.shown()[self.before..]) {
                return Ok(code);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the shell has ended with {status}");
            }
            ensure!(since.elapsed() < timeout, "not within {timeout:?}");
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// What the present command has left on the screen so far.
    pub(super) fn screen(&self) -> String {
        screen(&self.shown()[self.before..])
    }

    /// Ends the shell.
    pub(super) fn end(mut self) -> Result<Recording> {
        self.before = self.shown().len();
        self.press("\x04")?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the shell has ended with {status}");
        drop(self.reader.join());
        let events = std::mem::take(&mut *locked(&self.events));
        Ok(Recording {
            began: self.began,
            events,
        })
    }

    fn shown(&self) -> String {
        let events = locked(&self.events);
        let outputs = events.iter().filter_map(|event| match &event.what {
            What::Output(text) => Some(text.as_str()),
            What::Mark(_) => None,
        });
        outputs.collect()
    }
}

fn locked(events: &Mutex<Vec<Event>>) -> MutexGuard<'_, Vec<Event>> {
    events.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push(events: &Mutex<Vec<Event>>, at: Duration, what: What) {
    locked(events).push(Event { at, what });
}

/// Takes the text off the front, and leaves a character that has not arrived whole.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    let rest = bytes.split_off(whole);
    let text = std::mem::replace(bytes, rest);
    String::from_utf8_lossy(&text).into_owned()
}

/// The exit code of the command whose output this is; none while it runs.
fn end_code(output: &str) -> Option<u8> {
    let (_, mark) = output.split_once(END_MARK)?;
    mark.split_once(END_MARK_END)?.0.parse().ok()
}

/// Lays the output of a command out as a terminal does; lines that the terminal breaks are whole.
fn screen(output: &str) -> String {
    let output = output.split(END_MARK).next().unwrap_or_default();
    let (rows, output) = match output.rfind(ALTERNATE_SCREEN) {
        Some(begin) => (ROWS, &output[begin..]),
        None => (ROWS_MAX, output.trim_start_matches(['\r', '\n'])),
    };
    let mut parser = vt100::Parser::new(rows, COLUMNS, 0);
    parser.process(output.as_bytes());
    let text = parser.screen().contents();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_seen_with_its_output_and_its_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = Session::start(folder.path(), &[("WORD", "hällo".into())]).unwrap();
        let timeout = Duration::from_secs(10);
        session.mark("first");
        session.type_line("echo $WORD; false | true").unwrap();
        assert_eq!(session.wait_for_end(timeout).unwrap(), 1);
        assert_eq!(session.screen(), "hällo");
        session.type_line("stty size; sleep 60").unwrap();
        let started = Instant::now();
        while session.screen() != format!("{ROWS} {COLUMNS}") {
            assert!(started.elapsed() < timeout, "{}", session.screen());
            thread::sleep(POLL_INTERVAL);
        }
        session.press("\x03").unwrap();
        assert_eq!(session.wait_for_end(timeout).unwrap(), 130);
        session.type_line("true").unwrap();
        assert_eq!(session.wait_for_end(timeout).unwrap(), 0);
        let Recording { began: _, events } = session.end().unwrap();
        assert!(events.is_sorted_by_key(|event| event.at));
        let marks = |event: &&Event| event.what == What::Mark("first".into());
        assert_eq!(events.iter().filter(marks).count(), 1);
    }

    #[test]
    fn what_is_drawn_over_is_not_seen_and_what_is_broken_is_whole() {
        assert_eq!(screen("\r\nwait\rdone\r\n\x1b]133;D;0\x07$ "), "done");
        let long = "x".repeat(usize::from(COLUMNS) + 5);
        assert_eq!(screen(&format!("\r\n{long}\r\n")), long);
        let full = format!("\r\nbefore{ALTERNATE_SCREEN}\x1b[2;1Hrow two");
        assert_eq!(screen(&full), "\nrow two");
    }

    #[test]
    fn a_character_in_two_pieces_is_one() {
        let mut bytes = "a√".as_bytes()[..2].to_vec();
        assert_eq!(take_text(&mut bytes), "a");
        bytes.extend_from_slice(&"√".as_bytes()[1..]);
        assert_eq!(take_text(&mut bytes), "√");
        assert!(bytes.is_empty());
    }
}
