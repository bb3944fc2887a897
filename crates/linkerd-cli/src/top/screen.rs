//! Draws the table. Entry: [`draw`]. Knows no terminal: the tests look at what it draws in memory.

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::{Constraint, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Block, Clear, Paragraph},
};

use super::{
    cells::{cell, fit, head, is_figure},
    figures::{CONNECTION, ENCRYPTED, Figures, Row},
    layout::{self, Layout},
    view::{Column, View},
};

const HELP: [&str; 14] = [
    "q, Ctrl-C       quit",
    "p, space        pause, and go on",
    "1 … 9, 0        sort by that column; again: reverse",
    "← →             sort by the next column",
    "r               reverse the order",
    "s               hide sources, and show them",
    "c               clear: count from zero",
    "↑ ↓ (k j)       scroll by a row",
    "PgUp PgDn       by a page; Home End (g G): all the way",
    "",
    "A request counts when it has ended, TCP when closed.",
    "Success: no 5xx, gRPC status 0, not broken off.",
    "TLS: √ mutual TLS, or why it is plaintext.",
    "Sources hide first where there is no room.",
];

/// Keys in the last line, the most needed first.
const KEYS: [&str; 7] = [
    "q quit",
    "? help",
    "p pause",
    "←→ sort by",
    "r reverse",
    "s sources",
    "c clear",
];

/// What does not change while it runs, or comes from elsewhere than the events.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// What is watched, in the words of the command line.
    pub(super) title: String,
    /// Whether the person wants colours, and the terminal has them.
    pub(super) colors: Colors,
    /// The last pod that could not be watched, and why.
    pub(super) trouble: Option<String>,
}

/// With colours or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colors {
    Yes,
    No,
}

impl Colors {
    fn color(self, color: Color) -> Style {
        match self {
            Self::Yes => Style::new().fg(color),
            Self::No => Style::new(),
        }
    }
}

/// Draws one screen: a line about what is seen, the heads, the rows, a line of keys.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    surroundings: &Surroundings,
    view: &mut View,
    figures: &Figures,
) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let Surroundings {
        title,
        colors,
        trouble,
    } = surroundings;
    let rows = view.rows(figures);
    let layout = layout::columns(area.width.into(), &rows, view.hides_sources());
    let mut lines = Lines {
        area,
        buffer: frame.buffer_mut(),
        colors: *colors,
    };
    let mut bottom = area.height;
    lines.write(0, title, Modifier::BOLD.into());
    lines.write_right(0, &status(&rows, view, figures), Style::new());
    lines.heads(1, &layout, view.order());
    if bottom > 3 {
        bottom -= 1;
        lines.write(bottom, &keys(area.width.into()), Modifier::DIM.into());
    }
    if let Some(trouble) = trouble
        && bottom > 3
    {
        bottom -= 1;
        lines.write(bottom, trouble, colors.color(Color::Red));
    }
    let seen = view.scrolled(rows.len(), bottom.saturating_sub(2).into());
    if rows.is_empty() && bottom > 2 {
        lines.write(
            2,
            "Waiting for requests and connections to end …",
            Style::new(),
        );
    }
    for (y, row) in (2..bottom).zip(&rows[seen]) {
        lines.row(y, &layout, row);
    }
    if view.help {
        help(frame, area);
    }
}

struct Lines<'a> {
    area: Rect,
    buffer: &'a mut Buffer,
    colors: Colors,
}

impl Lines<'_> {
    fn write(&mut self, y: u16, text: &str, style: Style) {
        self.write_at(0, y, text, self.area.width.into(), style);
    }

    /// Against the right edge, over what is there.
    fn write_right(&mut self, y: u16, text: &str, style: Style) {
        let text = format!("  {text}");
        let width = Line::raw(&text).width();
        let x = usize::from(self.area.width).saturating_sub(width);
        self.write_at(x, y, &text, width, style);
    }

    /// What is out of the screen is left out.
    fn write_at(&mut self, x: usize, y: u16, text: &str, width: usize, style: Style) {
        let Ok(x) = u16::try_from(x) else { return };
        if x < self.area.width && y < self.area.height {
            let (x, y) = (self.area.x + x, self.area.y + y);
            self.buffer.set_stringn(x, y, text, width, style);
        }
    }

    fn heads(&mut self, y: u16, layout: &Layout, (order, descends): (Column, bool)) {
        self.cells(y, layout, |column| {
            let mut text = head(column, layout.roomy).to_owned();
            if column == order {
                text.push(if descends { '▼' } else { '▲' });
            }
            (text, Modifier::BOLD.into())
        });
    }

    fn row(&mut self, y: u16, layout: &Layout, row: &Row) {
        let colors = self.colors;
        self.cells(y, layout, |column| {
            let style = match column {
                Column::Tls if row.tls == ENCRYPTED => colors.color(Color::Green),
                Column::Tls => colors.color(Color::Yellow),
                Column::SuccessRate if row.tally.successes < row.tally.count => {
                    colors.color(Color::Red)
                }
                _ => Style::new(),
            };
            (cell(column, row), style)
        });
    }

    fn cells(&mut self, y: u16, layout: &Layout, text: impl Fn(Column) -> (String, Style)) {
        let mut x = 0;
        for (column, width) in &layout.columns {
            let (text, style) = text(*column);
            let text = fit(*column, &text, *width);
            let blanks = if is_figure(*column) {
                width - Line::raw(&text).width().min(*width)
            } else {
                0
            };
            self.write_at(x + blanks, y, &text, *width, style);
            x += width + layout.gap;
        }
    }
}

/// What is to be known of the whole table.
fn status(rows: &[Row], view: &View, figures: &Figures) -> String {
    let (mut requests, mut connections) = (0, 0);
    for row in rows {
        match row.method.as_str() {
            CONNECTION => connections += row.tally.count,
            _ => requests += row.tally.count,
        }
    }
    let mut parts = Vec::new();
    if requests > 0 || connections == 0 {
        parts.push(format!("{requests} requests"));
    }
    if connections > 0 {
        parts.push(format!("{connections} connections"));
    }
    if figures.idle_rows_dropped() > 0 {
        parts.push(format!("{} idle rows dropped", figures.idle_rows_dropped()));
    }
    parts.push(format!("by {}", view.order().0.head()));
    if view.is_paused() {
        parts.push("PAUSED".to_owned());
    }
    parts.join(", ")
}

/// As many of the keys as there is room for.
fn keys(width: usize) -> String {
    let mut line = String::new();
    for key in KEYS {
        let separator = if line.is_empty() { "" } else { "   " };
        if line.chars().count() + separator.len() + key.chars().count() > width {
            break;
        }
        line.push_str(separator);
        line.push_str(key);
    }
    line
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let longest = HELP.iter().map(|line| line.chars().count()).max();
    // The frame and a blank beside it.
    let length = |inner: usize| Constraint::Length(u16::try_from(inner).unwrap_or(u16::MAX));
    let place = area
        .centered(length(longest.unwrap_or(0) + 4), length(HELP.len() + 2))
        .intersection(area);
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|line| Line::raw(format!(" {line}")))
        .collect();
    frame.render_widget(Clear, place);
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(" any key closes ")),
        place,
    );
}

#[cfg(test)]
mod tests;
