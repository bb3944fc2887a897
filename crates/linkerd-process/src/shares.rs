//! How much each address holds of what is there for all, so that none holds it alone. Entry: [`Shares::take`].

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

/// What each address holds now. Clones share one account.
#[derive(Clone, Debug)]
pub struct Shares {
    each_max: usize,
    /// Addresses that hold nothing are not kept.
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of what an address holds, until it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Shares,
    address: IpAddr,
}

impl Shares {
    /// An account by which each address may hold `each_max`.
    pub fn new(each_max: usize) -> Self {
        Self {
            each_max,
            held: Arc::default(),
        }
    }

    /// Takes one for `address`; none when it holds as much as it may.
    pub fn take(&self, address: IpAddr) -> Option<Share> {
        let address = address.to_canonical();
        let mut held = self.held.lock();
        let count = held.entry(address).or_default();
        if *count >= self.each_max {
            return None;
        }
        *count += 1;
        Some(Share {
            of: self.clone(),
            address,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.held.lock();
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_share_again_when_it_gives_something_back() {
        let shares = Shares::new(2);
        let [one, mapped, other] = ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"]
            .map(|ip| ip.parse().expect("an address"));
        let (first, second) = (shares.take(one), shares.take(mapped));
        assert!(first.is_some() && second.is_some());
        assert!(shares.take(one).is_none());
        assert!(shares.take(other).is_some(), "another is not held up");
        drop(first);
        let third = shares.take(mapped);
        assert!(third.is_some());
        drop((second, third));
        assert!(shares.held.lock().is_empty());
    }
}
