//! Writing to stdout as a Unix program does: quiet when the reader has gone away.
//! Entry: [`print()`]. `println!` would panic on a closed pipe (`linkerd install | head`).

use std::io::{self, Write as _};

/// What a shell reports for a program that SIGPIPE ended: 128 + 13.
const CODE_READER_GONE: i32 = 141;

/// Writes `text` and flushes. Ends the process when the reader has closed the pipe, or, with a word
/// on stderr, when stdout cannot be written at all (a full disk).
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            std::process::exit(CODE_READER_GONE)
        }
        Err(error) => {
            crate::stderr::tell!("Error: cannot write to stdout: {error}");
            std::process::exit(1)
        }
    }
}
