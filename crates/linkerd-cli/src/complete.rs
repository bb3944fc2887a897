//! `linkerd __complete`: what may stand next on a command line, for the scripts of `linkerd completion` and
//! for kubectl. Answers in cobra's form, which kubectl reads: a line for each word, with its meaning after a
//! tab, then `:4`; or `:0` alone, for names of files.
//!
//! Entry: [`run`]. [`Line::read`] finds out what the place is for, `cluster.rs` asks for names. Whatever goes
//! wrong, there is an answer: an empty one.

mod cluster;

use std::process::ExitCode;

use clap::{Arg, Command};
use linkerd_names::ResourceType;

use crate::{resource, stdout};

/// Arguments of `linkerd __complete`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The words after `linkerd`; the last one is what is to be completed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// A word that may stand next, and what it means.
#[derive(Debug, PartialEq)]
struct Candidate {
    word: String,
    meaning: String,
}

/// What words are for.
#[derive(Debug, PartialEq)]
enum Place {
    /// Nobody knows.
    Unknown,
    /// One of these.
    OneOf(Vec<String>),
    /// A file.
    File,
    /// A context of the kubeconfig.
    Context,
    /// A namespace of the cluster.
    Namespace,
    /// A type, a name, or both.
    Resource,
}

/// A command line up to the word that is to be completed.
struct Line<'a> {
    /// The innermost command.
    command: &'a Command,
    /// Its words that are neither flags nor their values.
    positionals: Vec<&'a str>,
    /// The flags with their values, by the names of their fields.
    options: Vec<(&'a str, &'a str)>,
    /// The flag whose value comes next.
    pending: Option<&'a Arg>,
}

/// Prints the words that may stand next.
///
/// # Errors
/// When the runtime cannot be started.
pub(crate) async fn run(command: Command, args: &Args) -> anyhow::Result<ExitCode> {
    let Args { words } = args;
    let mut command = command;
    command.build();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (current, before) = words.split_last().unwrap_or((&"", &[]));
    let line = Line::read(&command, before);
    let candidates = match line.place(current) {
        Err(candidates) => candidates,
        Ok((Place::File, _)) => {
            stdout::print(":0\n");
            return Ok(ExitCode::SUCCESS);
        }
        Ok((place, prefix)) => {
            let value = &current[prefix.len()..];
            let words = line.values(place, value).await;
            let word = |word: String| Candidate {
                word: format!("{prefix}{word}"),
                meaning: String::new(),
            };
            words.into_iter().map(word).collect()
        }
    };
    let mut text = String::new();
    for Candidate { word, meaning } in candidates {
        if word.starts_with(current) {
            text.push_str(&format!("{word}\t{meaning}\n"));
        }
    }
    stdout::print(&(text + ":4\n"));
    Ok(ExitCode::SUCCESS)
}

impl<'a> Line<'a> {
    /// Reads `words` as clap does, but no word is wrong.
    fn read(command: &'a Command, words: &[&'a str]) -> Self {
        let mut line = Line {
            command,
            positionals: Vec::new(),
            options: Vec::new(),
            pending: None,
        };
        for word in words {
            if let Some(flag) = line.pending.take() {
                line.options.push((flag.get_id().as_str(), word));
            } else if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (long, None),
                };
                let flag = line.flag(|flag| flag.get_long() == Some(name));
                line.meet(flag, value);
            } else if let Some(short) = word.strip_prefix('-').and_then(|it| it.chars().next()) {
                let flag = line.flag(|flag| {
                    let aliases = flag.get_all_short_aliases().unwrap_or_default();
                    flag.get_short() == Some(short) || aliases.contains(&short)
                });
                let value = word[1 + short.len_utf8()..].trim_start_matches('=');
                line.meet(flag, (!value.is_empty()).then_some(value));
            } else if let Some(command) = line.command.find_subcommand(word) {
                line.command = command;
                line.positionals.clear();
            } else {
                line.positionals.push(word);
            }
        }
        line
    }

    fn flag(&self, wanted: impl Fn(&Arg) -> bool) -> Option<&'a Arg> {
        self.command.get_arguments().find(|flag| wanted(flag))
    }

    fn meet(&mut self, flag: Option<&'a Arg>, value: Option<&'a str>) {
        match (flag, value) {
            (Some(flag), Some(value)) => self.options.push((flag.get_id().as_str(), value)),
            (Some(flag), None) if takes_next_word(flag) => self.pending = Some(flag),
            _ => {}
        }
    }

    /// What `current` is for, and which part of it stays as it is; or else all the words that it can be.
    fn place(&self, current: &str) -> Result<(Place, String), Vec<Candidate>> {
        if let Some(flag) = self.pending {
            return Ok((place(flag), String::new()));
        }
        if let Some((name, _)) = current.strip_prefix("--").and_then(|it| it.split_once('=')) {
            let flag = self.flag(|flag| flag.get_long() == Some(name));
            return Ok((flag.map_or(Place::Unknown, place), format!("--{name}=")));
        }
        if current.starts_with('-') {
            let flags = self.command.get_arguments().filter(|it| !it.is_hide_set());
            return Err(flags
                .filter_map(|flag| {
                    let help = flag.get_help().map(ToString::to_string);
                    Some(candidate(format!("--{}", flag.get_long()?), help))
                })
                .collect());
        }
        if self.command.has_subcommands() {
            let commands = self.command.get_subcommands();
            let commands = commands.filter(|command| !command.is_hide_set());
            return Err(commands
                .map(|command| {
                    let about = command.get_about().map(ToString::to_string);
                    candidate(command.get_name().to_owned(), about)
                })
                .collect());
        }
        let count = self.positionals.len();
        let positional = self.command.get_positionals().take(count + 1).last();
        Ok((positional.map_or(Place::Unknown, place), String::new()))
    }

    /// The words that can stand in `place`, some of which may not begin with `current`.
    async fn values(&self, place: Place, current: &str) -> Vec<String> {
        match place {
            Place::Unknown | Place::File => Vec::new(),
            Place::OneOf(words) => words,
            Place::Context => cluster::contexts(&self.options),
            Place::Namespace => cluster::namespaces(&self.options).await,
            Place::Resource => self.resources(current).await,
        }
    }

    /// `TYPE/NAME` when the slash is there, names after a type, and types otherwise.
    async fn resources(&self, current: &str) -> Vec<String> {
        if let Some((word, _)) = current.split_once('/') {
            let names = match resource::parse_type(word) {
                Ok(kind) => cluster::names(&self.options, kind).await,
                Err(_) => Vec::new(),
            };
            return names.iter().map(|name| format!("{word}/{name}")).collect();
        }
        let first = self.positionals.first().filter(|_| self.pending.is_none());
        if let Some(Ok(kind)) = first.map(|word| resource::parse_type(word)) {
            return cluster::names(&self.options, kind).await;
        }
        // The other commands are about objects of Kubernetes.
        let all = self.command.get_name() == "stat";
        resource::types()
            .filter(|kind| all || !matches!(kind, ResourceType::All | ResourceType::Authority))
            .map(|kind| kind.to_string())
            .collect()
    }
}

