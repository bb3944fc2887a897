//! Every command in the documentation is one that the program understands: what needs no cluster is run to its
//! end, and the rest as far as the missing cluster. What is only mentioned is a command with flags that it has.

mod common;
mod pipeline;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The manifest that `app.yml` and what `kubectl get` prints are.
const APP: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  template:
    spec:
      containers:
      - name: web
        image: shop/web:1
";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where commands stand: the pages for people who use the program, and those for people who build it.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![
        repository().join("README.md"),
        repository().join("CONTRIBUTING.md"),
        repository().join("charts/linkerd/README.md"),
    ];
    for entry in fs::read_dir(repository().join("docs")).expect("docs") {
        let path = entry.expect("docs").path();
        if path.extension().is_some_and(|end| end == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    pages
}

/// A page, taken apart.
struct Page {
    /// The command lines of all blocks of shell, without their comments.
    commands: Vec<String>,
    /// What is no block.
    prose: String,
}

impl Page {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a page");
        let (mut commands, mut prose) = (Vec::new(), String::new());
        let mut fence = None;
        let mut unfinished = String::new();
        for line in text.lines() {
            let line_of_shell = match (line.strip_prefix("```"), fence) {
                (Some(_), Some(_)) => {
                    fence = None;
                    continue;
                }
                (Some(language), None) => {
                    fence = Some(language);
                    continue;
                }
                (None, Some("sh")) => Some(line),
                // What a person typed, among what was answered.
                (None, Some("console")) => line.strip_prefix("$ "),
                (None, Some(_)) => None,
                (None, None) => {
                    let block = line.strip_prefix("    ");
                    if block.is_none() {
                        prose.push_str(line);
                        prose.push('\n');
                    }
                    block
                }
            };
            let Some(line) = line_of_shell else {
                continue;
            };
            let line = line.split(" #").next().unwrap_or_default().trim();
            match line.strip_suffix('\\') {
                Some(begin) => unfinished.push_str(begin),
                None => commands.push(std::mem::take(&mut unfinished) + line),
            }
        }
        Self { commands, prose }
    }

    /// What stands between backticks in the prose, and begins like a command of ours.
    fn mentioned(&self) -> Vec<String> {
        let code = self.prose.split('`').skip(1).step_by(2);
        let pieces = code.flat_map(|code| code.split('|'));
        pieces
            .map(|piece| piece.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|piece| piece.starts_with("linkerd "))
            .collect()
    }
}

/// A folder with the files that the commands name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("tests/emojivoto")).expect("writable");
    let sample = "tests/emojivoto/emojivoto.yml";
    for name in [sample, "emojivoto.yml"] {
        fs::copy(repository().join(sample), folder.path().join(name)).expect(sample);
    }
    fs::write(folder.path().join("app.yml"), APP).expect("writable");
    fs::write(folder.path().join("values.yml"), "").expect("writable");
    folder
}

fn help(arguments: &[&str]) -> String {
    let mut linkerd = Command::new(env!("CARGO_BIN_EXE_linkerd"));
    let output = linkerd.args(arguments).arg("--help").output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{arguments:?} has no help");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The commands that the program says it has.
fn commands() -> BTreeSet<String> {
    let help = help(&[]);
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    // What is indented more is the rest of a description.
    list.take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  "))
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_line_is_understood() {
    let folder = folder();
    let mut seen = 0;
    for path in pages() {
        for line in Page::read(&path).commands {
            seen += usize::from(line.contains("linkerd "));
            for pipeline in line.split(" && ") {
                pipeline::run(folder.path(), pipeline, APP);
            }
        }
    }
    assert!(seen > 50, "only {seen} commands were found");
}

#[test]
fn every_command_that_is_mentioned_is_there_and_has_its_flags() {
    let commands = commands();
    let mut helps = BTreeMap::new();
    for path in pages() {
        // It names the commands of Linkerd beside ours.
        if path.ends_with("migration.md") {
            continue;
        }
        for mentioned in Page::read(&path).mentioned() {
            let words: Vec<&str> = mentioned.split(' ').skip(1).collect();
            let Some(command) = words.iter().find(|word| !word.starts_with('-')) else {
                continue;
            };
            let at = path.display();
            assert!(commands.contains(*command), "{at}: {mentioned}");
            let help = helps
                .entry((*command).to_owned())
                .or_insert_with(|| help(&[command]));
            for flag in words.iter().filter(|word| word.starts_with('-')) {
                let flag = flag.split('=').next().unwrap_or_default();
                let known = help
                    .split(|end: char| end.is_whitespace() || ",=[<".contains(end))
                    .any(|word| word == flag);
                assert!(known || flag == "-", "{at}: {mentioned}: no {flag}");
            }
        }
    }
    assert!(helps.len() > 8, "{:?}", helps.keys());
}

#[test]
fn the_walk_has_every_command() {
    let steps = repository().join("xtask/src/walk/chapters.rs");
    let steps = fs::read_to_string(steps).expect("the steps of the walk");
    let texts = steps.split('"').skip(1).step_by(2);
    let walked: BTreeSet<String> = texts
        .flat_map(|text| text.split(['|', '&']).map(pipeline::words))
        .filter(|words| words.first().is_some_and(|program| program == "linkerd"))
        .filter_map(|words| {
            words
                .into_iter()
                .skip(1)
                .find(|word| !word.starts_with('-'))
        })
        .collect();
    assert_eq!(walked, commands());
}
