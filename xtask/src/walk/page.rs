//! The walk as a page for readers. Entry: [`text`].

use super::Run;
use super::chapters::CHAPTERS;

const HEAD: &str = "\
# A walk through every command

Nothing here is written by hand: `cargo xtask walk` types these commands on the local cluster, takes down
what the terminal shows, and writes this page and [walk.cast](walk.cast), which shows the same as it happened
(`asciinema play docs/walk.cast`). It ends with an empty cluster; `cargo xtask demo` fills it again.
";

/// Lines of one output that are shown; the recording has all.
const LINES_MAX: usize = 60;

/// Writes the page.
pub(super) fn text(runs: &[Run<'_>]) -> String {
    let mut text = HEAD.to_owned();
    let mut runs = runs.iter();
    for chapter in CHAPTERS {
        text += &format!("\n## {}\n", chapter.title);
        for Run { step, screen } in runs.by_ref().take(chapter.steps.len()) {
            text += &format!("\n{}\n\n```console\n$ {}\n", step.says, step.command);
            for line in shortened(screen) {
                text += line;
                text.push('\n');
            }
            text += "```\n";
        }
    }
    text
}

/// The lines of an output, with its middle left out where it is long.
fn shortened(screen: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = screen.lines().collect();
    if lines.len() > LINES_MAX {
        let half = LINES_MAX / 2;
        lines.splice(half..lines.len() - half, ["[...]"]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::chapters::Step;

    #[test]
    fn each_command_stands_before_what_it_answered() {
        let steps: Vec<&Step> = CHAPTERS.iter().flat_map(|it| it.steps).collect();
        let runs: Vec<Run<'_>> = steps
            .iter()
            .map(|step| Run {
                step,
                screen: "an answer".into(),
            })
            .collect();
        let text = text(&runs);
        for step in steps {
            let block = format!("```console\n$ {}\nan answer\n```\n", step.command);
            assert!(text.contains(&block), "{block}");
        }
    }

    #[test]
    fn a_long_output_keeps_its_ends() {
        let long: Vec<String> = (0..100).map(|line| line.to_string()).collect();
        let long = long.join("\n");
        let lines = shortened(&long);
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert_eq!((lines[0], lines[30], lines[60]), ("0", "[...]", "99"));
    }
}
