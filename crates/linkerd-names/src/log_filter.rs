//! Log filters of the proxy. Entry: [`check`], which everybody asks who takes one from a user.
//! The proxy's library would read more: each word that is no level is the name of a part of the program to it, so
//! that a slip would go unnoticed.

use std::fmt;

/// What a proxy logs unless told otherwise.
pub const DEFAULT: &str = "warn,linkerd=info";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A text that is no log filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidLogFilter {
    /// The first part of it that is wrong.
    pub part: String,
}

/// Checks that `text` is a log filter: parts with commas between them, each of which is a level, or a target and
/// its level (`linkerd=debug`). A target is what the name of a module begins with.
///
/// # Errors
/// [`InvalidLogFilter`].
pub fn check(text: &str) -> Result<(), InvalidLogFilter> {
    for part in text.split(',') {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, part),
        };
        let known = LEVELS.iter().any(|one| one.eq_ignore_ascii_case(level));
        if !known || !target.is_none_or(is_target) {
            return Err(InvalidLogFilter {
                part: part.to_owned(),
            });
        }
    }
    Ok(())
}

fn is_target(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_:.-".contains(&byte))
}

impl fmt::Display for InvalidLogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part } = self;
        let levels = LEVELS.join(", ");
        write!(
            f,
            "{part:?} is neither a log level ({levels}) nor a target and its level (linkerd=debug); example: {DEFAULT}"
        )
    }
}

impl std::error::Error for InvalidLogFilter {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_for_everything_or_for_a_target() {
        for text in [
            DEFAULT,
            "info",
            "off",
            "WARN,linkerd=Debug",
            "linkerd_proxy::tls=trace,h2=off",
            "trust-dns.x=error",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_its_first_wrong_part_named() {
        for (text, part) in [
            ("(((", "((("),
            ("", ""),
            ("inof", "inof"),
            ("warn,linkerd=inof,x", "linkerd=inof"),
            ("warn,", ""),
            ("warn, linkerd=info", " linkerd=info"),
            ("=info", "=info"),
            ("a=b=info", "a=b=info"),
            ("linkerd=", "linkerd="),
            ("linkerd=3", "linkerd=3"),
            ("3", "3"),
            ("linkerd_proxy", "linkerd_proxy"),
            ("linkerd[{client}]=debug", "linkerd[{client}]=debug"),
        ] {
            let expected = Err(InvalidLogFilter {
                part: part.to_owned(),
            });
            assert_eq!(check(text), expected, "{text}");
        }
    }
}
