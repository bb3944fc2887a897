//! Text in columns. Entry: [`right_aligned`].

/// Blanks between two columns.
const PADDING: usize = 3;

/// Lays out rows of cells, each cell against the right edge of its column. A column that shall be
/// read from the left brings its blanks itself. No line ends with a blank that no cell has.
pub(crate) fn right_aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|c| chars(c))
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
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
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let width = cells.map(|cell| chars(cell)).max().unwrap_or(0);
            line.push_str(&pad(cell, width + PADDING));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Fills `text` up with blanks to `width` characters.
pub(crate) fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

/// How many characters wide a text is.
pub(crate) fn chars(text: &str) -> usize {
    text.chars().count()
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
}
