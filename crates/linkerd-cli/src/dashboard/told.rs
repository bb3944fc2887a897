//! What the user has been told on the terminal. Entries: [`Told::trouble`], [`Told::well`].

use std::sync::{Mutex, PoisonError};

/// A trouble that comes again and again is told once.
#[derive(Default)]
pub(super) struct Told(Mutex<String>);

impl Told {
    /// Tells a trouble, unless it was the last one.
    pub(super) fn trouble(&self, reason: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != reason {
            crate::stderr::tell!("{reason}; the next request is tried anew.");
            reason.clone_into(&mut last);
        }
    }

    /// Notes that all is well again.
    pub(super) fn well(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
