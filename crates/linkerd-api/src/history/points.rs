//! The values of one series at the scrapes of its target, in little memory. Entries: [`Points::push`],
//! [`Points::read`].
//!
//! A value is written as its difference from the one before, in as few bytes as it needs, and values that do
//! not change as their number. Scrapes are counted; their times are the target's.

use std::mem;

/// A chunk that has so many bytes is followed by another. It is forgotten as a whole, so this is how much
/// may be kept for too long.
const CHUNK_BYTES: usize = 128;

/// The lowest two bits of a token: the value differs from the one before by the rest, zigzag.
const STEP: u64 = 0;
/// The value is the same in so many scrapes more.
const REPEAT: u64 = 1;
/// There is no value in so many scrapes.
const ABSENT: u64 = 2;

/// The values of one series.
#[derive(Debug)]
pub(super) struct Points {
    chunks: Vec<Chunk>,
    last: i64,
    /// Values equal to the last one that no token says yet.
    repeats: u32,
    /// The scrape after the last value.
    end: u32,
}

#[derive(Debug)]
struct Chunk {
    /// The scrape of the first value.
    start: u32,
    first: i64,
    tokens: Vec<u8>,
}

impl Points {
    /// A series that begins with `value`.
    pub(super) fn new(scrape: u32, value: i64) -> Self {
        Self {
            chunks: vec![Chunk::new(scrape, value)],
            last: value,
            repeats: 0,
            end: scrape + 1,
        }
    }

    /// The scrape after the last value.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// Adds a value, whose size is at most 2^53. Does nothing when the scrape has one already.
    pub(super) fn push(&mut self, scrape: u32, value: i64) {
        let Some(absent) = scrape.checked_sub(self.end) else {
            return;
        };
        self.end = scrape + 1;
        if absent == 0 && value == self.last {
            self.repeats += 1;
            return;
        }
        let repeats = mem::take(&mut self.repeats);
        let step = value - mem::replace(&mut self.last, value);
        let Some(chunk) = self.chunks.last_mut() else {
            return;
        };
        if repeats > 0 {
            chunk.write(REPEAT, repeats.into());
        }
        if chunk.tokens.len() >= CHUNK_BYTES {
            chunk.tokens.shrink_to_fit();
            self.chunks.push(Chunk::new(scrape, value));
            return;
        }
        if absent > 0 {
            chunk.write(ABSENT, absent.into());
        }
        chunk.write(STEP, zigzag(step));
    }

    /// Forgets what is wholly before `scrape`. Says whether anything is left.
    pub(super) fn forget_before(&mut self, scrape: u32) -> bool {
        let old = self.chunks.iter().skip(1);
        let old = old.take_while(|next| next.start <= scrape).count();
        self.chunks.drain(..old);
        self.end > scrape
    }

    /// Calls `each` with all values from scrape `from` on, oldest first.
    pub(super) fn read(&self, from: u32, mut each: impl FnMut(u32, i64)) {
        let first = self.chunks.partition_point(|chunk| chunk.start <= from);
        let mut last = 0;
        for chunk in &self.chunks[first.saturating_sub(1)..] {
            last = chunk.read(from, &mut each);
        }
        let rest = self.end - self.repeats;
        debug_assert!(self.repeats == 0 || last == self.last);
        for scrape in rest.max(from)..self.end {
            each(scrape, self.last);
        }
    }
}

impl Chunk {
    fn new(start: u32, first: i64) -> Self {
        Self {
            start,
            first,
            tokens: Vec::new(),
        }
    }

