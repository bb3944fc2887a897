//! How many questions about figures are under way, whoever asks. Entry: [`Questions::turn`].

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tonic::Status;

/// Questions under way; each is some dozens for Prometheus. A page asks two at a time.
const QUESTIONS_MAX: usize = 16;
/// Pages that ask at the same moment get through one after the other. The CLI waits for ten seconds in all.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);

/// The questions under way.
#[derive(Debug)]
pub struct Questions(Semaphore);

impl Default for Questions {
    fn default() -> Self {
        Self(Semaphore::new(QUESTIONS_MAX))
    }
}

impl Questions {
    /// Waits until the next question may be asked. It is under way until what this returns is dropped.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when too many others are under way for too long.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, Status> {
        match timeout(TURN_TIMEOUT, self.0.acquire()).await {
            Ok(turn) => Ok(turn.expect("nobody closes it")),
            Err(_) => {
                let busy = "too many questions are under way in linkerd-api: try again soon";
                Err(Status::resource_exhausted(busy))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tonic::Code;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_question_too_many_has_its_turn_when_another_ends_soon() {
        let questions = Questions::default();
        let mut turns = join_all((0..QUESTIONS_MAX).map(|_| questions.turn())).await;
        let refused = questions.turn().await.map(drop);
        assert_eq!(
            refused.map_err(|it| it.code()),
            Err(Code::ResourceExhausted)
        );
        let (turn, ()) = tokio::join!(questions.turn(), async { drop(turns.pop()) });
        assert!(turn.is_ok(), "one has ended");
    }
}
