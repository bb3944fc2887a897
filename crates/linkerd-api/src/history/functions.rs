//! What PromQL's functions make of the points of one series. Entry: [`value`]. Pure.
//!
//! Facts: Prometheus' documentation of query functions; the extrapolation is that of version 2.42, which the
//! chart installs, and a test compares both.

use std::time::Duration;

use crate::query::{Function, distance_of_moments};

/// A time in milliseconds since 1970, and the value then.
pub(super) type Point = (u64, f64);

/// Between a window's end and the nearest point there may be so many usual distances of two points before
/// the series is taken to begin or end there.
const DISTANCES_MAX: f64 = 1.1;

/// Returns the function's value at `now`, in milliseconds since 1970; none where PromQL has none.
///
/// The points are those of the function's window, oldest first; for [`Function::Latest`] the present one.
/// `at` knows what the present value was at another time.
pub(super) fn value(
    function: Function,
    points: &[Point],
    now: u64,
    at: impl Fn(u64) -> Option<f64>,
) -> Option<f64> {
    match function {
        Function::Latest => points.last().map(|(_, value)| *value),
        Function::Max(_) => points.iter().map(|(_, value)| *value).reduce(f64::max),
        Function::Increase(window) => increase(points, now, window),
        Function::Rate(window) => {
            increase(points, now, window).map(|growth| growth / window.as_secs_f64())
        }
        Function::LastRate(_) => last_rate(points),
        Function::Growth(window) => since_start(points, now, window, at),
    }
}

/// By how much a counter grew since the window began; see `promql.rs` for the cases.
fn since_start(
    points: &[Point],
    now: u64,
    window: Duration,
    at: impl Fn(u64) -> Option<f64>,
) -> Option<f64> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let begin = now.saturating_sub(millis(window));
    if let Some((_, last)) = points.last() {
        match at(begin) {
            None => return Some(*last),
            Some(start) if *last > start => return Some(last - start),
            Some(_) => {}
        }
    }
    if let Some(grown) = increase(points, now, window).filter(|grown| *grown > 0.0) {
        return Some(grown);
    }
    let step = millis(distance_of_moments(window));
    if let Some(present) = at(now).filter(|_| at(now.saturating_sub(step)).is_none()) {
        return Some(present);
    }
    let moments = (begin.div_ceil(step)..=now / step).map(|n| at(n * step).is_some());
    let there: Vec<bool> = moments.collect();
    let began_again = there.windows(2).any(|pair| pair == [false, true]);
    began_again.then_some(1.0)
}

