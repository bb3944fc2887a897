//! The result as Markdown: one line for each figure, one column for each plane, and what ours is
//! in relation to Envoy and to our target. Entry: [`markdown`].

use super::figures::{FIGURES, Verdict};
use super::record::Record;
use super::summary::Summary;

/// Writes the table; figures that no plane has are left out.
pub(super) fn markdown(records: &[Record], planes: &[String]) -> String {
    let columns = planes.len() + 2;
    let mut lines = vec![
        format!("| | {} | ours/envoy | target |", planes.join(" | ")),
        format!("|---|{}", "---:|".repeat(columns)),
    ];
    let mut measure = None;
    for figure in FIGURES {
        let summaries: Vec<_> = planes
            .iter()
            .map(|plane| figure.summary(records, plane))
            .collect();
        if summaries.iter().all(Option::is_none) {
            continue;
        }
        if measure.replace(figure.measure) != Some(figure.measure) {
            let title = figure.measure.title();
            lines.push(format!("| **{title}** |{}", " |".repeat(columns)));
        }
        let cells: Vec<String> = summaries.into_iter().map(cell).collect();
        let Verdict { ratio, is_met } = figure.verdict(records);
        let ratio = ratio.map(number).unwrap_or_default();
        let mark = match is_met {
            Some(true) => " ✓",
            Some(false) => " ✗",
            None => "",
        };
        let target = figure.target_text();
        lines.push(format!(
            "| {} | {} | {ratio} | {target}{mark} |",
            figure.label,
            cells.join(" | ")
        ));
    }
    lines.join("\n") + "\n"
}

/// Median, and in parentheses the least and the greatest where there are several.
fn cell(summary: Option<Summary>) -> String {
    match summary {
        None => "–".to_owned(),
        Some(Summary { median, min, max }) if min == max => number(median),
        Some(Summary { median, min, max }) => {
            format!("{} ({}–{})", number(median), number(min), number(max))
        }
    }
}

/// Three significant digits, thousands apart.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 99.95 {
        let digits = format!("{:.0}", size);
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        let sign = if value < 0.0 { "-" } else { "" };
        format!("{sign}{text}")
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else if value == 0.0 {
        "0".to_owned()
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        let texts = [
            0.0,
            0.123,
            9.994,
            12.34,
            99.96,
            1234.5,
            1_234_567.0,
            -2345.0,
        ]
        .map(number);
        let expected = [
            "0",
            "0.12",
            "9.99",
            "12.3",
            "100",
            "1,234",
            "1,234,567",
            "-2,345",
        ];
        assert_eq!(texts, expected);
    }
}
