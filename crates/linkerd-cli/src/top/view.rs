//! What the person at the terminal has chosen to see, and how keys change it. Entry: [`View::key`]. Pure.

use std::cmp::Ordering;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::figures::{Figures, Row, without_sources};

/// A column, in the order of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Source,
    Destination,
    Method,
    Path,
    Count,
    Best,
    Worst,
    Last,
    SuccessRate,
    Tls,
}

impl Column {
    pub(super) const ALL: [Self; 10] = [
        Self::Source,
        Self::Destination,
        Self::Method,
        Self::Path,
        Self::Count,
        Self::Best,
        Self::Worst,
        Self::Last,
        Self::SuccessRate,
        Self::Tls,
    ];

    pub(super) fn head(self) -> &'static str {
        match self {
            Self::Source => "SOURCE",
            Self::Destination => "DESTINATION",
            Self::Method => "METHOD",
            Self::Path => "PATH",
            Self::Count => "COUNT",
            Self::Best => "BEST",
            Self::Worst => "WORST",
            Self::Last => "LAST",
            Self::SuccessRate => "SUCCESS_RATE",
            Self::Tls => "TLS",
        }
    }

    /// Whether its rows begin with the greatest. What is bad comes first: the slowest, what fails, and
    /// what is in plaintext; words come from A to Z.
    fn descends(self) -> bool {
        match self {
            Self::Count | Self::Best | Self::Worst | Self::Last => true,
            Self::Source
            | Self::Destination
            | Self::Method
            | Self::Path
            | Self::SuccessRate
            | Self::Tls => false,
        }
    }

    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let (one, other) = (&a.tally, &b.tally);
        match self {
            Self::Source => a.source.cmp(&b.source),
            Self::Destination => a.destination.cmp(&b.destination),
            Self::Method => a.method.cmp(&b.method),
            Self::Path => a.path.cmp(&b.path),
            Self::Count => one.count.cmp(&other.count),
            Self::Best => one.best.cmp(&other.best),
            Self::Worst => one.worst.cmp(&other.worst),
            Self::Last => one.last.cmp(&other.last),
            Self::SuccessRate => one.success_rate().total_cmp(&other.success_rate()),
            // The sign for TLS comes after all letters.
            Self::Tls => a.tls.cmp(&b.tls),
        }
    }
}

/// Which rows, in which order, from which one on.
#[derive(Debug)]
pub(super) struct View {
    sort_by: Column,
    reversed: bool,
    hide_sources: bool,
    /// The rows of the moment when it was paused.
    paused: Option<Vec<Row>>,
    pub(super) help: bool,
    /// Index of the first row that is shown.
    first: usize,
    /// Rows that fit the screen; the screen sets it.
    rows_that_fit: usize,
}

/// What to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Continue,
    /// Count from zero.
    Clear,
    Quit,
}

impl View {
    pub(super) fn new(hide_sources: bool) -> Self {
        Self {
            sort_by: Column::Count,
            reversed: false,
            hide_sources,
            paused: None,
            help: false,
            first: 0,
            rows_that_fit: 0,
        }
    }

    /// The column of the order, and whether its rows begin with the greatest.
    pub(super) fn order(&self) -> (Column, bool) {
        (self.sort_by, self.sort_by.descends() != self.reversed)
    }

    pub(super) fn hides_sources(&self) -> bool {
        self.hide_sources
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// All rows in order.
    pub(super) fn rows(&self, figures: &Figures) -> Vec<Row> {
        let mut rows = match &self.paused {
            Some(rows) => rows.clone(),
            None => figures.rows(),
        };
        if self.hide_sources {
            rows = without_sources(rows);
        }
        let (column, descends) = self.order();
        rows.sort_by(|a, b| {
            let order = column.compare(a, b);
            let order = if descends { order.reverse() } else { order };
            // Equal rows must not change places from one screen to the next.
            order.then_with(|| all_words(a).cmp(&all_words(b)))
        });
        rows
    }

    /// Returns which of `rows` rows come first and last on a screen with room for `rows_that_fit`.
    pub(super) fn scrolled(&mut self, rows: usize, rows_that_fit: usize) -> std::ops::Range<usize> {
        self.rows_that_fit = rows_that_fit;
        self.first = self.first.min(rows.saturating_sub(rows_that_fit));
        self.first..rows.min(self.first + rows_that_fit)
    }

    /// Does what a key is for.
    pub(super) fn key(&mut self, key: KeyEvent, figures: &Figures) -> After {
        let KeyEvent {
            code, modifiers, ..
        } = key;
        if modifiers.contains(KeyModifiers::CONTROL) {
            return match code {
                KeyCode::Char('c') => After::Quit,
                _ => After::Continue,
            };
        }
        if self.help {
            self.help = false;
            return After::Continue;
        }
        let page = self.rows_that_fit.max(1);
        match code {
            KeyCode::Char('q') => return After::Quit,
            KeyCode::Char('?') => self.help = true,
            KeyCode::Char('p' | ' ') => self.pause(figures),
            KeyCode::Char('s') => self.hide_sources = !self.hide_sources,
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('c') => {
                self.paused = self.paused.take().map(|_| Vec::new());
                return After::Clear;
            }
            KeyCode::Char(digit @ '0'..='9') => self.sort_by_digit(digit),
            KeyCode::Left => self.sort_by_neighbour(Column::ALL.len() - 1),
            KeyCode::Right => self.sort_by_neighbour(1),
            KeyCode::Up | KeyCode::Char('k') => self.first = self.first.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.first = self.first.saturating_add(1),
            KeyCode::PageUp => self.first = self.first.saturating_sub(page),
            KeyCode::PageDown => self.first = self.first.saturating_add(page),
            KeyCode::Home | KeyCode::Char('g') => self.first = 0,
            // The next screen takes it back to the last page.
            KeyCode::End | KeyCode::Char('G') => self.first = usize::MAX,
            _ => {}
        }
        After::Continue
    }

    fn pause(&mut self, figures: &Figures) {
        self.paused = match self.paused {
            Some(_) => None,
            None => Some(figures.rows()),
        };
    }

    /// 1 to 9, and 0 for the tenth.
    fn sort_by_digit(&mut self, digit: char) {
        let number = digit.to_digit(10).map_or(0, |digit| digit as usize);
        let index = (number + Column::ALL.len() - 1) % Column::ALL.len();
        self.sort(Column::ALL[index]);
    }

    /// Goes so many columns to the right, past the last one to the first.
    fn sort_by_neighbour(&mut self, distance: usize) {
        let here = Column::ALL
            .iter()
            .position(|column| *column == self.sort_by);
        let index = (here.unwrap_or(0) + distance) % Column::ALL.len();
        self.sort(Column::ALL[index]);
    }

    /// The same column again turns the order round.
    fn sort(&mut self, column: Column) {
        self.reversed = column == self.sort_by && !self.reversed;
        self.sort_by = column;
    }
}

fn all_words(row: &Row) -> [&str; 5] {
    [
        &row.destination,
        &row.path,
        &row.method,
        &row.source,
        &row.tls,
    ]
}
