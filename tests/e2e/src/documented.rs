//! The metrics that the pages have, and what of a process's own is not among them. Entry: [`Documented::read`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

/// Pages with tables of metrics.
const PAGES: [&str; 2] = ["docs/metrics.md", "docs/prometheus.md"];
/// What the head of a table of metrics begins with. The process is named after it; where none is, it is the proxy.
const HEAD: &str = "metric";
/// Parts of a histogram.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// A metric as a page has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metric {
    /// Names of its labels; `dst_*` stands for all that begin so.
    pub labels: BTreeSet<String>,
    /// Counter, gauge or histogram, where the page says so.
    pub kind: Option<String>,
}

/// The metrics of each process, by name.
#[derive(Clone, Debug, Default)]
pub struct Documented(pub BTreeMap<String, BTreeMap<String, Metric>>);

impl Documented {
    /// Reads the pages of the repository.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read() -> Result<Self> {
        let mut documented = Self::default();
        for page in PAGES {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../..")
                .join(page);
            documented.add(&fs::read_to_string(&path).context(page)?);
        }
        Ok(documented)
    }

    /// Checks what a process answers at `/metrics`.
    ///
    /// # Errors
    /// Names every metric, label and type that no page has.
    pub fn check(&self, process: &str, text: &str) -> Result<()> {
        let metrics = self.0.get(process).context("no table has this process")?;
        let mut kinds = BTreeMap::new();
        let mut problems = BTreeSet::new();
        for line in text.lines() {
            if let Some((name, kind)) = line
                .strip_prefix("# TYPE ")
                .and_then(|it| it.split_once(' '))
            {
                kinds.insert(name, kind);
                match metrics.get(name) {
                    None if name.starts_with("process_") => {}
                    None => drop(problems.insert(name.to_owned())),
                    Some(metric) if metric.kind.as_deref().is_none_or(|it| it == kind) => {}
                    Some(_) => drop(problems.insert(format!("{name} as a {kind}"))),
                }
            } else if !line.starts_with('#') {
                let (name, labels) = sample(line);
                let whole = PARTS.iter().filter_map(|part| name.strip_suffix(part));
                let histogram = whole
                    .into_iter()
                    .find(|it| kinds.get(it) == Some(&"histogram"));
                let known = metrics.get(histogram.unwrap_or(name));
                for label in labels {
                    let part = histogram.is_some() && label == "le";
                    if !part && known.is_some_and(|metric| !metric.has(label)) {
                        problems.insert(format!("{name}{{{label}}}"));
                    }
                }
            }
        }
        ensure!(!kinds.is_empty(), "{process} has no metrics: {text}");
        ensure!(problems.is_empty(), "{process}: no page has {problems:?}");
        Ok(())
    }

    /// Adds what a page has.
    fn add(&mut self, page: &str) {
        let (mut process, mut above) = (None, BTreeSet::new());
        let mut in_table = false;
        for line in page.lines() {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let head = line.starts_with('|') && !in_table;
            in_table = line.starts_with('|');
            if head {
                let found = cells[0].strip_prefix(HEAD);
                process = found.map(|rest| codes(rest).next().unwrap_or("linkerd-proxy"));
            }
            let (Some(process), true) = (process, in_table && !head) else {
                continue;
            };
            let metrics = self.0.entry(process.to_owned()).or_default();
            let of_proxy = process == "linkerd-proxy";
            for (name, mut labels) in codes(cells[0]).flat_map(named) {
                let mut kind = None;
                if of_proxy && cells.len() == 3 {
                    kind = cells[1].split(|end: char| !end.is_ascii_lowercase()).next();
                    labels = labels_in(cells[2], metrics, &above);
                    above.clone_from(&labels);
                }
                let kind = kind.map(str::to_owned);
                metrics.insert(name, Metric { labels, kind });
            }
        }
    }
}

impl Metric {
    /// Whether it has this label.
    fn has(&self, label: &str) -> bool {
        self.labels
            .iter()
            .any(|known| match known.strip_suffix('*') {
                Some(begin) => label.starts_with(begin),
                None => known == label,
            })
    }
}

