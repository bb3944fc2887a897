//! Waiting for what is not ready yet. Entry: [`Retry`].

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use super::problem::Problem;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Until when to try again; shared by all checks of one run.
#[derive(Debug)]
pub(super) struct Retry {
    deadline: Instant,
}

impl Retry {
    /// Tries end this long from now; with zero everything is tried once.
    pub(super) fn until_after(wait: Duration) -> Self {
        Self {
            deadline: Instant::now() + wait,
        }
    }

    /// Tries until it works, the time is over, or a right is missing. Says on stderr what is waited for, each
    /// thing once.
    ///
    /// # Errors
    /// The last try's.
    pub(super) async fn run<T, E, F>(&self, attempt: impl FnMut() -> F) -> Result<T, E>
    where
        E: Clone + Into<Problem>,
        F: Future<Output = Result<T, E>>,
    {
        self.look(attempt, waited_for).await
    }

    /// Looks until nothing is missing or the time is over, and returns what was seen last.
    pub(super) async fn look<T, F>(
        &self,
        mut look: impl FnMut() -> F,
        missing: impl Fn(&T) -> Option<String>,
    ) -> T
    where
        F: Future<Output = T>,
    {
        let mut said = String::new();
        loop {
            let seen = look().await;
            let Some(missing) = missing(&seen) else {
                return seen;
            };
            if Instant::now() + PAUSE > self.deadline {
                return seen;
            }
            if missing != said {
                crate::stderr::tell!("Waiting: {missing}");
                said = missing;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What an outcome lacks that may come with time.
pub(super) fn waited_for<T, E: Clone + Into<Problem>>(outcome: &Result<T, E>) -> Option<String> {
    match outcome.as_ref().err()?.clone().into() {
        Problem::Found(what) => Some(what),
        Problem::Unseen(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tries_until_it_works_or_the_time_is_over() {
        let tries = Cell::new(0);
        let third = || async {
            tries.set(tries.get() + 1);
            if tries.get() == 3 {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        };
        assert_eq!(
            Retry::until_after(Duration::from_secs(9)).run(third).await,
            Ok(())
        );
        let unseen = Problem::Unseen("no right".to_owned());
        tries.set(0);
        let forbidden = || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(unseen.clone())
        };
        let never = Retry::until_after(Duration::from_secs(9))
            .run(forbidden)
            .await;
        assert_eq!((never, tries.get()), (Err(unseen.clone()), 1));
        tries.set(0);
        let once = Retry::until_after(Duration::ZERO).run(third).await;
        assert_eq!((once, tries.get()), (Err("not yet".to_owned()), 1));
    }
}
