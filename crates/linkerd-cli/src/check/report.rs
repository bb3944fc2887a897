//! What the checks found, printed as it is found. Entry: [`Report`].

use std::io::stdout as std_stdout;

use anstyle::{AnsiColor, Color, Style};
use clap::ValueEnum;
use serde::Serialize;

use super::{
    problem::Problem,
    row::{PAGE, Row, Words},
};
use crate::{json_text, stdout, visible::visible_line};

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// A line for each check.
    Table,
    /// Only what is not well.
    Short,
    /// One object for programs, at the end.
    Json,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// All is well; perhaps with a remark.
    Success(Option<String>),
    /// Something will go wrong, or works less well than it could.
    Warning(String),
    /// Something does not work.
    Error(String),
}

/// A check has no good end, and others make no sense without. It is in the report.
#[derive(Debug)]
pub(super) struct Stop;

/// Findings by category.
#[derive(Debug)]
pub(super) struct Report {
    output: Output,
    /// Of the control plane.
    namespace: String,
    colour: bool,
    categories: Vec<Category>,
    printed: usize,
}

#[derive(Debug, Serialize)]
struct Category {
    #[serde(rename = "categoryName")]
    name: &'static str,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Where there is more about it, with [`Self::hint`].
    #[serde(skip_serializing_if = "Option::is_none")]
    see: Option<String>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What else there is to know where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
    result: &'static str,
}

#[derive(Serialize)]
struct Whole<'a> {
    success: bool,
    categories: &'a [Category],
}

impl From<Result<(), String>> for Finding {
    fn from(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::Success(None),
            Err(error) => Self::Error(error),
        }
    }
}

impl Report {
    pub(super) fn new(output: Output, namespace: &str) -> Self {
        let colour = !matches!(
            anstream::AutoStream::choice(&std_stdout()),
            anstream::ColorChoice::Never
        );
        Self {
            output,
            namespace: namespace.to_owned(),
            colour,
            categories: Vec::new(),
            printed: 0,
        }
    }

    /// Begins a category; the next checks belong to it.
    pub(super) fn category(&mut self, name: &'static str) {
        self.categories.push(Category {
            name,
            checks: Vec::new(),
        });
    }

    /// Adds a finding. The row's hint is shown when it is not well.
    pub(super) fn add(&mut self, row: Row, finding: impl Into<Finding>) {
        self.add_described(row, row.words().description, finding);
    }

    /// Adds a finding with a hint that fits it better than the row's.
    pub(super) fn add_hinted(
        &mut self,
        row: Row,
        finding: impl Into<Finding>,
        hint: impl Into<String>,
    ) {
        self.push(
            row,
            row.words().description.to_owned(),
            finding.into(),
            hint.into(),
        );
    }

    /// Adds a finding of a row whose description is told by whoever was asked.
    pub(super) fn add_described(
        &mut self,
        row: Row,
        description: impl Into<String>,
        finding: impl Into<Finding>,
    ) {
        self.push(
            row,
            description.into(),
            finding.into(),
            row.words().hint.to_owned(),
        );
    }

    fn push(&mut self, row: Row, description: String, finding: Finding, hint: String) {
        let Words { anchor, .. } = row.words();
        let (result, error, remark) = match finding {
            Finding::Success(remark) => ("success", None, remark),
            Finding::Warning(warning) => ("warning", Some(warning), None),
            Finding::Error(error) => ("error", Some(error), None),
        };
        let well = error.is_none();
        let check = Check {
            description,
            hint: (!well).then(|| hint.replace("<namespace>", &self.namespace)),
            see: (!well).then(|| format!("{PAGE}#{anchor}")),
            error,
            remark,
            result,
        };
        if self.output == Output::Table || (self.output == Output::Short && !well) {
            self.print(&check);
        }
        self.categories
            .last_mut()
            .expect("a check has a category")
            .checks
            .push(check);
    }

    /// Adds the outcome of a check that others need.
    ///
    /// # Errors
    /// [`Stop`] when it failed, or could not be made.
    pub(super) fn require<T>(
        &mut self,
        row: Row,
        outcome: Result<T, impl Into<Problem>>,
    ) -> Result<T, Stop> {
        match outcome {
            Ok(value) => {
                self.add(row, Finding::Success(None));
                Ok(value)
            }
            Err(problem) => {
                let problem: Problem = problem.into();
                self.add(row, problem);
                Err(Stop)
            }
        }
    }

    /// Prints the end. Returns whether no check failed.
    pub(super) fn finish(self) -> bool {
        let mut checks = self.categories.iter().flat_map(|category| &category.checks);
        let success = checks.all(|check| check.result != "error");
        if self.output == Output::Json {
            let whole = Whole {
                success,
                categories: &self.categories,
            };
            stdout::print(&json_text::pretty(&whole));
        } else {
            let blank = if self.printed == 0 { "" } else { "\n" };
            let mark = self.mark(if success { "success" } else { "error" });
            stdout::print(&format!("{blank}Status check results are {mark}\n"));
        }
        success
    }

    fn print(&mut self, check: &Check) {
        let category = self.categories.last().expect("a check has a category");
        // Counted in categories: the head is printed with the first line below it.
        if self.printed < self.categories.len() {
            let blank = if self.printed == 0 { "" } else { "\n" };
            self.printed = self.categories.len();
            let line = "-".repeat(category.name.len());
            stdout::print(&format!("{blank}{}\n{line}\n", category.name));
        }
        let mut lines = vec![check.description.clone()];
        let found = check.error.iter().chain(&check.remark);
        let found = found.flat_map(|found| found.lines());
        lines.extend(found.map(|line| format!("    {line}")));
        lines.extend(check.hint.iter().map(|hint| format!("    hint: {hint}")));
        lines.extend(
            check
                .see
                .iter()
                .map(|see| format!("    see {see} for more")),
        );
        // Annotations are written by whoever may make a pod, and errors quote them.
        let lines: Vec<String> = lines.iter().map(|line| visible_line(line)).collect();
        let mark = self.mark(check.result);
        stdout::print(&format!("{mark} {}\n", lines.join("\n")));
    }

    fn mark(&self, result: &str) -> String {
        let (mark, colour) = match result {
            "success" => ("√", AnsiColor::Green),
            "warning" => ("‼", AnsiColor::Yellow),
            _ => ("×", AnsiColor::Red),
        };
        if !self.colour {
            return mark.to_owned();
        }
        let style = Style::new().fg_color(Some(Color::Ansi(colour)));
        format!("{style}{mark}{style:#}")
    }
}

/// A list of problems as an error's text: the first few, and how many more there are.
pub(super) fn list(problems: &[String]) -> Result<(), String> {
    /// More than these say nothing new.
    const SHOWN: usize = 10;
    if problems.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = problems.iter().take(SHOWN).cloned().collect();
    if problems.len() > SHOWN {
        lines.push(format!("and {} more", problems.len() - SHOWN));
    }
    Err(lines.join("\n"))
}