/// What stands between backticks.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `a_total{reason}` is one metric with a label, `a_{b,c}` are two; `a_*` is none that could be looked up.
fn named(code: &str) -> Vec<(String, BTreeSet<String>)> {
    let Some((begin, rest)) = code.split_once('{') else {
        let one = (!code.ends_with('*')).then(|| (code.to_owned(), BTreeSet::new()));
        return one.into_iter().collect();
    };
    let words = rest.trim_end_matches('}').split(',').map(str::to_owned);
    if begin.ends_with('_') {
        words
            .map(|word| (format!("{begin}{word}"), BTreeSet::new()))
            .collect()
    } else {
        vec![(begin.to_owned(), words.collect())]
    }
}

/// The labels in a cell: up to a colon, after which the values of the last one follow, and without what is in
/// parentheses. The name of a metric stands for its labels, and `the above` for those of the row before.
fn labels_in(
    cell: &str,
    metrics: &BTreeMap<String, Metric>,
    above: &BTreeSet<String>,
) -> BTreeSet<String> {
    let mut pieces = cell.split('(');
    let first = pieces.next().unwrap_or_default().to_owned();
    let cell = pieces.fold(first, |text, piece| {
        text + piece.split_once(')').map_or("", |(_, after)| after)
    });
    let cell = cell.split(':').next().unwrap_or_default();
    let mut labels = BTreeSet::new();
    if cell.contains("the above") {
        labels.extend(above.iter().cloned());
    }
    for code in codes(cell) {
        match metrics.get(code) {
            Some(metric) => labels.extend(metric.labels.iter().cloned()),
            None => drop(labels.insert(code.to_owned())),
        }
    }
    labels
}

/// The name of a sample, and the names of its labels.
fn sample(line: &str) -> (&str, Vec<&str>) {
    let end = line.find(['{', ' ']).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    while let Some((label, after)) = rest.trim_start_matches(['{', ',']).split_once("=\"") {
        labels.push(label);
        let mut escaped = false;
        let value_end = after.find(|character| {
            let end = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            end
        });
        rest = value_end.map_or("", |end| &after[end + 1..]);
    }
    (name, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
| metric | type | labels |
|---|---|---|
| `a_total` | counter; at the end | `x`, to others also `dst_*` |
| `b` | histogram, of time | the above, `y` |
| `c` | gauge | as `b`, `z` (its `name`), `state`: `on`, `off` |
| `process_*` | memory | |

| label | values |
|---|---|
| `x` | `1` |

| metric of `linkerd-ca` | what |
|---|---|
| `d_total{reason}` | written |
| `e_{f,g}`, `h` | known |
";

    fn page() -> Documented {
        let mut documented = Documented::default();
        documented.add(PAGE);
        documented
    }

    #[test]
    fn names_labels_and_types_are_read_from_the_tables() {
        let documented = page();
        let labels = |process: &str, name: &str| -> Vec<String> {
            let metric = documented.0[process].get(name).unwrap();
            metric.labels.iter().cloned().collect()
        };
        assert_eq!(labels("linkerd-proxy", "b"), ["dst_*", "x", "y"]);
        assert_eq!(
            labels("linkerd-proxy", "c"),
            ["dst_*", "state", "x", "y", "z"]
        );
        assert_eq!(labels("linkerd-ca", "d_total"), ["reason"]);
        let names = |process: &str| documented.0[process].keys().cloned().collect::<Vec<_>>();
        assert_eq!(names("linkerd-proxy"), ["a_total", "b", "c"]);
        assert_eq!(names("linkerd-ca"), ["d_total", "e_f", "e_g", "h"]);
        let kind = documented.0["linkerd-proxy"]["a_total"].kind.as_deref();
        assert_eq!(kind, Some("counter"));
    }

    #[test]
    fn what_no_page_has_is_named() {
        let documented = page();
        let good = "# TYPE a_total counter\na_total{x=\"\\\",y=\\\"\",dst_pod=\"p\"} 1\n# TYPE b histogram\n\
                    b_bucket{x=\"1\",le=\"+Inf\"} 2\nb_sum 1\n# TYPE process_x gauge\nprocess_x 1\n";
        documented.check("linkerd-proxy", good).unwrap();
        for (text, problem) in [
            ("# TYPE n counter\nn 1\n", "\"n\""),
            ("# TYPE a_total gauge\n", "a_total as a gauge"),
            (
                "# TYPE a_total counter\na_total{le=\"1\"} 1\n",
                "a_total{le}",
            ),
            ("", "no metrics"),
        ] {
            let error = documented.check("linkerd-proxy", text).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
