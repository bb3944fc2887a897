//! Queries as Prometheus reads them. Entry: [`render`].
//! Pure. Every name from outside is quoted, so that it stays a value.

use std::time::Duration;

use crate::query::{
    Aggregate, BOUND, Condition, Function, Part, Query, Selector, distance_of_moments,
};

/// Writes a query in PromQL.
pub(crate) fn render(query: &Query) -> String {
    let parts = query.parts.iter().map(|it| part(query, it));
    parts.collect::<Vec<_>>().join(" or ")
}

fn part(query: &Query, Part { selector, by }: &Part) -> String {
    let Query {
        aggregate,
        function,
        metric,
        parts: _,
    } = query;
    let series = format!("{}{}", metric.name(), conditions(selector));
    let values = match function {
        Function::Latest => series,
        Function::Increase(window) => over("increase", &series, *window),
        Function::Rate(window) => over("rate", &series, *window),
        Function::LastRate(window) => over("irate", &series, *window),
        Function::Max(window) => over("max_over_time", &series, *window),
        Function::Growth(window) => growth(&series, *window),
    };
    let by = by.join(", ");
    match aggregate {
        Aggregate::Sum => format!("sum({values}) by ({by})"),
        Aggregate::Max => format!("max({values}) by ({by})"),
        Aggregate::Quantile(quantile) => {
            format!("histogram_quantile({quantile}, sum({values}) by ({BOUND}, {by}))")
        }
    }
}

fn over(function: &str, series: &str, window: Duration) -> String {
    format!("{function}({series}[{}])", duration(window))
}

/// Of a counter that is larger than at the window's start the difference; of one that was not there then all; of
/// one that started again from zero the increase; of one that was away a moment ago its value, of which nobody
/// knows how much is old; and of one that was away longer ago, which may have ended since, one.
fn growth(series: &str, window: Duration) -> String {
    let last = over("last_over_time", series, window);
    let increase = over("increase", series, window);
    let step = distance_of_moments(window);
    // The first moment has none before it in the window. No range may be empty.
    let later = window.saturating_sub(step).max(step);
    let [window, step, later] = [window, step, later].map(duration);
    let begun = format!("({series} unless {series} offset {step})");
    format!(
        "{last} - {series} offset {window} > 0 or {last} unless {series} offset {window} or {increase} > 0 or \
         {begun} or count_over_time({begun}[{later}:{step}]) > bool 0"
    )
}

/// A whole number of the largest unit that leaves no rest.
pub(crate) fn duration(window: Duration) -> String {
    let millis = window.as_millis();
    for (unit, name) in [(3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if millis.is_multiple_of(unit) {
            return format!("{}{name}", millis / unit);
        }
    }
    format!("{millis}ms")
}

/// `{a="1", b!="2"}`, sorted by label; nothing when there are none.
fn conditions(selector: &Selector) -> String {
    if selector.is_empty() {
        return String::new();
    }
    let all: Vec<String> = selector
        .iter()
        .map(|(label, condition)| match condition {
            Condition::Is(value) => format!("{label}={}", quote(value)),
            Condition::IsNot(value) => format!("{label}!={}", quote(value)),
        })
        .collect();
    format!("{{{}}}", all.join(", "))
}

/// A PromQL string literal. Prometheus reads it as Go does.
fn quote(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for character in value.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Metric;

    #[test]
    fn windows_are_written_in_their_largest_whole_unit() {
        for (millis, expected) in [
            (60_000, "1m"),
            (30_000, "30s"),
            (90_000, "90s"),
            (3_600_000, "1h"),
            (1_500, "1500ms"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn growth_is_a_difference_or_all_of_what_is_new_or_tells_what_was_away() {
        let growth = growth("x", Duration::from_secs(30));
        let expected = "last_over_time(x[30s]) - x offset 30s > 0 or last_over_time(x[30s]) unless x offset 30s \
             or increase(x[30s]) > 0 or (x unless x offset 3s) \
             or count_over_time((x unless x offset 3s)[27s:3s]) > bool 0";
        assert_eq!(growth, expected);
    }

    #[test]
    fn windows_have_few_moments_or_one_a_minute_or_as_many_as_cost_little() {
        for (window, distance) in [
            (1, 1),
            (25, 2),
            (60_000, 6_000),
            (600_000, 60_000),
            (1_800_000, 60_000),
            (3_600_000, 60_000),
            (6 * 3_600_000, 360_000),
        ] {
            let found = distance_of_moments(Duration::from_millis(window));
            assert_eq!(found, Duration::from_millis(distance), "{window}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        let evil = Condition::is("a\"} or vector(1) #\\\n");
        assert_eq!(
            conditions(&[("pod".to_owned(), evil)].into()),
            r#"{pod="a\"} or vector(1) #\\\n"}"#
        );
    }

    #[test]
    fn several_parts_are_alternatives_each_with_groups_of_its_own() {
        let part = |selector: Selector, by: &[&str]| Part {
            selector,
            by: by.iter().map(|label| (*label).to_owned()).collect(),
        };
        let has = |label: &str| [(label.to_owned(), Condition::is_set())].into();
        let query = Query {
            aggregate: Aggregate::Max,
            function: Function::Latest,
            metric: Metric::StartTime,
            parts: vec![
                part(has("pod"), &["pod", "namespace"]),
                part(Selector::new(), &["pod", "namespace"]),
                part(has("dst_pod"), &["dst_pod"]),
            ],
        };
        assert_eq!(
            render(&query),
            "max(process_start_time_seconds{pod!=\"\"}) by (pod, namespace) or \
             max(process_start_time_seconds) by (pod, namespace) or \
             max(process_start_time_seconds{dst_pod!=\"\"}) by (dst_pod)"
        );
    }
}