    /// Seven bits a byte, lowest first; the highest bit says that more follow.
    fn write(&mut self, kind: u64, number: u64) {
        let mut rest = number << 2 | kind;
        while rest >= 0x80 {
            self.tokens.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.tokens.push(rest.to_le_bytes()[0]);
    }

    /// Returns the last value.
    fn read(&self, from: u32, each: &mut impl FnMut(u32, i64)) -> i64 {
        let (mut scrape, mut value) = (self.start, self.first);
        if scrape >= from {
            each(scrape, value);
        }
        scrape += 1;
        let (mut token, mut shift) = (0, 0);
        for byte in &self.tokens {
            token |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 != 0 {
                continue;
            }
            let (kind, number) = (token & 3, token >> 2);
            (token, shift) = (0, 0);
            if kind == STEP {
                value += unzigzag(number);
                if scrape >= from {
                    each(scrape, value);
                }
                scrape += 1;
                continue;
            }
            // A number of scrapes, so it was an u32.
            let after = scrape + u32::try_from(number).unwrap_or_default();
            if kind == REPEAT {
                for scrape in scrape.max(from)..after {
                    each(scrape, value);
                }
            }
            scrape = after;
        }
        value
    }
}

/// Small numbers of either sign become small ones without.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written to it, and a series.
    fn written(values: &[Option<i64>]) -> (Vec<(u32, i64)>, Points) {
        let mut expected = Vec::new();
        let mut points: Option<Points> = None;
        for (scrape, value) in (7..).zip(values) {
            let Some(value) = *value else { continue };
            expected.push((scrape, value));
            match &mut points {
                None => points = Some(Points::new(scrape, value)),
                Some(points) => points.push(scrape, value),
            }
        }
        (expected, points.expect("a value"))
    }

    fn read(points: &Points, from: u32) -> Vec<(u32, i64)> {
        let mut all = Vec::new();
        points.read(from, |scrape, value| all.push((scrape, value)));
        all
    }

    /// Growth, rests, gaps, resets, and the largest steps there are.
    fn values() -> Vec<Option<i64>> {
        let largest = 1 << 53;
        let mut values = vec![
            None,
            Some(5),
            Some(5),
            Some(5),
            None,
            None,
            Some(5),
            Some(2),
        ];
        values.extend([Some(largest), Some(-largest), Some(largest), Some(0)]);
        values.extend((0..400).map(|n| (n % 7 != 3).then_some(n * n / 3)));
        values.extend([Some(9); 50]);
        values
    }

    #[test]
    fn what_is_read_is_what_was_written_from_any_scrape_on() {
        let (expected, points) = written(&values());
        assert!(points.chunks.len() > 3, "{}", points.chunks.len());
        for from in [0, 7, 8, 10, 11, 19, 100, 419, 440, 468, 1000] {
            let expected: Vec<_> = expected
                .iter()
                .copied()
                .filter(|(scrape, _)| *scrape >= from)
                .collect();
            assert_eq!(read(&points, from), expected, "{from}");
        }
    }

    #[test]
    fn what_is_forgotten_is_old_and_little_is_kept_for_too_long() {
        let (expected, mut points) = written(&values());
        let chunks = points.chunks.len();
        assert!(points.forget_before(300));
        assert!(points.chunks.len() < chunks);
        let expected: Vec<_> = expected
            .into_iter()
            .filter(|(scrape, _)| *scrape >= 300)
            .collect();
        assert_eq!(read(&points, 300), expected);
        let end = points.end();
        assert!(points.forget_before(end - 1));
        assert!(!points.forget_before(end));
    }

    #[test]
    fn a_second_value_of_one_scrape_is_ignored() {
        let (expected, mut points) = written(&[Some(1), Some(2)]);
        points.push(8, 3);
        assert_eq!(read(&points, 0), expected);
    }

    #[test]
    fn a_series_that_rests_needs_no_bytes_and_one_that_runs_about_one_a_scrape() {
        let resting = written(&[Some(1_000_000); 360]).1;
        assert_eq!(resting.chunks[0].tokens.len(), 0);
        let running: Vec<_> = (0..360).map(|n| Some(n * 10)).collect();
        let running = written(&running).1;
        let bytes: usize = running.chunks.iter().map(|it| it.tokens.len()).sum();
        assert!(bytes < 370, "{bytes}");
    }
}