/// By how much a counter grew in the window: as seen, and extended to the window's ends.
fn increase(points: &[Point], now: u64, window: Duration) -> Option<f64> {
    let [(first_at, first), .., (last_at, _)] = points else {
        return None;
    };
    let pairs = points.iter().zip(&points[1..]);
    let grown: f64 = pairs
        .map(|((_, before), (_, after))| growth(*before, *after))
        .sum();
    let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1000.0;
    let seen = seconds(*first_at, *last_at);
    let distance = seen / (points.len() - 1) as f64;
    let begin = now.saturating_sub(u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
    let mut before = seconds(begin, *first_at);
    if grown > 0.0 && *first >= 0.0 {
        // No counter was below zero.
        before = before.min(seen * (first / grown));
    }
    let extension = |missing: f64| {
        if missing < distance * DISTANCES_MAX {
            missing
        } else {
            distance / 2.0
        }
    };
    let whole = seen + extension(before) + extension(seconds(*last_at, now));
    Some(grown * (whole / seen))
}

/// Growth a second between the last two points.
fn last_rate(points: &[Point]) -> Option<f64> {
    let [.., (before_at, before), (after_at, after)] = points else {
        return None;
    };
    let millis = after_at.checked_sub(*before_at).filter(|it| *it > 0)?;
    Some(growth(*before, *after) / (millis as f64 / 1000.0))
}

/// A counter that is smaller than before has started again from zero.
fn growth(before: f64, after: f64) -> f64 {
    if after < before {
        after
    } else {
        after - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn points(seconds_and_values: &[(u64, f64)]) -> Vec<Point> {
        let points = seconds_and_values.iter();
        points.map(|(at, value)| (at * 1000, *value)).collect()
    }

    fn at_100(function: Function, seconds_and_values: &[(u64, f64)]) -> Option<f64> {
        value(function, &points(seconds_and_values), 100_000, |_| None)
    }

    /// A counter is scraped each ten seconds. At the window's start it is as at the scrape before.
    #[test]
    fn growth_is_what_was_counted_since_the_window_began() {
        let growth = |values: &[Option<u32>]| {
            let scrapes = (0..).map(|n| n * 10_000 + 5_000).zip(values);
            let seen: Vec<Point> = scrapes
                .clone()
                .filter_map(|(time, value)| Some((time, f64::from((*value)?))))
                .collect();
            let at = |time: u64| {
                let last = scrapes.clone().take_while(|(it, _)| *it <= time).last();
                last.and_then(|(_, value)| *value).map(f64::from)
            };
            let window: Vec<Point> = seen.into_iter().filter(|(at, _)| *at >= 40_000).collect();
            value(Function::Growth(MINUTE), &window, 100_000, at)
        };
        let then = |before: Option<u32>, within: [Option<u32>; 6]| {
            growth(&[&[before; 4][..], &within].concat())
        };
        assert_eq!(then(Some(7), [Some(7); 6]), None, "it rests");
        let last = [Some(7), Some(7), Some(7), Some(7), Some(7), Some(9)];
        assert_eq!(then(Some(7), last), Some(2.0));
        assert_eq!(then(Some(6), [Some(7); 6]), Some(1.0), "just within");
        assert_eq!(then(None, [Some(7); 6]), Some(7.0), "it is new");
        let late = [None, None, None, None, None, Some(1)];
        assert_eq!(then(None, late), Some(1.0), "it has one value");
        assert_eq!(then(None, [Some(0); 6]), Some(0.0), "it counts nothing yet");
        let again = [Some(7), Some(7), Some(0), Some(2), Some(2), Some(2)];
        assert!(then(Some(7), again).expect("grown") >= 2.0);
        let restarted = [Some(7), Some(7), Some(0), Some(0), Some(0), Some(0)];
        assert_eq!(then(Some(7), restarted), None, "it started again and rests");
        let away = [Some(1), Some(1), None, None, Some(1), Some(1)];
        assert_eq!(then(Some(1), away), Some(1.0), "it ended and began again");
        let away = [Some(7), None, None, None, None, Some(7)];
        assert_eq!(then(Some(7), away), Some(7.0), "it has just begun again");
        let ended = [Some(1), Some(1), Some(1), None, None, None];
        assert_eq!(then(Some(1), ended), None, "it ended");
        let twice = [Some(1), None, None, Some(1), Some(1), None];
        assert_eq!(then(Some(1), twice), Some(1.0), "it ended twice");
        let less = [None, None, Some(1), Some(1), None, None];
        assert_eq!(then(Some(7), less), Some(1.0), "with less than before");
        let gone = [None, None, None, None, None, None];
        assert_eq!(then(Some(7), gone), None, "it ended at once");
    }

    /// Expected values by hand, from PromQL's rules.
    #[test]
    fn an_increase_is_extended_to_the_ends_of_its_window() {
        for (seen, expected) in [
            // 50 in 50 s, and 5 s at either end.
            (
                &[(45, 100.0), (55, 110.0), (95, 150.0)][..],
                50.0 * 60.0 / 50.0,
            ),
            // The series begins within the window: half a distance of 10 s before it.
            (
                &[(70, 100.0), (80, 110.0), (90, 120.0), (100, 130.0)],
                30.0 * 35.0 / 30.0,
            ),
            // A counter that began 2 s before, at zero.
            (
                &[(70, 2.0), (80, 12.0), (90, 22.0), (100, 32.0)],
                30.0 * 32.0 / 30.0,
            ),
            // It ended: half a distance after it.
            (&[(40, 100.0), (50, 110.0), (60, 120.0)], 20.0 * 25.0 / 20.0),
            // It started again at 3 and did not lose what it had counted.
            (&[(40, 100.0), (60, 107.0), (80, 3.0), (100, 4.0)], 11.0),
            // It rests.
            (&[(40, 7.0), (100, 7.0)], 0.0),
        ] {
            let increase = at_100(Function::Increase(MINUTE), seen).expect("a value");
            assert!((increase - expected).abs() < 1e-9, "{seen:?}: {increase}");
            let rate = at_100(Function::Rate(MINUTE), seen).expect("a value");
            assert!((rate - expected / 60.0).abs() < 1e-9, "{seen:?}: {rate}");
        }
        for few in [&[][..], &[(50, 1.0)]] {
            assert_eq!(at_100(Function::Increase(MINUTE), few), None);
        }
    }

    #[test]
    fn the_last_rate_is_that_of_two_points() {
        let rate = |seen| at_100(Function::LastRate(MINUTE), seen);
        assert_eq!(rate(&[(50, 0.0), (80, 5.0), (90, 25.0)]), Some(2.0));
        assert_eq!(rate(&[(80, 50.0), (90, 20.0)]), Some(2.0));
        assert_eq!(rate(&[(90, 20.0)]), None);
    }

    #[test]
    fn the_largest_and_the_present_value() {
        let seen = &[(50, 1.0), (80, 5.0), (90, 2.0)];
        assert_eq!(at_100(Function::Max(MINUTE), seen), Some(5.0));
        assert_eq!(at_100(Function::Latest, seen), Some(2.0));
        assert_eq!(at_100(Function::Max(MINUTE), &[]), None);
    }
}
