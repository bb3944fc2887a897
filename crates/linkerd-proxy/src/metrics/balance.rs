//! Tells of endpoints: how many are ready in each Service, and how often they were left alone.

use std::sync::atomic::Ordering::Relaxed;

use super::{head, label, sample};
use crate::{ejections::Ejections, endpoints::Census};

/// A target as the scrape finds it.
pub(crate) struct Balanced {
    /// As the application connects to it.
    pub(crate) target: String,
    pub(crate) service: String,
    pub(crate) census: Census,
}

pub(crate) fn render(out: &mut String, mut targets: Vec<Balanced>, ejections: &Ejections) {
    targets.sort_by(|a, b| a.target.cmp(&b.target));
    let name = "outbound_endpoints";
    head(
        out,
        name,
        "gauge",
        "Endpoints that discovery names, by state.",
    );
    for Balanced {
        target,
        service,
        census,
    } in targets
    {
        for (state, count) in [("ready", census.ready), ("ejected", census.ejected)] {
            let mut labels = String::with_capacity(96);
            label(&mut labels, "target", &target);
            label(&mut labels, "service", &service);
            label(&mut labels, "state", state);
            sample(out, name, &labels, count);
        }
    }
    let name = "endpoint_ejections_total";
    head(
        out,
        name,
        "counter",
        "Endpoints that were left alone for a while.",
    );
    for (reason, counter) in [
        ("unreachable", &ejections.unreachable),
        ("failing", &ejections.failing),
    ] {
        let mut labels = String::new();
        label(&mut labels, "reason", reason);
        sample(out, name, &labels, counter.load(Relaxed));
    }
    let name = "endpoint_recoveries_total";
    head(
        out,
        name,
        "counter",
        "Endpoints that were found well again.",
    );
    sample(out, name, "", ejections.recovered.load(Relaxed));
}
