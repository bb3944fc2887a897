//! A program in a terminal, as a person sees it. Entry: [`Terminal::start`].
//! The pseudo terminal is that of `script`, which every Debian has.

use std::{
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How long a program may take to end after it has been told to.
const END_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running program and its screen. Dropping it ends the program.
pub struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    parser: Arc<Mutex<vt100::Parser>>,
    reader: Option<thread::JoinHandle<()>>,
}

/// What is left when the program has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// Whether the screen is the first one again, and the cursor is seen.
    pub restored: bool,
    /// What the screen shows.
    pub text: String,
}

impl Terminal {
    /// Starts a shell command on a terminal of this size.
    ///
    /// # Errors
    /// When `script` cannot be started.
    pub fn start(columns: u16, rows: u16, command: &Command) -> Result<Self> {
        let mut words = vec![quoted(&command.get_program().to_string_lossy())];
        words.extend(command.get_args().map(|arg| quoted(&arg.to_string_lossy())));
        let shell = format!("stty cols {columns} rows {rows}; exec {}", words.join(" "));
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &shell, "/dev/null"]);
        script.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        for (name, value) in command.get_envs() {
            script.env(name, value.unwrap_or_default());
        }
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().context("cannot run script")?;
        let keyboard = child.stdin.take().context("no stdin")?;
        let mut output = child.stdout.take().context("no stdout")?;
        let parser = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let seen = parser.clone();
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error is the end, as for a person who looks at it.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let mut parser = seen.lock().unwrap_or_else(PoisonError::into_inner);
                parser.process(&bytes[..count]);
            }
        });
        Ok(Self {
            child,
            keyboard,
            parser,
            reader: Some(reader),
        })
    }

    /// What the screen shows now.
    pub fn text(&self) -> String {
        let parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        parser.screen().contents()
    }

    /// Presses keys.
    ///
    /// # Errors
    /// When the program has gone.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes())?;
        self.keyboard.flush()?;
        Ok(())
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    /// When it does not end within 20 s.
    pub fn end(mut self) -> Result<Ended> {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if started.elapsed() > END_TIMEOUT {
                bail!("the program did not end:\n{}", self.text());
            }
            thread::sleep(POLL_INTERVAL);
        };
        // What it said last has been read then.
        drop(self.reader.take().map(thread::JoinHandle::join));
        let parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = parser.screen();
        Ok(Ended {
            code: status.code(),
            restored: !screen.alternate_screen() && !screen.hide_cursor(),
            text: screen.contents(),
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already when all went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A word that the shell leaves as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually_within;

    #[test]
    fn a_program_sees_a_terminal_of_that_size_and_the_keys() {
        let mut command = Command::new("sh");
        command.args(["-c", "stty size; read line; echo \"it's $line\"; exit 3"]);
        let mut terminal = Terminal::start(61, 7, &command).unwrap();
        eventually_within(END_TIMEOUT, "the size", || {
            terminal
                .text()
                .contains("7 61")
                .then_some(())
                .with_context(|| terminal.text())
        })
        .unwrap();
        terminal.press("me\r").unwrap();
        let ended = terminal.end().unwrap();
        assert_eq!((ended.code, ended.restored), (Some(3), true), "{ended:?}");
        assert!(ended.text.contains("it's me"), "{ended:?}");
    }
}
