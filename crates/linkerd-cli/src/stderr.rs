//! Writing to stderr without a panic when nobody reads it (`linkerd stat 2>&1 | head`), and without what
//! would steer the terminal: errors quote what others say. Entry: [`tell!`].

use std::{
    fmt,
    io::{self, Write as _},
};

use crate::visible::visible_text;

/// Writes `text`, which may have several lines. There is nobody left to hear of an error.
pub(crate) fn write(text: fmt::Arguments<'_>) {
    let text = visible_text(&fmt::format(text));
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// `eprintln!` that never panics.
macro_rules! tell {
    ($($text:tt)*) => {
        $crate::stderr::write(format_args!("{}\n", format_args!($($text)*)))
    };
}
pub(crate) use tell;
