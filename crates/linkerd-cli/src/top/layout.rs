//! Which columns a screen of some width has, and how wide they are. Entry: [`columns`]. Pure.

use super::{
    cells::{cell, head},
    figures::Row,
    view::Column,
};

/// From here on heads are written out and columns stand two blanks apart.
const ROOMY: usize = 100;
/// A reason for plaintext on a narrower screen: no two begin with the same eleven letters.
const TLS_NARROW_MAX: usize = 12;
/// What a narrow screen does without, one after the other: words before figures.
const DISPENSABLE: [Column; 6] = [
    Column::Source,
    Column::Method,
    Column::Destination,
    Column::Best,
    Column::Worst,
    Column::Last,
];

/// The columns of a screen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// With their widths, from left to right.
    pub(super) columns: Vec<(Column, usize)>,
    /// Blanks between two of them.
    pub(super) gap: usize,
    pub(super) roomy: bool,
}

/// Lays out a screen so many characters wide. Figures always have the room they need; source, destination,
/// method and path share what is left, and are dropped when that is too little.
pub(super) fn columns(width: usize, rows: &[Row], hide_sources: bool) -> Layout {
    let roomy = width >= ROOMY;
    let gap = if roomy { 2 } else { 1 };
    let mut columns: Vec<Wish> = Column::ALL
        .into_iter()
        .filter(|column| !(hide_sources && *column == Column::Source))
        .map(|column| wish(column, rows, roomy))
        .collect();
    let needed = |columns: &[Wish]| {
        let widths: usize = columns.iter().map(|wish| wish.least).sum();
        widths + gap * columns.len().saturating_sub(1)
    };
    for dispensable in DISPENSABLE {
        if needed(&columns) <= width {
            break;
        }
        columns.retain(|wish| wish.column != dispensable);
    }
    let mut left = width.saturating_sub(needed(&columns));
    // A character for each column that wants one, until there are none left or all are content.
    loop {
        let before = left;
        for wish in &mut columns {
            if left > 0 && wish.least < wish.most {
                wish.least += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    Layout {
        columns: columns
            .into_iter()
            .map(|wish| (wish.column, wish.least))
            .collect(),
        gap,
        roomy,
    }
}

struct Wish {
    column: Column,
    least: usize,
    most: usize,
}

fn wish(column: Column, rows: &[Row], roomy: bool) -> Wish {
    // The head has room for the mark of the order.
    let head = head(column, roomy).len() + 1;
    let longest = rows.iter().map(|row| cell(column, row).chars().count());
    let most = longest.max().unwrap_or(0).max(head);
    let least = match column {
        Column::Source | Column::Destination => most.min(8),
        Column::Method => 4,
        Column::Path => most.min(10),
        // Wide enough for all that comes, so that columns do not jump.
        Column::Count | Column::Best | Column::Worst | Column::Last => 6,
        Column::SuccessRate => head,
        Column::Tls if !roomy => most.min(TLS_NARROW_MAX),
        Column::Tls => most,
    };
    Wish {
        column,
        least,
        most: match column {
            Column::Tls if !roomy => least,
            _ => most.max(least),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(width: usize, hide_sources: bool) -> String {
        let layout = columns(width, &[], hide_sources);
        let used: usize = layout.columns.iter().map(|(_, width)| width).sum();
        let gaps = layout.gap * (layout.columns.len() - 1);
        assert!(width < 30 || used + gaps <= width, "{layout:?}");
        let heads = layout.columns.iter().map(|(column, _)| column.head());
        heads.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_narrower_screen_has_fewer_words_and_then_fewer_figures() {
        for (width, expected) in [
            (
                200,
                "SOURCE DESTINATION METHOD PATH COUNT BEST WORST LAST SUCCESS_RATE TLS",
            ),
            (
                80,
                "SOURCE DESTINATION METHOD PATH COUNT BEST WORST LAST SUCCESS_RATE TLS",
            ),
            (
                65,
                "DESTINATION METHOD PATH COUNT BEST WORST LAST SUCCESS_RATE TLS",
            ),
            (
                57,
                "DESTINATION PATH COUNT BEST WORST LAST SUCCESS_RATE TLS",
            ),
            (52, "PATH COUNT BEST WORST LAST SUCCESS_RATE TLS"),
            (39, "PATH COUNT LAST SUCCESS_RATE TLS"),
            (20, "PATH COUNT SUCCESS_RATE TLS"),
        ] {
            assert_eq!(names(width, false), expected, "{width}");
        }
        assert!(names(120, true).starts_with("DESTINATION "));
    }
}
