//! Between the clock of the standard library and the whole seconds of X.509.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use x509_parser::time::ASN1Time;

/// Year 9999 is the last one that X.509 can write.
const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

/// `time` in whole seconds (rounded down) as rcgen wants it; none before 1970 or after 9999.
pub(crate) fn to_x509(time: SystemTime) -> Option<OffsetDateTime> {
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    if seconds > UNIX_SECONDS_MAX {
        return None;
    }
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()
}

/// A certificate's time; none before 1970.
pub(crate) fn from_x509(time: ASN1Time) -> Option<SystemTime> {
    let seconds = u64::try_from(time.timestamp()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_x509_cannot_write_are_refused() {
        assert!(to_x509(UNIX_EPOCH + Duration::from_secs(UNIX_SECONDS_MAX)).is_some());
        assert!(to_x509(UNIX_EPOCH + Duration::from_secs(UNIX_SECONDS_MAX + 1)).is_none());
        assert!(to_x509(UNIX_EPOCH - Duration::from_secs(1)).is_none());
    }
}
