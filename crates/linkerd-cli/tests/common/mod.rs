//! Running a program that reads. Entry: [`run`].

use std::{
    io::{ErrorKind, Write as _},
    process::{Command, Output, Stdio},
};

/// Runs a program with `input` on its stdin.
pub(crate) fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut pipe = child.stdin.take().expect("stdin is a pipe");
    // Many commands do not read, and one that refuses its flags ends before it does.
    if let Err(error) = pipe.write_all(input.as_bytes()) {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
    drop(pipe);
    child.wait_with_output().expect("the program ends")
}
