//! What the proxies said at their scrapes. Entries: [`Store::record`], [`Store::miss`]. Pure: times are
//! parameters, milliseconds since 1970.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use super::{
    HISTORY_LENGTH, INTERVAL,
    exposition::{Line, lines},
    points::Points,
};
use crate::{query::Metric, targets::Target};

/// One proxy has at most this part of all series.
const PARTS_OF_A_TARGET: usize = 4;
/// When there is no room, at least this part of all series is made free, so that it is not done all the time.
const PARTS_FREED: usize = 20;

/// All series.
#[derive(Debug)]
pub(super) struct Store {
    records: BTreeMap<Target, Record>,
    series_max: usize,
    /// When the first proxy was heard.
    began_at: Option<u64>,
    /// Before this time nobody looks for room: there was none.
    room_sought_at: u64,
}

/// What one target said.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Number of the oldest scrape that is kept.
    first: u32,
    /// When the scrapes were, oldest first.
    times: VecDeque<u64>,
    /// By metric and by labels, which are written as the target writes them.
    groups: BTreeMap<Metric, HashMap<Box<str>, Group>>,
    series: usize,
    /// Since when the target is gone; it is kept for its past.
    gone_at: Option<u64>,
    /// Why the last scrape failed.
    failure: Option<String>,
}

/// The series that differ in their bound only, in no order.
pub(super) type Group = Vec<Series>;

/// One series.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) bound: f64,
    pub(super) points: Points,
}

impl Store {
    pub(super) fn new(series_max: usize) -> Self {
        Self {
            records: BTreeMap::new(),
            series_max,
            began_at: None,
            room_sought_at: 0,
        }
    }

    /// Targets with what they said.
    pub(super) fn records(&self) -> impl Iterator<Item = (&Target, &Record)> {
        self.records.iter()
    }

    /// How many milliseconds before `now` the first proxy was heard.
    pub(super) fn age(&self, now: u64) -> u64 {
        self.began_at.map_or(0, |began| now.saturating_sub(began))
    }

    /// How many series there are.
    pub(super) fn series(&self) -> usize {
        self.records.values().map(|record| record.series).sum()
    }

    /// How many targets are there and not gone.
    pub(super) fn targets(&self) -> usize {
        let present = self.records.values().filter(|it| it.gone_at.is_none());
        present.count()
    }

    /// Takes in what `target` answered at `at`. Returns how many series were forgotten, or not kept, for want
    /// of room.
    pub(super) fn record(&mut self, target: &Target, at: u64, text: &str) -> usize {
        self.began_at.get_or_insert(at);
        let record = self.records.entry(target.clone()).or_default();
        record.failure = None;
        let scrape = record.scrape(at);
        let fresh: Vec<Line<'_>> = lines(text)
            .filter(|line| !record.push(scrape, line))
            .collect();
        if fresh.is_empty() {
            return 0;
        }
        let mut dropped = 0;
        let wanted = self.series() + fresh.len();
        if wanted > self.series_max && at >= self.room_sought_at {
            dropped += self.make_room(wanted - self.series_max);
            if dropped == 0 {
                self.room_sought_at = at + millis(INTERVAL);
            }
        }
        let room = self.series_max.saturating_sub(self.series());
        let share = (self.series_max / PARTS_OF_A_TARGET).max(1);
        let record = self.records.entry(target.clone()).or_default();
        let room = room.min(share.saturating_sub(record.series));
        dropped += fresh.len();
        for line in fitting(fresh, room) {
            record.insert(scrape, line);
            dropped -= 1;
        }
        dropped
    }

    /// Notes that `target` did not answer at `at`: its series have no present value.
    pub(super) fn miss(&mut self, target: &Target, at: u64, reason: String) {
        let record = self.records.entry(target.clone()).or_default();
        record.failure = Some(reason);
        record.scrape(at);
    }

    /// Notes which targets there are at `now`. Forgets those that have been gone for longer than the history.
    pub(super) fn set_targets(&mut self, targets: &BTreeSet<Target>, now: u64) {
        let oldest = oldest(now);
        self.records.retain(|target, record| {
            record.gone_at = if targets.contains(target) {
                None
            } else {
                record.gone_at.or(Some(now))
            };
            record.gone_at.is_none() || record.last_time() >= oldest
        });
    }

