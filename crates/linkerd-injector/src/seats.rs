//! Who is connected, how much memory each connection takes, and whom to drop when that is too much. Entry:
//! [`Seats::take`].
//!
//! Anybody in the cluster can connect, and the API server must get through. So nobody waits for a seat: the
//! address that has most of them loses one, and the one that takes most memory gives it back.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// What there is for all connections together.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many there are at once.
    pub connections: usize,
    /// What their reviews take at once.
    pub bytes: usize,
}

/// The connections. Clones share them.
#[derive(Clone, Debug)]
pub struct Seats {
    limits: Limits,
    table: Arc<Mutex<Table>>,
}

/// A connection's place, until it is dropped or lost.
#[derive(Debug)]
pub struct Seat {
    of: Seats,
    number: u64,
    lost: CancellationToken,
}

#[derive(Debug, Default)]
struct Table {
    /// By their numbers.
    taken: BTreeMap<u64, Taken>,
    /// Counts seats and their uses.
    ticks: u64,
}

#[derive(Debug)]
struct Taken {
    address: IpAddr,
    used: u64,
    bytes: usize,
    lost: CancellationToken,
}

impl Seats {
    /// None is taken.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            table: Arc::default(),
        }
    }

    /// Takes one for a connection from `address`. When there was none left, the address that has most of them loses
    /// the one that was of no use for longest.
    pub fn take(&self, address: IpAddr) -> Seat {
        let mut table = self.table.lock();
        let lost = CancellationToken::new();
        let number = table.tick();
        let taken = Taken {
            address: address.to_canonical(),
            used: number,
            bytes: 0,
            lost: lost.clone(),
        };
        table.taken.insert(number, taken);
        if table.taken.len() > self.limits.connections {
            let counts = table.sums(|_| 1);
            table.drop_one(|it| (counts[&it.address], u64::MAX - it.used));
        }
        Seat {
            of: self.clone(),
            number,
            lost,
        }
    }
}

impl Seat {
    /// Notes that the connection was of use.
    pub fn use_now(&self) {
        let mut table = self.of.table.lock();
        let tick = table.tick();
        if let Some(taken) = table.taken.get_mut(&self.number) {
            taken.used = tick;
        }
    }

    /// When it was of use: a number that grows; none when the seat is lost.
    pub fn last_use(&self) -> Option<u64> {
        let table = self.of.table.lock();
        table.taken.get(&self.number).map(|taken| taken.used)
    }

    /// Sets how much memory it takes. When that is too much for all together, the address that takes most loses the
    /// seat that does; it may be this one.
    pub fn hold(&self, bytes: usize) {
        let mut table = self.of.table.lock();
        if let Some(taken) = table.taken.get_mut(&self.number) {
            taken.bytes = bytes;
        }
        while table.taken.values().map(|it| it.bytes).sum::<usize>() > self.of.limits.bytes {
            let sums = table.sums(|it| it.bytes);
            table.drop_one(|it| (sums[&it.address], it.bytes));
        }
    }

    /// Waits until it is lost.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.of.table.lock().taken.remove(&self.number);
    }
}

impl Table {
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    /// What the seats of each address have together.
    fn sums(&self, of_one: fn(&Taken) -> usize) -> HashMap<IpAddr, usize> {
        let mut sums = HashMap::new();
        for taken in self.taken.values() {
            *sums.entry(taken.address).or_default() += of_one(taken);
        }
        sums
    }

    /// Drops the seat with the highest rank.
    fn drop_one<R: Ord>(&mut self, rank: impl Fn(&Taken) -> R) {
        let ranked = self.taken.iter().max_by_key(|(_, taken)| rank(taken));
        if let Some(number) = ranked.map(|(number, _)| *number)
            && let Some(taken) = self.taken.remove(&number)
        {
            taken.lost.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats() -> Seats {
        Seats::new(Limits {
            connections: 3,
            bytes: 100,
        })
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn is_lost(seat: &Seat) -> bool {
        assert_eq!(seat.lost.is_cancelled(), seat.last_use().is_none());
        seat.lost.is_cancelled()
    }

    #[test]
    fn who_has_most_seats_loses_the_one_that_was_of_no_use_for_longest() {
        let seats = seats();
        let other = seats.take(address(1));
        let many = [seats.take(address(2)), seats.take(address(2))];
        many[0].use_now();
        let newcomer = seats.take(address(3));
        assert!(!is_lost(&other) && !is_lost(&many[0]) && is_lost(&many[1]));
        assert!(!is_lost(&newcomer));
        let own = seats.take(address(2));
        assert!(is_lost(&many[0]), "its own");
        assert!(!is_lost(&other) && !is_lost(&newcomer) && !is_lost(&own));
    }

    #[test]
    fn a_seat_that_is_given_back_costs_nobody_his() {
        let seats = seats();
        let mut taken: Vec<Seat> = (1..=3).map(|last| seats.take(address(last))).collect();
        drop(taken.pop());
        taken.push(seats.take(address(4)));
        assert!(!taken.iter().any(is_lost));
    }

    #[test]
    fn who_takes_most_memory_gives_it_back() {
        let seats = seats();
        let greedy = [seats.take(address(1)), seats.take(address(1))];
        let other = seats.take(address(2));
        greedy[0].hold(45);
        greedy[1].hold(50);
        other.hold(48);
        assert!(!is_lost(&other) && !is_lost(&greedy[0]) && is_lost(&greedy[1]));
        other.hold(0);
        greedy[0].hold(100);
        assert!(!is_lost(&greedy[0]));
        other.hold(101);
        assert!(is_lost(&other), "alone it is too much");
        assert!(!is_lost(&greedy[0]));
    }
}
