//! The first answer to a question, whole. Of many endpoints the destination service tells in several
//! messages, and those known before must not give way to a part of them. Entry: [`complete`].

use std::time::Duration;

use linkerd_proto::destination::{Update, WeightedAddrSet, update};
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use crate::endpoints::ENDPOINTS_MAX;

/// Fewer are the whole answer: a message has room for more.
const PART_MIN: usize = 1_000;
/// The messages of one answer come one right after the other.
const SILENCE: Duration = Duration::from_millis(500);

/// What a stream has said; none when it has ended.
pub(crate) type Said = Option<Result<Update, Status>>;

/// Takes into `set`, which came first, what belongs to the same answer. Returns what was said after it, if
/// anything was heard of that.
pub(crate) async fn complete(
    set: &mut WeightedAddrSet,
    updates: &mut (impl Stream<Item = Result<Update, Status>> + Unpin),
) -> Option<Said> {
    while (PART_MIN..ENDPOINTS_MAX).contains(&set.addrs.len()) {
        let said = timeout(SILENCE, updates.next()).await.ok()?;
        match said {
            Some(Ok(Update {
                update: Some(update::Update::Add(more)),
            })) => set.addrs.extend(more.addrs),
            other => return Some(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use linkerd_proto::destination::{AddrSet, WeightedAddr};

    use super::*;

    fn set(count: usize) -> WeightedAddrSet {
        WeightedAddrSet {
            addrs: vec![WeightedAddr::default(); count],
            ..Default::default()
        }
    }

    fn add(count: usize) -> Result<Update, Status> {
        let update = Some(update::Update::Add(set(count)));
        Ok(Update { update })
    }

    fn remove() -> Result<Update, Status> {
        let update = Some(update::Update::Remove(AddrSet::default()));
        Ok(Update { update })
    }

    /// How many endpoints the answer has that begins with `first`, and whether something came after it.
    async fn whole(first: usize, then: Vec<Result<Update, Status>>) -> (usize, bool) {
        let mut set = set(first);
        let mut updates = tokio_stream::iter(then).chain(tokio_stream::pending());
        let after = complete(&mut set, &mut updates).await;
        (set.addrs.len(), after.is_some())
    }

    #[tokio::test]
    async fn an_answer_in_parts_is_one() {
        assert_eq!(whole(4_000, vec![add(2_000)]).await, (6_000, false));
        assert_eq!(
            whole(4_000, vec![add(4_000), remove()]).await,
            (8_000, true)
        );
        assert_eq!(
            whole(4_000, vec![Err(Status::unavailable(""))]).await,
            (4_000, true)
        );
    }

    #[tokio::test]
    async fn nobody_waits_for_more_of_a_short_answer_or_beyond_the_limit() {
        assert_eq!(whole(999, vec![add(1)]).await, (999, false));
        let then = vec![add(4_000), add(4_000), add(4_000)];
        assert_eq!(whole(4_000, then).await, (12_000, false));
    }
}
