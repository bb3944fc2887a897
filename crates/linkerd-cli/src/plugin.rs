//! This program as a plugin of kubectl: under the name `kubectl-linkerd` it is `kubectl linkerd`, under the name
//! `kubectl_complete-linkerd` it tells kubectl what may stand next.
//! Entry: [`Called::by`].

use std::{ffi::OsString, path::Path};

use clap::Command;

/// Under which name the program runs.
#[derive(Debug, PartialEq)]
pub(crate) enum Called {
    /// `linkerd`, or any other.
    Itself,
    /// `kubectl linkerd`.
    Plugin,
    /// `kubectl __complete linkerd`.
    Completion,
}

impl Called {
    /// Reads the name off the first word of a command line.
    pub(crate) fn by(words: &[OsString]) -> Self {
        let program = words.first().map(Path::new).and_then(Path::file_stem);
        match program.and_then(|name| name.to_str()) {
            Some("kubectl-linkerd") => Self::Plugin,
            Some("kubectl_complete-linkerd") => Self::Completion,
            _ => Self::Itself,
        }
    }

    /// The command with the name that people type in its help, and in the examples.
    pub(crate) fn command(&self, command: Command) -> Command {
        if *self != Self::Plugin {
            return command;
        }
        let command = command.bin_name("kubectl linkerd");
        command.mut_subcommands(|command| match command.get_after_help() {
            Some(examples) => {
                let examples = examples.to_string();
                let examples = examples
                    .replace("  linkerd ", "  kubectl linkerd ")
                    .replace("| linkerd ", "| kubectl linkerd ");
                command.after_help(examples)
            }
            None => command,
        })
    }

    /// The words as [`crate::Cli`] reads them.
    pub(crate) fn words(&self, mut words: Vec<OsString>) -> Vec<OsString> {
        if *self == Self::Completion {
            words.splice(1..1, ["__complete".into(), "--".into()]);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides() {
        for (name, called) in [
            ("linkerd", Called::Itself),
            ("/usr/bin/kubectl-linkerd", Called::Plugin),
            ("kubectl-linkerd.exe", Called::Plugin),
            ("./kubectl_complete-linkerd", Called::Completion),
        ] {
            assert_eq!(Called::by(&[name.into()]), called, "{name}");
        }
        assert_eq!(Called::by(&[]), Called::Itself);
    }
}
