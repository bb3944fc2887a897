//! Of the values of all rounds: the median, and how far they lie apart. Entry: [`Summary::of`].

use serde::Serialize;

use super::measures::Measure;
use super::record::Record;

/// Median, least and greatest of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Summary {
    /// None when there are no values.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }
}

/// The value of each round.
pub(super) fn values(records: &[Record], plane: &str, measure: Measure, name: &str) -> Vec<f64> {
    of_plane(records, plane, measure)
        .filter_map(|record| record.values.get(name).copied())
        .collect()
}

/// What each round's value is above that of `direct` in the same round; nothing for `direct` itself.
pub(super) fn added(records: &[Record], plane: &str, measure: Measure, name: &str) -> Vec<f64> {
    let direct = |round: u32| {
        of_plane(records, "direct", measure)
            .find(|record| record.round == round)?
            .values
            .get(name)
    };
    of_plane(records, plane, measure)
        .filter(|record| record.plane != "direct")
        .filter_map(|record| Some(record.values.get(name)? - direct(record.round)?))
        .collect()
}

fn of_plane<'a>(
    records: &'a [Record],
    plane: &'a str,
    measure: Measure,
) -> impl Iterator<Item = &'a Record> {
    records
        .iter()
        .filter(move |record| record.plane == plane && record.measure == measure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(plane: &str, round: u32, p50_us: f64) -> Record {
        Record {
            plane: plane.to_owned(),
            round,
            measure: Measure::Http64,
            values: [("p50_us".to_owned(), p50_us)].into(),
        }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        let summary = Summary::of(vec![4.0, 1.0, 2.0, 9.0]).unwrap();
        assert_eq!((summary.min, summary.median, summary.max), (1.0, 3.0, 9.0));
        assert_eq!(Summary::of(Vec::new()), None);
    }

    #[test]
    fn what_a_plane_adds_is_told_round_by_round() {
        let records = [
            record("direct", 1, 100.0),
            record("ours", 1, 150.0),
            record("ours", 2, 900.0),
            record("direct", 3, 200.0),
            record("ours", 3, 210.0),
        ];
        let added = added(&records, "ours", Measure::Http64, "p50_us");
        assert_eq!(added, [50.0, 10.0]);
    }
}
