//! Whether a response counts as good. Entry: [`classify`]. Pure.

use http::{HeaderMap, StatusCode};

use crate::{breaker::Outcome, metrics::Classification};

/// gRPC status UNAVAILABLE.
const UNAVAILABLE: u16 = 14;

/// The number in `grpc-status`, of headers or trailers.
pub(super) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// gRPC's word counts where there is one, else HTTP's.
pub(super) fn classify(status: StatusCode, grpc_status: Option<u16>) -> Classification {
    let success = match grpc_status {
        Some(code) => code == 0,
        None => !status.is_server_error(),
    };
    if success {
        Classification::Success
    } else {
        Classification::Failure
    }
}

/// What a response says about its endpoint. Other errors of gRPC are about the request.
pub(super) fn outcome(status: StatusCode, grpc_status: Option<u16>) -> Outcome {
    let failed = match grpc_status {
        Some(code) => code == UNAVAILABLE,
        None => status.is_server_error(),
    };
    if failed {
        Outcome::Failure
    } else {
        Outcome::Success
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grpc_status_wins_over_the_http_status() {
        assert_eq!(classify(StatusCode::OK, Some(0)), Classification::Success);
        assert_eq!(classify(StatusCode::OK, Some(2)), Classification::Failure);
        assert_eq!(
            classify(StatusCode::NOT_FOUND, None),
            Classification::Success
        );
        assert_eq!(
            classify(StatusCode::BAD_GATEWAY, None),
            Classification::Failure
        );
    }

    #[test]
    fn of_the_errors_of_grpc_only_unavailable_is_held_against_an_endpoint() {
        for (status, grpc_status, expected) in [
            (StatusCode::OK, None, Outcome::Success),
            (StatusCode::NOT_FOUND, None, Outcome::Success),
            (StatusCode::SERVICE_UNAVAILABLE, None, Outcome::Failure),
            (StatusCode::OK, Some(0), Outcome::Success),
            (StatusCode::OK, Some(2), Outcome::Success),
            (StatusCode::OK, Some(14), Outcome::Failure),
        ] {
            assert_eq!(
                outcome(status, grpc_status),
                expected,
                "{status} {grpc_status:?}"
            );
        }
    }
}
