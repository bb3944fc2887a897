//! The figures that have a target, as an SVG picture: bars for each plane, relative to the largest.
//! Entry: [`svg`].

use std::fmt::Write as _;

use super::figures::FIGURES;
use super::record::Record;
use super::summary::Summary;
use super::table::number;

const WIDTH: f64 = 860.0;
/// Where bars begin; labels stand before it.
const BARS: f64 = 330.0;
/// The longest bar; its number stands behind it.
const BAR_MAX: f64 = 400.0;
const BAR_HEIGHT: f64 = 14.0;
const GAP: f64 = 14.0;
const TOP: f64 = 48.0;
/// One for each plane, in turn.
const COLOURS: [&str; 5] = ["#9aa5b1", "#2b7de9", "#e07b39", "#5aa469", "#8e6bbf"];

/// Draws the medians. A figure that no plane has is left out.
pub(super) fn svg(records: &[Record], planes: &[String]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for figure in FIGURES.iter().filter(|figure| figure.has_target()) {
        let bars: Vec<(usize, Summary)> = planes
            .iter()
            .enumerate()
            .filter_map(|(index, plane)| Some((index, figure.summary(records, plane)?)))
            .collect();
        let longest = bars.iter().map(|(_, bar)| bar.median).fold(
            if figure.label.ends_with('%') {
                100.0
            } else {
                0.0
            },
            f64::max,
        );
        if longest <= 0.0 {
            continue;
        }
        let better = if figure.more_is_better() {
            "↑"
        } else {
            "↓"
        };
        let title = figure.measure.short_title();
        let label = format!("{title}: {} {better}", figure.label);
        text(&mut body, BARS - 8.0, y + 11.0, "end", &label);
        for (index, bar) in bars {
            let width = (bar.median / longest).max(0.0) * BAR_MAX;
            let colour = COLOURS[index % COLOURS.len()];
            body.push_str(&rectangle(BARS, y, width, colour));
            text(
                &mut body,
                BARS + width + 6.0,
                y + 11.0,
                "start",
                &number(bar.median),
            );
            y += BAR_HEIGHT;
        }
        y += GAP;
    }
    let mut legend = String::new();
    for (index, plane) in planes.iter().enumerate() {
        let x = BARS + 110.0 * index as f64;
        legend.push_str(&rectangle(x, 16.0, 14.0, COLOURS[index % COLOURS.len()]));
        text(&mut legend, x + 20.0, 27.0, "start", plane);
    }
    let directions = "↑ more is better, ↓ less is better";
    text(&mut legend, BARS - 8.0, 27.0, "end", directions);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{y}\" fill=\"white\"/>\n{legend}{body}</svg>\n"
    )
}

fn rectangle(x: f64, y: f64, width: f64, colour: &str) -> String {
    let height = BAR_HEIGHT - 2.0;
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\" \
         fill=\"{colour}\"/>\n"
    )
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    )
    .expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measures::Measure;

    #[test]
    fn the_longest_bar_is_the_plane_with_the_most() {
        let record = |plane: &str, value: f64| Record {
            plane: plane.to_owned(),
            round: 1,
            measure: Measure::Http64,
            values: [("cpu_us".to_owned(), value)].into(),
        };
        let planes = ["ours", "a<b"].map(str::to_owned);
        let svg = svg(&[record("ours", 20.0), record("a<b", 80.0)], &planes);
        assert!(svg.contains("width=\"100.0\""), "{svg}");
        assert!(svg.contains("width=\"400.0\""), "{svg}");
        assert!(svg.contains("a&lt;b"), "{svg}");
    }
}
