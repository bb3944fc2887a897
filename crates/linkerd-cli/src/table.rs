//! Text in columns. Entries: [`right_aligned`], [`left_aligned`].
//! Cells are often what pods say of themselves, so none of them steers the terminal.

use crate::visible::visible_line;

/// Blanks between two columns.
const PADDING: usize = 3;

/// Lays out rows of cells, each cell against the right edge of its column. A column that shall be
/// read from the left brings its blanks itself. No line ends with a blank that no cell has.
pub(crate) fn right_aligned(rows: &[Vec<String>]) -> String {
    let rows = visible(rows);
    let widths = widths(&rows);
    let mut text = String::new();
    for row in &rows {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = if index == 0 { 0 } else { PADDING };
            text.extend(std::iter::repeat_n(' ', padding + width - chars(cell)));
            text.push_str(cell);
        }
        text.push('\n');
    }
    text
}

/// Lays out rows of cells, each cell against the left edge of its column. No line ends with a blank.
pub(crate) fn left_aligned(rows: &[Vec<String>]) -> String {
    let rows = visible(rows);
    let widths = widths(&rows);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&pad(cell, width + PADDING));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Fills `text`, as a cell shows it, up with blanks to `width` characters.
pub(crate) fn pad(text: &str, width: usize) -> String {
    format!("{:<width$}", visible_line(text))
}

/// How many characters wide a text is in a cell.
pub(crate) fn chars(text: &str) -> usize {
    visible_line(text).chars().count()
}

fn visible(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let row = |row: &Vec<String>| row.iter().map(|cell| visible_line(cell)).collect();
    rows.iter().map(row).collect()
}

/// The widest cell of each column.
fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| chars(cell)).max().unwrap_or(0)
    };
    (0..columns).map(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_against_the_right_edge_three_blanks_apart() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["NAME", "A", "LONG"]), row(["ü   ", "100", "-"])];
        assert_eq!(
            right_aligned(&rows),
            "NAME     A   LONG\nü      100      -\n"
        );
    }

    #[test]
    fn cells_steer_no_terminal_and_make_no_rows() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let rows = [row(["A", "B"]), row(["\u{1b}[2J", "x\ny\u{202e}"])];
        assert_eq!(
            left_aligned(&rows),
            "A           B\n\\u{1b}[2J   x\\ny\\u{202e}\n"
        );
        assert_eq!(
            right_aligned(&rows),
            "        A              B\n\\u{1b}[2J   x\\ny\\u{202e}\n"
        );
        assert_eq!(pad("\t", 3), "\\t ");
    }
}