fn takes_next_word(flag: &Arg) -> bool {
    flag.get_action().takes_values() && !flag.is_require_equals_set()
}

/// The first line of the help is what a flag or command means.
fn candidate(word: String, help: Option<String>) -> Candidate {
    let help = help.unwrap_or_default();
    let meaning = help.lines().next().unwrap_or_default().to_owned();
    Candidate { word, meaning }
}

/// What a flag or positional wants: clap knows the words of some, the name of its field tells of others.
fn place(arg: &Arg) -> Place {
    let known = arg.get_possible_values();
    if !known.is_empty() {
        let shown = known.iter().filter(|value| !value.is_hide_set());
        return Place::OneOf(shown.map(|value| value.get_name().to_owned()).collect());
    }
    let one_of = |words: &[&str]| Place::OneOf(words.iter().map(ToString::to_string).collect());
    match arg.get_id().as_str() {
        "namespace" | "to_namespace" | "from_namespace" | "linkerd_namespace" => Place::Namespace,
        "resource" | "to" | "from" => Place::Resource,
        "context" => Place::Context,
        "files" | "values" | "kubeconfig" | "folder" => Place::File,
        "pods" => one_of(&["pods"]),
        "shell" => one_of(&["bash", "zsh", "fish"]),
        "tls" => one_of(&["optional"]),
        "identity" => one_of(&["secret", "service"]),
        "image_pull_policy" => one_of(&["Always", "IfNotPresent", "Never"]),
        "controller_log_level" => one_of(&["debug", "info", "warn", "error"]),
        _ => Place::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// What the last of `words` is for, or the words that it can be.
    fn asked(words: &[&str]) -> Result<(Place, String), Vec<String>> {
        let mut command = crate::Cli::command();
        command.build();
        let (current, before) = words.split_last().unwrap();
        let line = Line::read(&command, before);
        line.place(current)
            .map_err(|candidates| candidates.into_iter().map(|it| it.word).collect())
    }

    #[test]
    fn every_place_is_known_for_what_it_is() {
        let one_of = |words: &[&str]| Place::OneOf(words.iter().map(ToString::to_string).collect());
        for (words, place, prefix) in [
            (&["stat", ""][..], Place::Resource, ""),
            (&["stat", "deploy", "we"], Place::Resource, ""),
            (
                &["stat", "-A", "-t", "1m", "deploy", ""],
                Place::Resource,
                "",
            ),
            (&["stat", "deploy", "--to", ""], Place::Resource, ""),
            (&["stat", "-n", ""], Place::Namespace, ""),
            (&["-L", ""], Place::Namespace, ""),
            (
                &["stat", "--namespace=em"],
                Place::Namespace,
                "--namespace=",
            ),
            (&["edges", "po", "--context", ""], Place::Context, ""),
            (&["inject", ""], Place::File, ""),
            (&["install", "-f", ""], Place::File, ""),
            (&["install", "--tls="], one_of(&["optional"]), "--tls="),
            (&["stat", "-o", ""], one_of(&["table", "wide", "json"]), ""),
            (&["completion", ""], one_of(&["bash", "zsh", "fish"]), ""),
            // Its value needs a `=`: what comes next is something else.
            (&["inject", "--native-sidecar", ""], Place::File, ""),
            (&["install", "--registry", ""], Place::Unknown, ""),
            (&["uninstall", ""], Place::Unknown, ""),
            (&["get", ""], one_of(&["pods"]), ""),
            (
                &["stat", "--no-such-flag=x"],
                Place::Unknown,
                "--no-such-flag=",
            ),
        ] {
            assert_eq!(asked(words), Ok((place, prefix.to_owned())), "{words:?}");
        }
    }

    #[test]
    fn commands_and_flags_are_named_unless_they_are_hidden() {
        let commands = asked(&[""]).unwrap_err();
        assert!(commands.contains(&"upgrade".to_owned()), "{commands:?}");
        assert!(!commands.contains(&"__complete".to_owned()), "{commands:?}");
        let flags = asked(&["uninstall", "-"]).unwrap_err();
        assert!(flags.contains(&"--force".to_owned()), "{flags:?}");
        assert!(flags.contains(&"--kubeconfig".to_owned()), "{flags:?}");
    }
}
