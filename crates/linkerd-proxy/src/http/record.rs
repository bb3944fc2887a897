//! What is known of a response on its way, and how it is counted at its end: [`Record`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;

use super::classify;
use crate::{
    balance::Pending,
    breaker::Outcome,
    metrics::{Classification, Route},
    tap::Tapped,
};

/// What is known of a response so far.
pub(super) struct Record {
    pub(super) route: Arc<Route>,
    pub(super) status: StatusCode,
    pub(super) grpc_status: Option<u16>,
    pub(super) started: Instant,
    pub(super) first_data: Option<Duration>,
    pub(super) pending: Pending,
    /// None when nobody watches.
    pub(super) tapped: Option<Box<Tapped>>,
}

impl Record {
    pub(super) fn close(mut self, broken: bool) {
        self.answered();
        let outcome = match broken {
            true => Outcome::Failure,
            false => classify::outcome(self.status, self.grpc_status),
        };
        self.pending.answered(outcome, Instant::now());
        let latency = self.first_data.unwrap_or_default();
        if broken {
            let status = StatusCode::INTERNAL_SERVER_ERROR.as_u16();
            self.route
                .response_ended(Classification::Failure, status, self.grpc_status, latency);
        } else {
            let classification = classify::classify(self.status, self.grpc_status);
            let status = self.status.as_u16();
            self.route
                .response_ended(classification, status, self.grpc_status, latency);
        }
    }

    pub(super) fn answered(&mut self) {
        if self.first_data.is_none() {
            let now = Instant::now();
            self.first_data = Some(now - self.started);
            match classify::outcome(self.status, self.grpc_status) {
                Outcome::Failure => self.pending.answered(Outcome::Failure, now),
                _ => self.pending.first_data(now),
            }
        }
    }
}