    /// Why nobody answers; nothing when somebody does, or there is nobody.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut asked = 0;
        let mut last = None;
        for record in self.records.values().filter(|it| it.gone_at.is_none()) {
            match &record.failure {
                Some(reason) => last = Some(reason),
                None => return Ok(()),
            }
            asked += 1;
        }
        match last {
            None => Ok(()),
            Some(reason) => Err(format!(
                "None of {asked} proxies could be asked for its metrics: {reason}"
            )),
        }
    }

    /// Forgets series that are no longer reported, oldest first: `wanted` of them, or all there are.
    /// Returns how many.
    fn make_room(&mut self, wanted: usize) -> usize {
        let mut ended: Vec<(u64, usize)> = Vec::new();
        for record in self.records.values() {
            let groups = record.groups.values().flat_map(HashMap::values);
            let groups = groups.filter_map(|group| Some((record.ended_at(group)?, group.len())));
            ended.extend(groups);
        }
        ended.sort_unstable();
        let wanted = wanted.max(self.series_max / PARTS_FREED);
        let mut free = 0;
        let until = ended.iter().find(|(_, series)| {
            free += series;
            free >= wanted
        });
        let Some((until, _)) = until.or(ended.last()).copied() else {
            return 0;
        };
        let before = self.series();
        for record in self.records.values_mut() {
            record.forget(|record, group| record.ended_at(group).is_none_or(|end| end > until));
        }
        before - self.series()
    }
}

impl Record {
    /// The number of the scrape after the last one.
    pub(super) fn next(&self) -> u32 {
        self.first + u32::try_from(self.times.len()).unwrap_or(u32::MAX)
    }

    /// When the last scrape was.
    pub(super) fn last_time(&self) -> u64 {
        self.times.back().copied().unwrap_or_default()
    }

    /// When a scrape that is kept was.
    pub(super) fn time(&self, scrape: u32) -> Option<u64> {
        let index = scrape.checked_sub(self.first)?;
        self.times.get(usize::try_from(index).ok()?).copied()
    }

    /// The first scrape at or after a time.
    pub(super) fn scrape_at(&self, time: u64) -> u32 {
        let earlier = self.times.partition_point(|at| *at < time);
        self.first + u32::try_from(earlier).unwrap_or(u32::MAX)
    }

    /// Whether the last scrape has said what there was at a time after it.
    pub(super) fn is_present(&self, at: u64) -> bool {
        self.failure.is_none() && self.gone_at.is_none_or(|gone| at < gone)
    }

    /// The groups of a metric with their labels.
    pub(super) fn groups(&self, metric: Metric) -> impl Iterator<Item = (&str, &Group)> {
        let groups = self.groups.get(&metric).into_iter().flatten();
        groups.map(|(labels, group)| (&**labels, group))
    }

    /// Begins a scrape and returns its number; forgets what is too old by then.
    fn scrape(&mut self, at: u64) -> u32 {
        let scrape = self.next();
        self.times.push_back(at);
        let old = self.times.partition_point(|time| *time < oldest(at));
        self.times.drain(..old);
        self.first = scrape + 1 - u32::try_from(self.times.len()).unwrap_or(u32::MAX);
        if old > 0 {
            let first = self.first;
            for groups in self.groups.values_mut() {
                groups.retain(|_, group| {
                    let before = group.len();
                    group.retain_mut(|series| series.points.forget_before(first));
                    self.series -= before - group.len();
                    !group.is_empty()
                });
            }
        }
        scrape
    }

    /// Adds a value to its series. False when there is no such series.
    fn push(&mut self, scrape: u32, line: &Line<'_>) -> bool {
        let groups = self.groups.get_mut(&line.metric);
        let Some(group) = groups.and_then(|groups| groups.get_mut(&*line.labels)) else {
            return false;
        };
        let series = group.iter_mut().find(|it| it.bound == line.bound);
        series
            .map(|series| series.points.push(scrape, line.value))
            .is_some()
    }

