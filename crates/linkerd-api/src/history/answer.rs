//! Answers queries from the store, with the meaning that PromQL gives to them. Entry: [`answer`].

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use super::{
    exposition::{labels, unescaped},
    functions::{self, Point},
    quantile::quantile,
    store::{Record, Series, Store},
};
use crate::{
    query::{Aggregate, Function, Query, Sample, Selector},
    targets::Target,
};

/// A present value is at most so old.
const LOOKBACK: Duration = Duration::from_secs(5 * 60);

/// Values of a group by bound; one with the bound 0 where there are no buckets.
type Values = Vec<(f64, f64)>;

/// Returns the value of each group that has one at `now`, in milliseconds since 1970.
pub(super) fn answer(store: &Store, query: &Query, now: u64) -> Vec<Sample> {
    let mut groups: BTreeMap<Vec<String>, Values> = BTreeMap::new();
    for selector in &query.selectors {
        let mut found = BTreeMap::new();
        for (target, record) in store.records() {
            collect(target, record, query, selector, now, &mut found);
        }
        for (key, values) in found {
            groups.entry(key).or_insert(values);
        }
    }
    let samples = groups.into_iter().map(|(key, mut values)| {
        let labels = query.by.iter().cloned().zip(key);
        Sample {
            labels: labels.filter(|(_, value)| !value.is_empty()).collect(),
            value: match query.aggregate {
                Aggregate::Quantile(share) => {
                    values.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
                    quantile(share, &values)
                }
                Aggregate::Sum | Aggregate::Max => {
                    values.first().map_or(f64::NAN, |(_, value)| *value)
                }
            },
        }
    });
    samples.collect()
}

/// Adds the values of one target's series to their groups.
fn collect(
    target: &Target,
    record: &Record,
    query: &Query,
    selector: &Selector,
    now: u64,
    found: &mut BTreeMap<Vec<String>, Values>,
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
            query
                .by
                .iter()
                .map(|label| value(label).to_owned())
                .collect()
        };
        for series in group {
            let points = points(record, series, query.function, now);
            let Some(value) = functions::value(query.function, &points, now) else {
                continue;
            };
            let values = found.entry(key()).or_default();
            match values.iter_mut().find(|(bound, _)| *bound == series.bound) {
                None => values.push((series.bound, value)),
                Some((_, present)) if query.aggregate == Aggregate::Max => {
                    *present = present.max(value);
                }
                Some((_, sum)) => *sum += value,
            }
        }
    }
}

/// The points that a function looks at.
fn points(record: &Record, series: &Series, function: Function, now: u64) -> Vec<Point> {
    let window = function.window().unwrap_or(LOOKBACK);
    let begin = now.saturating_sub(u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
    let mut from = record.scrape_at(begin);
    if function == Function::Latest {
        let last = record.next().saturating_sub(1);
        if !record.is_present() || series.points.end() <= last {
            return Vec::new();
        }
        from = from.max(last);
    }
    let mut points = Vec::new();
    series.points.read(from, |scrape, value| {
        if let Some(at) = record.time(scrape).filter(|at| *at <= now) {
            points.push((at, value as f64));
        }
    });
    points
}

#[cfg(test)]
mod tests;
