//! How often one address may ask. Entry: [`PeerLimit::admit`]. Pure: `now` is a parameter.
//! Every question costs the API server a review, so one pod must not be able to ask for all.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// So many questions in a row: a proxy that starts asks once, and some times again when it is refused.
const BURST: u32 = 10;
/// One more question each so often.
const REFILL: Duration = Duration::from_secs(1);
/// Addresses remembered at once. When they are all busy, unknown ones have to wait.
const PEERS_MAX: usize = 10_000;

/// What each address has left.
#[derive(Debug, Default)]
pub struct PeerLimit {
    /// When the address will have its whole burst again; addresses that have it are not kept.
    full_at: HashMap<IpAddr, Instant>,
}

impl PeerLimit {
    /// Whether `peer` may ask at `now`.
    pub fn admit(&mut self, peer: IpAddr, now: Instant) -> bool {
        let peer = peer.to_canonical();
        if self.full_at.len() >= PEERS_MAX && !self.full_at.contains_key(&peer) {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= PEERS_MAX {
                return false;
            }
        }
        let full_at = self.full_at.entry(peer).or_insert(now);
        let next = (*full_at).max(now) + REFILL;
        if next > now + REFILL * BURST {
            return false;
        }
        *full_at = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_burst_is_admitted_and_then_one_each_second() {
        let (mut limit, start) = (PeerLimit::default(), Instant::now());
        let admitted = (0..50).filter(|_| limit.admit(ip(1), start)).count();
        assert_eq!(admitted, 10);
        assert!(limit.admit(ip(2), start), "another peer is not held up");
        assert!(!limit.admit(ip(1), start + REFILL / 2));
        assert!(limit.admit(ip(1), start + REFILL));
        assert!(!limit.admit(ip(1), start + REFILL));
        let later = start + REFILL * 100;
        assert_eq!((0..50).filter(|_| limit.admit(ip(1), later)).count(), 10);
    }

    #[test]
    fn memory_is_bounded_and_rested_peers_make_room() {
        let (mut limit, start) = (PeerLimit::default(), Instant::now());
        let admitted = (0..PEERS_MAX as u32 + 10).filter(|n| limit.admit(ip(*n), start));
        assert_eq!(admitted.count(), PEERS_MAX);
        assert_eq!(limit.full_at.len(), PEERS_MAX);
        assert!(limit.admit(ip(PEERS_MAX as u32 + 1), start + REFILL));
        assert_eq!(limit.full_at.len(), 1);
    }
}
