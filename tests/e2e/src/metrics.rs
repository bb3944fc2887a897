//! Sums over the metrics of a proxy. Entry: [`Metrics`].

/// What a proxy answers at `/metrics`.
#[derive(Clone, Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// The sum of all series of `name` that have every one of the `labels`, each `key="value"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.0
            .lines()
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let (found, rest) = series.split_once('{')?;
                let all = rest.trim_end_matches('}');
                let has = |label: &&str| all.split(',').any(|one| one == *label);
                (found == name && labels.iter().all(has)).then(|| value.parse::<f64>().ok())?
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_series_with_all_labels_count() {
        let metrics = Metrics(
            "# HELP a b\na{x=\"1\",tls=\"true\"} 2\na{tls=\"true\",x=\"2\"} 3\n\
             a{tls=\"false\",x=\"1\"} 4\nab{tls=\"true\",x=\"1\"} 5\n"
                .to_owned(),
        );
        assert!((metrics.sum("a", &["tls=\"true\""]) - 5.0).abs() < f64::EPSILON);
        assert!((metrics.sum("a", &["tls=\"true\"", "x=\"1\""]) - 2.0).abs() < f64::EPSILON);
        assert!((metrics.sum("a", &[]) - 9.0).abs() < f64::EPSILON);
    }
}
