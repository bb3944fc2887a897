//! The quantile of a histogram. Entry: [`quantile`]. Pure; the rules are those of PromQL's
//! `histogram_quantile`.

/// Returns the value that a share of `share` of the observations does not exceed, NaN when there are none.
///
/// `buckets` are upper bounds, each once and in order, with how many observations do not exceed them.
/// Observations are taken to be spread evenly within their bucket, and the lowest bucket to begin at zero.
pub(super) fn quantile(share: f64, buckets: &[(f64, f64)]) -> f64 {
    let Some(((bound, total), below)) = buckets.split_last() else {
        return f64::NAN;
    };
    // Buckets are scraped while they change; none has less than a lower one.
    let total = below
        .iter()
        .fold(*total, |most, (_, count)| most.max(*count));
    if *bound != f64::INFINITY || below.is_empty() || total == 0.0 {
        return f64::NAN;
    }
    let rank = share * total;
    let (mut lower, mut before) = (0.0, 0.0);
    for (upper, count) in below {
        let count = count.max(before);
        if count >= rank {
            if lower == 0.0 && *upper <= 0.0 {
                return *upper;
            }
            if count == before {
                return lower;
            }
            return lower + (upper - lower) * ((rank - before) / (count - before));
        }
        (lower, before) = (*upper, count);
    }
    // Above the last bound there is no telling how far.
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: f64 = f64::INFINITY;

    #[test]
    fn quantiles_lie_between_the_bounds_of_their_bucket() {
        let buckets = [
            (1.0, 50.0),
            (2.0, 90.0),
            (5.0, 90.0),
            (10.0, 100.0),
            (END, 100.0),
        ];
        for (share, expected) in [
            (0.25, 0.5),
            (0.5, 1.0),
            (0.7, 1.5),
            (0.9, 2.0),
            (0.95, 7.5),
            (1.0, 10.0),
        ] {
            let found = quantile(share, &buckets);
            assert!((found - expected).abs() < 1e-9, "{share}: {found}");
        }
    }

    #[test]
    fn what_exceeds_the_last_bound_counts_as_the_last_bound() {
        assert_eq!(
            quantile(0.99, &[(1.0, 10.0), (2.0, 10.0), (END, 20.0)]),
            2.0
        );
    }

    #[test]
    fn without_observations_or_an_end_there_is_none() {
        for buckets in [
            &[][..],
            &[(END, 5.0)],
            &[(1.0, 0.0), (END, 0.0)],
            &[(1.0, 5.0), (2.0, 5.0)],
        ] {
            assert!(quantile(0.5, buckets).is_nan(), "{buckets:?}");
        }
    }

    #[test]
    fn a_bucket_with_less_than_a_lower_one_has_as_much() {
        assert_eq!(quantile(1.0, &[(1.0, 10.0), (2.0, 9.0), (END, 10.0)]), 1.0);
    }
}