    /// Begins a series, or adds to it when the same answer has begun it.
    fn insert(&mut self, scrape: u32, line: Line<'_>) {
        if self.push(scrape, &line) {
            return;
        }
        let Line {
            metric,
            labels,
            bound,
            value,
        } = line;
        let groups = self.groups.entry(metric).or_default();
        let group = groups.entry(labels.into()).or_default();
        let points = Points::new(scrape, value);
        group.push(Series { bound, points });
        self.series += 1;
    }

    /// When a group's last value was; none while it is reported.
    fn ended_at(&self, group: &Group) -> Option<u64> {
        let end = group.iter().map(|series| series.points.end()).max()?;
        if end >= self.next() && self.gone_at.is_none() {
            return None;
        }
        self.time(end.saturating_sub(1)).or(Some(0))
    }

    fn forget(&mut self, stays: impl Fn(&Self, &Group) -> bool) {
        let mut groups = std::mem::take(&mut self.groups);
        for of_metric in groups.values_mut() {
            of_metric.retain(|_, group| stays(self, group));
        }
        self.groups = groups;
        let all = self.groups.values().flat_map(HashMap::values);
        self.series = all.map(Vec::len).sum();
    }
}

/// The oldest time of interest at `now`: a window of an hour begins at a scrape.
fn oldest(now: u64) -> u64 {
    now.saturating_sub(millis(HISTORY_LENGTH + INTERVAL))
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// The lines for which there is room: first those of metrics with few lines, and of a histogram all or none,
/// for a part of it says something wrong.
fn fitting(lines: Vec<Line<'_>>, room: usize) -> Vec<Line<'_>> {
    if lines.len() <= room {
        return lines;
    }
    if room == 0 {
        return Vec::new();
    }
    let mut sizes: BTreeMap<Metric, usize> = BTreeMap::new();
    for line in &lines {
        *sizes.entry(line.metric).or_default() += 1;
    }
    let mut groups: BTreeMap<_, Vec<Line<'_>>> = BTreeMap::new();
    for line in lines {
        let order = (sizes[&line.metric], line.metric, line.labels.clone());
        groups.entry(order).or_default().push(line);
    }
    let mut left = room;
    let fits = |group: &Vec<Line<'_>>| {
        let fits = group.len() <= left;
        if fits {
            left -= group.len();
        }
        fits
    };
    groups.into_values().filter(fits).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1000;
    const HOUR: u64 = 3600 * SECOND;

    fn target(pod: &str) -> Target {
        Target {
            targets: [([10, 0, 0, 1], 4191).into()],
            labels: [("pod".to_owned(), pod.to_owned())].into(),
        }
    }

    /// `series` series, numbered from `first` on.
    fn text(first: usize, series: usize) -> String {
        let numbers = first..first + series;
        numbers
            .map(|n| format!("response_total{{n=\"{n}\"}} 1\n"))
            .collect()
    }

    fn scrapes(store: &Store, target: &Target) -> usize {
        store.records[target].times.len()
    }

    #[test]
    fn an_hour_is_kept_and_a_window_of_an_hour_finds_its_first_point() {
        let mut store = Store::new(100);
        for n in 0..1000 {
            store.record(&target("a"), n * 10 * SECOND, &text(0, 1));
        }
        assert_eq!(scrapes(&store, &target("a")), 362);
        let record = &store.records[&target("a")];
        let begin = 9990 * SECOND - HOUR;
        assert_eq!(record.time(record.scrape_at(begin)), Some(begin));
    }

    #[test]
    fn series_and_targets_that_ended_are_forgotten_after_an_hour() {
        let mut store = Store::new(100);
        store.record(&target("gone"), 0, &text(0, 2));
        store.record(&target("a"), 0, &text(0, 3));
        store.record(&target("a"), 10 * SECOND, &text(0, 1));
        store.set_targets(&[target("a")].into(), HOUR);
        assert_eq!((store.series(), store.targets()), (5, 1));
        store.record(&target("a"), HOUR + 20 * SECOND, &text(0, 1));
        store.set_targets(&[target("a")].into(), HOUR + 20 * SECOND);
        assert_eq!((store.series(), store.targets()), (1, 1));
    }

    #[test]
    fn what_ended_makes_room_and_then_nothing_new_is_kept() {
        let mut store = Store::new(40);
        assert_eq!(store.record(&target("old"), 0, &text(0, 10)), 0);
        store.set_targets(&BTreeSet::new(), 0);
        for (n, pod) in (1..).zip(["a", "b", "c"]) {
            assert_eq!(store.record(&target(pod), n, &text(0, 10)), 0);
        }
        store.set_targets(&["a", "b", "c"].map(target).into(), 5);
        // Full: the series of the pod that is gone are forgotten.
        assert_eq!(store.record(&target("d"), 10, &text(0, 10)), 10);
        assert_eq!(store.series(), 40);
        // Nothing has ended: five are not kept.
        assert_eq!(store.record(&target("e"), 20, &text(0, 5)), 5);
        assert_eq!(store.series(), 40);
        // Those that were there go on.
        assert_eq!(store.record(&target("d"), 30, &text(0, 10)), 0);
    }

    #[test]
    fn one_proxy_cannot_take_all_the_room() {
        let mut store = Store::new(40);
        assert_eq!(store.record(&target("greedy"), 0, &text(0, 25)), 15);
        assert_eq!(store.series(), 10);
    }

    /// Histograms of `count` routes of two buckets each, and what little a proxy says besides.
    fn routes(first: usize, count: usize) -> String {
        let routes = first..first + count;
        let mut text: String = routes
            .flat_map(|n| {
                ["1", "+Inf"]
                    .map(|le| format!("response_latency_ms_bucket{{n=\"{n}\",le=\"{le}\"}} 1\n"))
            })
            .collect();
        text.push_str("process_start_time_seconds 1\n");
        text
    }

    #[test]
    fn what_is_kept_at_the_limit_are_small_metrics_and_whole_histograms() {
        let mut store = Store::new(24);
        // Six of eleven may be kept: the small metric and two histograms are five, and half a one is none.
        assert_eq!(store.record(&target("a"), 0, &routes(0, 5)), 6);
        let record = &store.records[&target("a")];
        assert_eq!(record.groups(Metric::StartTime).count(), 1);
        let histograms: Vec<usize> = record
            .groups(Metric::LatencyBuckets)
            .map(|(_, group)| group.len())
            .collect();
        assert_eq!(histograms, [2, 2]);
    }

    #[test]
    fn room_is_not_looked_for_again_right_after_there_was_none() {
        let mut store = Store::new(8);
        for pod in ["a", "b", "c", "d"] {
            store.record(&target(pod), 0, &text(0, 2));
        }
        assert_eq!(store.record(&target("e"), 1, &text(0, 1)), 1);
        // "a" has ended, but nobody looks before an interval is over.
        let left = ["b", "c", "d", "e"].map(target);
        store.set_targets(&left.into(), 2);
        assert_eq!(store.record(&target("e"), 3, &text(0, 1)), 1);
        assert_eq!(store.series(), 8);
        let later = 1 + 10 * SECOND;
        assert_eq!(store.record(&target("e"), later, &text(0, 1)), 2);
        assert_eq!(store.series(), 7);
    }

    #[test]
    fn it_is_as_old_as_the_first_answer_of_a_proxy() {
        let mut store = Store::new(10);
        store.set_targets(&[target("a")].into(), 0);
        store.miss(&target("a"), 1, "refused".into());
        assert_eq!(store.age(5), 0);
        for now in [5, 100] {
            store.record(&target("a"), now, "");
        }
        assert_eq!(store.age(2 * HOUR), 2 * HOUR - 5);
    }

    #[test]
    fn it_says_when_nobody_answers() {
        let mut store = Store::new(10);
        assert_eq!(store.check(), Ok(()));
        store.miss(&target("a"), 0, "refused".into());
        store.miss(&target("b"), 0, "refused".into());
        assert_eq!(
            store.check(),
            Err("None of 2 proxies could be asked for its metrics: refused".into())
        );
        store.record(&target("b"), 10, "");
        assert_eq!(store.check(), Ok(()));
    }
}
