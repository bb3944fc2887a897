//! How many streams may be open, in all and for each address. Entry: [`Streams`].
//! A stream is what a proxy costs this process: its place in HTTP/2, and the target that it follows.

use std::{net::IpAddr, sync::Arc};

use linkerd_process::{Share, Shares};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// 10,000 pods that follow 50 targets each. A stream takes some 10 kB here, so that is 5 GB.
const IN_ALL_MAX: usize = 500_000;
/// A proxy of ours follows 1,000 targets at most, one of Linkerd's asks three times about each; a node may hide
/// some of them behind its own address.
const PER_ADDRESS_MAX: usize = 20_000;

/// The streams that are open. Clones share one account.
#[derive(Clone, Debug)]
pub struct Streams {
    in_all: Arc<Semaphore>,
    by_address: Shares,
    /// Whose streams these are; none when somebody stands for many.
    address: Option<IpAddr>,
}

/// A stream's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _in_all: OwnedSemaphorePermit,
    _share: Option<Share>,
}

impl Streams {
    /// An account with these bounds.
    pub fn new(in_all_max: usize, per_address_max: usize) -> Self {
        Self {
            in_all: Arc::new(Semaphore::new(in_all_max)),
            by_address: Shares::new(per_address_max),
            address: None,
        }
    }

    /// The same account, as the client at `address` has it.
    pub(crate) fn of(&self, address: Option<IpAddr>) -> Self {
        Self {
            address,
            ..self.clone()
        }
    }

    /// Takes the place of one stream more.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when there is none. Whoever asked may ask again: others end.
    pub(crate) fn open(&self) -> Result<Place, Status> {
        let exhausted = |whose: &str| {
            let message = format!("{whose} too many streams open: try again later");
            Status::resource_exhausted(message)
        };
        let share = match self.address {
            None => None,
            Some(address) => {
                let share = self.by_address.take(address);
                Some(share.ok_or_else(|| exhausted(&format!("{address} has")))?)
            }
        };
        let in_all = Arc::clone(&self.in_all).try_acquire_owned();
        Ok(Place {
            _in_all: in_all.map_err(|_| exhausted("the destination service has"))?,
            _share: share,
        })
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self::new(IN_ALL_MAX, PER_ADDRESS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_all_together_what_there_is() {
        let streams = Streams::new(3, 2);
        let [one, other] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(|ip| streams.of(Some(ip.into())));
        let refusal = |streams: &Streams| streams.open().expect_err("full").message().to_owned();
        let places = [one.open(), one.open()].map(|place| place.expect("its share"));
        let told = "192.0.2.1 has too many streams open: try again later";
        assert_eq!(refusal(&one), told);
        let last = other.open().expect("another is not held up");
        let told = "the destination service has too many streams open: try again later";
        assert_eq!(refusal(&other), told);
        assert_eq!(refusal(&streams), told);
        drop(last);
        // What was refused has taken nothing.
        let many = streams.open().expect("for many");
        drop((places, many));
        assert!(
            (0..2)
                .map(|_| other.open())
                .collect::<Result<Vec<_>, _>>()
                .is_ok()
        );
    }
}
