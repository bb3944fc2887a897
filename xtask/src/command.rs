//! Runs other programs; whatever goes wrong, the error names the command and holds its words.
//! Entries: [`run`] to let it talk on stderr, [`output`] for its answer, [`feed`] to give it input.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` to its end; what it prints, on either stream, appears on our stderr.
///
/// # Errors
/// When it cannot be started or ends with another code than 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run `{}`", words(command)))?;
    check(command, status, b"")
}

/// Runs `command` to its end and returns its stdout.
///
/// # Errors
/// When it cannot be started, ends with another code than 0 (its stderr is in the error), or
/// prints something that is not UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{}`", words(command)))?;
    check(command, output.status, &output.stderr)?;
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something else than text", words(command)))
}

/// Like [`output`], with `input` as the command's stdin.
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", words(command)))?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A command that ends without reading all says why on stderr; that is the better error.
    let written = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output()?;
    check(command, output.status, &output.stderr)?;
    written.with_context(|| format!("`{}` did not read its input", words(command)))?;
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something else than text", words(command)))
}

/// Returns the file that a shell would run for `program`; none when there is none on the PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Returns the command as one would type it, to be shown to people.
pub(crate) fn words(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(
        command
            .get_args()
            .map(|argument| argument.to_string_lossy()),
    );
    words.join(" ")
}

fn check(command: &Command, status: ExitStatus, stderr: &[u8]) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(stderr);
    match stderr.trim() {
        "" => bail!("`{}` ended with {status}", words(command)),
        stderr => bail!("`{}` ended with {status}: {stderr}", words(command)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_what_the_command_prints() {
        assert_eq!(output(Command::new("echo").arg("yes")).unwrap(), "yes\n");
        assert_eq!(feed(&mut Command::new("cat"), b"in").unwrap(), "in");
    }

    #[test]
    fn error_names_the_command_and_its_words() {
        let error = output(Command::new("ls").arg("/no/such/file"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("`ls /no/such/file` ended with exit status: 2: "),
            "{error}"
        );
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn error_names_the_command_that_is_missing() {
        let error = run(&mut Command::new("no-such-command"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "cannot run `no-such-command`");
    }
}
