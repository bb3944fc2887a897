//! An error with its causes, as one line for people.

use std::error::Error;

/// The error and its causes, divided by colons. A cause that its error has already told (kube's errors
/// do that) is not told again.
pub fn text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Told>>,
    }

    #[test]
    fn no_cause_is_told_twice() {
        let last = Told {
            text: "no route",
            source: None,
        };
        let middle = Told {
            text: "cannot connect: no route",
            source: Some(Box::new(last)),
        };
        let error = Told {
            text: "cannot write",
            source: Some(Box::new(middle)),
        };
        assert_eq!(text(&error), "cannot write: cannot connect: no route");
    }
}
