//! Whether a response counts as good. Entry: [`classify`]. Pure.

use http::{HeaderMap, StatusCode};

use crate::metrics::Classification;

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
}
