//! Runs a program to its end, with a bound on the time. Entry: [`run`].

use std::{
    io::{Read, Write as _},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// How often the end of a program is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it said to machines.
    pub stdout: String,
    /// What it said to people.
    pub stderr: String,
}

impl Output {
    /// Its stdout, if it ended well.
    ///
    /// # Errors
    /// What it said on stderr, when it did not end with 0.
    pub fn ok(self) -> Result<String> {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        ensure!(code == Some(0), "exit code {code:?}: {}", stderr.trim_end());
        Ok(stdout)
    }
}

/// Runs `command` with `input` on its stdin, for at most `timeout`.
///
/// # Errors
/// When it cannot be started or does not end in time. Its own failure is in [`Output::code`].
pub fn run(command: &mut Command, input: &str, timeout: Duration) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let stdin = child.stdin.take();
    let input = input.to_owned();
    let writer = thread::spawn(move || {
        // A program that ends without reading its input is judged by its exit code.
        if let Some(mut stdin) = stdin {
            drop(stdin.write_all(input.as_bytes()));
        }
    });
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let code = wait(&mut child, timeout);
    let text = |thread: thread::JoinHandle<Vec<u8>>| {
        let bytes = thread.join().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    drop(writer.join());
    match code? {
        Some(code) => Ok(Output {
            code,
            stdout,
            stderr,
        }),
        None => bail!("{name} did not end within {timeout:?}\n{stdout}{stderr}"),
    }
}

/// The exit code, or none after killing a program that took too long.
fn wait(child: &mut Child, timeout: Duration) -> Result<Option<Option<i32>>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code()));
        }
        if started.elapsed() > timeout {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error still helps whoever reads the message.
            drop(pipe.read_to_end(&mut bytes));
        }
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_output_and_exit_code_come_through() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; echo oops >&2; exit 3"]);
        let output = run(&mut command, "hello", Duration::from_secs(10)).unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (Some(3), "hello"));
        assert!(output.ok().unwrap_err().to_string().contains("oops"));
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        let error = run(command.arg("60"), "", Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error:#}");
    }
}
