//! The texts in the table. Entries: [`head`], [`cell`], [`fit`]. Pure.

use std::time::Duration;

use super::{figures::Row, view::Column};

/// A column's name; a shorter one where there is little room.
pub(super) fn head(column: Column, roomy: bool) -> &'static str {
    match column {
        Column::SuccessRate if !roomy => "SUCCESS",
        Column::Destination if !roomy => "DEST",
        column => column.head(),
    }
}

/// What a row has in a column.
pub(super) fn cell(column: Column, row: &Row) -> String {
    let tally = &row.tally;
    match column {
        Column::Source => row.source.clone(),
        Column::Destination => row.destination.clone(),
        Column::Method => row.method.clone(),
        Column::Path => row.path.clone(),
        Column::Count => tally.count.to_string(),
        Column::Best => latency(tally.best),
        Column::Worst => latency(tally.worst),
        Column::Last => latency(tally.last),
        Column::SuccessRate => format!("{:.2}%", tally.success_rate() * 100.0),
        Column::Tls => row.tls.clone(),
    }
}

/// Whether a column's cells stand against its right edge, as figures do.
pub(super) fn is_figure(column: Column) -> bool {
    match column {
        Column::Count | Column::Best | Column::Worst | Column::Last | Column::SuccessRate => true,
        Column::Source | Column::Destination | Column::Method | Column::Path | Column::Tls => false,
    }
}

/// Shortens a text to so many characters. Of a path the middle goes: the end tells paths apart.
pub(super) fn fit(column: Column, text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let tail = if column == Column::Path {
        kept * 2 / 3
    } else {
        0
    };
    let mut shown: String = text.chars().take(kept - tail).collect();
    shown.push('…');
    shown.extend(text.chars().skip(length - tail));
    shown
}

/// With the unit in which it has one to three digits before the point.
fn latency(latency: Duration) -> String {
    let micros = latency.as_micros();
    match micros {
        0..1_000 => format!("{micros}µs"),
        1_000..999_500 => format!("{}ms", (micros + 500) / 1_000),
        999_500..99_950_000 => format!("{:.1}s", latency.as_secs_f64()),
        _ => format!("{:.0}s", latency.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fit_six_characters() {
        for (micros, text) in [
            (0, "0µs"),
            (999, "999µs"),
            (1_000, "1ms"),
            (1_499, "1ms"),
            (999_499, "999ms"),
            (999_500, "1.0s"),
            (12_345_678, "12.3s"),
            (99_950_000, "100s"),
            (3_600_000_000, "3600s"),
        ] {
            assert_eq!(latency(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn long_texts_lose_their_end_and_paths_their_middle() {
        for (column, text, width, expected) in [
            (Column::Path, "/a.B/List", 9, "/a.B/List"),
            (Column::Path, "/emoji.v1.Emoji/List", 10, "/em…i/List"),
            (Column::Source, "vote-bot-6b8", 9, "vote-bot…"),
            (Column::Path, "/a", 1, "…"),
        ] {
            assert_eq!(fit(column, text, width), expected);
        }
    }
}
