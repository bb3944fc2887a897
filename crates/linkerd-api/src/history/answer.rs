//! Answers queries from the store, with the meaning that PromQL gives to them. Entries: [`answer`],
//! [`courses`].

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use super::{
    exposition::{labels, unescaped},
    functions::{self, Point},
    quantile::quantile,
    store::{Record, Series, Store},
};
use crate::{
    query::{Aggregate, Course, Function, Part, Query, Sample},
    targets::Target,
};

/// A present value is at most so old.
const LOOKBACK: Duration = Duration::from_secs(5 * 60);

/// Values of a group by bound; one with the bound 0 where there are no buckets.
type Values = Vec<(f64, f64)>;

/// The values of groups at each time, by the labels that they have.
type Groups<'a> = BTreeMap<BTreeMap<&'a str, String>, Vec<Values>>;

/// Returns the value of each group that has one at `now`, in milliseconds since 1970.
pub(super) fn answer(store: &Store, query: &Query, now: u64) -> Vec<Sample> {
    let courses = courses(store, query, &[now]).into_iter();
    let samples = courses.filter_map(|Course { labels, values }| {
        let value = values.into_iter().next().flatten()?;
        Some(Sample { labels, value })
    });
    samples.collect()
}

/// Returns the values of each group at `times`, in milliseconds since 1970, oldest first.
pub(super) fn courses(store: &Store, query: &Query, times: &[u64]) -> Vec<Course> {
    let mut groups = Groups::new();
    for part in &query.parts {
        let mut found = Groups::new();
        for (target, record) in store.records() {
            collect(target, record, query, part, times, &mut found);
        }
        for (key, values) in found {
            let known = groups
                .entry(key)
                .or_insert_with(|| vec![Values::new(); times.len()]);
            for (known, values) in known.iter_mut().zip(values) {
                if known.is_empty() {
                    *known = values;
                }
            }
        }
    }
    let courses = groups.into_iter().map(|(labels, values)| {
        let labels = labels.into_iter();
        let values = values.into_iter().map(|values| aggregated(query, values));
        Course {
            labels: labels
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            values: values.collect(),
        }
    });
    courses.collect()
}

/// None when there is no value.
fn aggregated(query: &Query, mut values: Values) -> Option<f64> {
    let (_, first) = *values.first()?;
    Some(match query.aggregate {
        Aggregate::Quantile(share) => {
            values.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
            quantile(share, &values)
        }
        Aggregate::Sum | Aggregate::Max => first,
    })
}

/// Adds the values of one target's series to their groups.
fn collect<'a>(
    target: &Target,
    record: &Record,
    query: &Query,
    Part { selector, by }: &'a Part,
    times: &[u64],
    found: &mut Groups<'a>,
) {
    let conditions = |(label, condition): (&String, &crate::query::Condition)| {
        let value = target.labels.get(label);
        value.is_none_or(|value| condition.met_by(value))
    };
    if !selector.iter().all(conditions) {
        return;
    }
    for (text, group) in record.groups(query.metric) {
        let own: Vec<(&str, Cow<'_, str>)> = labels(text)
            .map(|(name, value)| (name, unescaped(value)))
            .collect();
        // A target's labels come before those that it gives itself.
        let value = |label: &str| match target.labels.get(label) {
            Some(value) => value.as_str(),
            None => own
                .iter()
                .find(|(name, _)| *name == label)
                .map_or("", |(_, value)| value),
        };
        if !selector.iter().all(|(label, it)| it.met_by(value(label))) {
            continue;
        }
        let key = || {
            let labels = by.iter().map(|label| (label.as_str(), value(label)));
            let labels = labels.filter(|(_, value)| !value.is_empty());
            labels
                .map(|(name, value)| (name, value.to_owned()))
                .collect()
        };
        for series in group {
            let all = points(record, series, query.function, times);
            let latest = |at: u64| {
                let points = seen(record, series, Function::Latest, &all, at);
                points.last().map(|(_, value)| *value)
            };
            let value_at = |now: &u64| {
                let points = seen(record, series, query.function, &all, *now);
                functions::value(query.function, points, *now, latest)
            };
            let values: Vec<Option<f64>> = times.iter().map(value_at).collect();
            if values.iter().all(Option::is_none) {
                continue;
            }
            let known = found
                .entry(key())
                .or_insert_with(|| vec![Values::new(); times.len()]);
            for (known, value) in known.iter_mut().zip(values) {
                if let Some(value) = value {
                    add(known, query.aggregate, series.bound, value);
                }
            }
        }
    }
}

/// Adds a series' value to those of its group.
fn add(values: &mut Values, aggregate: Aggregate, bound: f64, value: f64) {
    match values.iter_mut().find(|(known, _)| *known == bound) {
        None => values.push((bound, value)),
        Some((_, present)) if aggregate == Aggregate::Max => *present = present.max(value),
        Some((_, sum)) => *sum += value,
    }
}

/// All points that a function looks at, at any of the times.
fn points(record: &Record, series: &Series, function: Function, times: &[u64]) -> Vec<Point> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return Vec::new();
    };
    let mut points = Vec::new();
    let mut begin = begin(function, *first);
    if matches!(function, Function::Growth(_)) {
        // It asks for the value at the window's start too, which is of before.
        begin = self::begin(Function::Latest, begin);
    }
    let from = record.scrape_at(begin);
    series.points.read(from, |scrape, value| {
        if let Some(at) = record.time(scrape).filter(|at| at <= last) {
            points.push((at, value as f64));
        }
    });
    points
}

/// The points that a function looks at, at one time.
fn seen<'a>(
    record: &Record,
    series: &Series,
    function: Function,
    points: &'a [Point],
    now: u64,
) -> &'a [Point] {
    let mut begin = begin(function, now);
    if function == Function::Latest {
        // What was not in the last scrape has no value.
        let scrape = record.scrape_at(now + 1).saturating_sub(1);
        let gone = scrape + 1 == record.next() && !record.is_present(now);
        let Some(at) = record.time(scrape) else {
            return &[];
        };
        if gone || series.points.end() <= scrape {
            return &[];
        }
        begin = begin.max(at);
    }
    let from = points.partition_point(|(at, _)| *at < begin);
    let to = points.partition_point(|(at, _)| *at <= now);
    points.get(from..to).unwrap_or_default()
}

/// Since when a function looks.
fn begin(function: Function, now: u64) -> u64 {
    let window = function.window().unwrap_or(LOOKBACK);
    now.saturating_sub(u64::try_from(window.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
