//! Prometheus' text format, as far as the history keeps it. Entries: [`lines`], [`labels`].
//! What cannot be read is left out: a proxy is asked again soon.

use std::borrow::Cow;

use crate::query::{BOUND, Metric};

/// Larger values are not exact in Prometheus either.
const VALUE_MAX: f64 = 9_007_199_254_740_992.0;

/// One value of one series.
#[derive(Debug, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) metric: Metric,
    /// The series' labels as they stand between the braces, without the bound.
    pub(super) labels: Cow<'a, str>,
    /// The bucket's upper bound; 0 where there are no buckets.
    pub(super) bound: f64,
    pub(super) value: i64,
}

/// The values of the metrics that are asked for, to whole numbers.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter_map(line)
}

fn line(text: &str) -> Option<Line<'_>> {
    let name = text.find(['{', ' '])?;
    let (name, rest) = text.split_at(name);
    let metric = Metric::ALL.into_iter().find(|it| it.name() == name)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inner) => {
            let end = closing(inner)?;
            (&inner[..end], &inner[end + 1..])
        }
        None => ("", rest),
    };
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    if !value.is_finite() {
        return None;
    }
    let (labels, bound) = match metric {
        Metric::LatencyBuckets => split_bound(labels)?,
        _ => (Cow::Borrowed(labels), 0.0),
    };
    Some(Line {
        metric,
        labels,
        bound,
        value: whole(value),
    })
}

/// Where the brace is that closes the labels.
fn closing(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|byte| {
        let closes = byte == b'}' && !quoted;
        if byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// Takes the bound out of a bucket's labels.
fn split_bound(text: &str) -> Option<(Cow<'_, str>, f64)> {
    // Most proxies write it last.
    if let Some((before, last)) = text.rsplit_once(",le=\"")
        && let Some(bound) = last.strip_suffix('"').and_then(|last| last.parse().ok())
    {
        return Some((Cow::Borrowed(before), bound));
    }
    let mut bound = None;
    let mut others = Vec::new();
    for (name, value) in labels(text) {
        if name == BOUND {
            bound = value.parse().ok();
        } else {
            others.push(format!("{name}=\"{value}\""));
        }
    }
    Some((Cow::Owned(others.join(",")), bound?))
}

#[allow(clippy::cast_possible_truncation, reason = "it is clamped before")]
fn whole(value: f64) -> i64 {
    value.round().clamp(-VALUE_MAX, VALUE_MAX) as i64
}

/// The names and values of labels, values as they are escaped in the text.
pub(super) fn labels(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (name, after) = rest.trim_start_matches([',', ' ']).split_once("=\"")?;
        let mut escaped = false;
        let end = after.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        rest = &after[end + 1..];
        Some((name, &after[..end]))
    })
}

/// A label's value without its escapes.
pub(super) fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        let plain = match character {
            '\\' => characters
                .next()
                .map(|it| if it == 'n' { '\n' } else { it }),
            other => Some(other),
        };
        text.extend(plain);
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(&'static str, String, f64, i64)> {
        lines(text)
            .map(|it| (it.metric.name(), it.labels.into_owned(), it.bound, it.value))
            .collect()
    }

    #[test]
    fn asked_metrics_are_read_and_others_left_out() {
        let text = "\
# HELP response_total Responses
# TYPE response_total counter
response_total{direction=\"inbound\",tls=\"true\"} 7
response_total_other{a=\"b\"} 7
response_latency_ms_sum{a=\"b\"} 7.5
response_latency_ms_bucket{a=\"b\",le=\"5\"} 3
response_latency_ms_bucket{a=\"b\",le=\"+Inf\"} 4
tcp_open_connections{} -1 1700000000000
process_start_time_seconds 1795921200.6
";
        assert_eq!(
            read(text),
            [
                (
                    "response_total",
                    "direction=\"inbound\",tls=\"true\"".to_owned(),
                    0.0,
                    7
                ),
                ("response_latency_ms_bucket", "a=\"b\"".to_owned(), 5.0, 3),
                (
                    "response_latency_ms_bucket",
                    "a=\"b\"".to_owned(),
                    f64::INFINITY,
                    4
                ),
                ("tcp_open_connections", String::new(), 0.0, -1),
                (
                    "process_start_time_seconds",
                    String::new(),
                    0.0,
                    1_795_921_201
                ),
            ]
        );
    }

    #[test]
    fn values_of_labels_may_look_like_syntax() {
        let text = r#"response_total{a="}\"{,le=",b="\\"} 1"#;
        let [(_, labels_text, _, 1)] = &read(text)[..] else {
            panic!("{:?}", read(text));
        };
        let labels: Vec<_> = labels(labels_text)
            .map(|(name, value)| (name, unescaped(value).into_owned()))
            .collect();
        assert_eq!(
            labels,
            [("a", "}\"{,le=".to_owned()), ("b", "\\".to_owned())]
        );
        assert_eq!(unescaped("a\\nb"), "a\nb");
    }

    #[test]
    fn a_bound_is_found_wherever_it_is() {
        for (text, expected) in [
            (r#"a="x",le="10""#, (r#"a="x""#, 10.0)),
            (r#"le="10",a="x,le=""#, (r#"a="x,le=""#, 10.0)),
            (r#"le="10""#, ("", 10.0)),
        ] {
            let (labels, bound) = split_bound(text).expect(text);
            assert_eq!((&*labels, bound), expected, "{text}");
        }
        assert_eq!(split_bound(r#"a="x""#), None);
    }

    #[test]
    fn nonsense_is_left_out() {
        for text in [
            "response_total",
            "response_total{a=\"b\" 1",
            "response_total{a=\"b\"}",
            "response_total{a=\"b\"} x",
            "response_total NaN",
            "response_total +Inf",
            "response_latency_ms_bucket{a=\"b\"} 1",
        ] {
            assert_eq!(read(text), [], "{text}");
        }
        assert_eq!(read("response_total 1e300")[0].3, 1 << 53);
    }
}
