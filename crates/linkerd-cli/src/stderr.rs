//! Writing to stderr without a panic when nobody reads it (`linkerd stat 2>&1 | head`). Entry: [`tell!`].

use std::{
    fmt,
    io::{self, Write as _},
};

/// Writes `text`. There is nobody left to hear of an error.
pub(crate) fn write(text: fmt::Arguments<'_>) {
    drop(io::stderr().lock().write_fmt(text));
}

/// `eprintln!` that never panics.
macro_rules! tell {
    ($($text:tt)*) => {
        $crate::stderr::write(format_args!("{}\n", format_args!($($text)*)))
    };
}
pub(crate) use tell;
