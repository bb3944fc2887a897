//! What the proxy beside the application has counted. Entry: [`outbound`]. Pure: text in.

/// Responses to the application of this pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// Over mutual TLS.
    pub over_tls: u64,
    /// All others.
    pub in_plaintext: u64,
}

/// Adds up the outbound responses in a proxy's metrics.
pub fn outbound(metrics: &str) -> Outbound {
    let mut sums = Outbound::default();
    for line in metrics.lines() {
        let Some((series, count)) = line.rsplit_once(' ') else {
            continue;
        };
        let is_outbound =
            series.starts_with("response_total{") && series.contains("direction=\"outbound\"");
        let Some(count) = count.parse::<u64>().ok().filter(|_| is_outbound) else {
            continue;
        };
        if series.contains(",tls=\"true\"") || series.contains("{tls=\"true\"") {
            sums.over_tls += count;
        } else {
            sums.in_plaintext += count;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_outbound_responses_count() {
        let metrics = "# TYPE response_total counter\n\
            response_total{authority=\"a\",direction=\"outbound\",tls=\"true\"} 2\n\
            response_total{direction=\"outbound\",tls=\"no_identity\"} 4\n\
            response_total{direction=\"inbound\",tls=\"true\"} 8\n\
            request_total{direction=\"outbound\",tls=\"true\"} 16\n";
        let expected = Outbound {
            over_tls: 2,
            in_plaintext: 4,
        };
        assert_eq!(outbound(metrics), expected);
    }
}
