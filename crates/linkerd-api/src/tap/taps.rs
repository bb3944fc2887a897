//! The taps under way: how many, whose they are, and what they share. Entry: [`Taps::enter`].

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tonic::Status;

use super::addresses::Shared;

/// Each has a connection to every pod that it watches, and events that wait for its client.
const TAPS_MAX: usize = 64;
/// A `linkerd dashboard` has at most 8 pages that watch, and then there are terminals. A proxy serves 16 taps, so
/// that nobody alone keeps the others from a pod.
const TAPS_OF_USER_MAX: usize = 12;

/// The taps under way.
#[derive(Debug, Default)]
pub struct Taps {
    pub(super) addresses: Shared,
    by_user: Mutex<HashMap<String, usize>>,
}

/// One of the taps, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) taps: Arc<Taps>,
    user: String,
}

/// Why no tap may begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum Busy {
    #[error(
        "user {user:?} has {} taps under way, and nobody may have more: end one of them first",
        TAPS_OF_USER_MAX
    )]
    User { user: String },
    #[error(
        "{} taps are under way, and linkerd-api serves no more at once: try again when one has ended",
        TAPS_MAX
    )]
    All,
}

impl From<Busy> for Status {
    fn from(busy: Busy) -> Self {
        Self::resource_exhausted(busy.to_string())
    }
}

impl Taps {
    /// Counts one more tap of the user.
    ///
    /// # Errors
    /// [`Busy`] when there are as many as there may be.
    pub(super) fn enter(self: &Arc<Self>, user: &str) -> Result<Slot, Busy> {
        let mut by_user = self.by_user.lock();
        let of_user = by_user.get(user).copied().unwrap_or_default();
        if of_user >= TAPS_OF_USER_MAX {
            return Err(Busy::User {
                user: user.to_owned(),
            });
        }
        if by_user.values().sum::<usize>() >= TAPS_MAX {
            return Err(Busy::All);
        }
        by_user.insert(user.to_owned(), of_user + 1);
        Ok(Slot {
            taps: self.clone(),
            user: user.to_owned(),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut by_user = self.taps.by_user.lock();
        match by_user.get_mut(&self.user) {
            Some(taps) if *taps > 1 => *taps -= 1,
            _ => {
                by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_limit_and_so_have_all_together() {
        let taps = Arc::new(Taps::default());
        let mut slots = Vec::new();
        let refusal = loop {
            match taps.enter("jane") {
                Ok(slot) => slots.push(slot),
                Err(busy) => break busy,
            }
        };
        assert_eq!(slots.len(), TAPS_OF_USER_MAX);
        assert_eq!(
            refusal.to_string(),
            "user \"jane\" has 12 taps under way, and nobody may have more: end one of them first"
        );
        let others = TAPS_MAX - TAPS_OF_USER_MAX;
        slots.extend((0..others).map(|number| {
            let user = format!("user-{number}");
            taps.enter(&user).expect("one of many")
        }));
        assert_eq!(
            taps.enter("joe").expect_err("one more").to_string(),
            "64 taps are under way, and linkerd-api serves no more at once: try again when one has ended"
        );
    }

    #[test]
    fn a_tap_that_has_ended_leaves_its_place_and_nothing_else() {
        let taps = Arc::new(Taps::default());
        for _ in 0..2 {
            let enter = |_| taps.enter("jane").expect("there is room");
            let mut slots: Vec<Slot> = (0..TAPS_OF_USER_MAX).map(enter).collect();
            assert!(taps.enter("jane").is_err());
            slots.pop();
            slots.push(taps.enter("jane").expect("one has gone"));
        }
        assert!(taps.by_user.lock().is_empty());
    }
}
