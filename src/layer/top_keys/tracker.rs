//! Counts the requests and the refusals of the keys of one limit.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::report::{Estimate, KeyId, TopKey, TopKeysReport};
use super::space_saving::SpaceSaving;
use crate::key::KeyName;
use crate::keyspace::fingerprint::{Fingerprint, Secret};
use crate::keyspace::prehashed::Prehashed;
use crate::quota::TopKeys;
use crate::time::TimeSource;

/// The secret of all trackers of this process, so that a key has one id.
static SECRET: LazyLock<Secret> = LazyLock::new(Secret::random);
/// Fingerprints resist a client that chooses keys. An id must also reveal nothing to a reader, so it is hashed again
/// with SipHash.
static IDS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The most parts of a tracker. Threads with different parts do not wait for each other.
const MOST_STRIPES: usize = 4;

thread_local! {
    /// The number of this thread, which selects its part.
    static THREAD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

/// Counts what happens in a period and in the one before it.
///
/// Each thread counts in one part, and a report adds up all parts. The error of a sum is the sum of the errors. Its
/// bound, N / size, is that of one part with all events.
pub(in crate::layer) struct Tracker {
    setting: TopKeys,
    clock: TimeSource,
    stripes: Box<[Mutex<Periods>]>,
}

struct Periods {
    /// When the current period began.
    began_ms: u64,
    /// When the first one began.
    first_ms: u64,
    current: Counts,
    previous: Counts,
}

struct Counts {
    requests: SpaceSaving,
    refusals: SpaceSaving,
}

impl Tracker {
    pub(in crate::layer) fn new(setting: TopKeys) -> Self {
        Self::with_clock(setting, TimeSource::system())
    }

    fn with_clock(setting: TopKeys, clock: TimeSource) -> Self {
        let stripes = thread::available_parallelism().map_or(1, usize::from).min(MOST_STRIPES);
        let now_ms = clock.now_ms();
        let stripe = |_| {
            let [current, previous] = [(); 2].map(|()| Counts::new(setting.size()));
            Mutex::new(Periods { began_ms: now_ms, first_ms: now_ms, current, previous })
        };
        Self { setting, clock, stripes: (0..stripes).map(stripe).collect() }
    }

    pub(in crate::layer) fn setting(&self) -> TopKeys {
        self.setting
    }

    /// Counts a request.
    pub(in crate::layer) fn see(&self, key: &[u8], is_refused: bool) {
        self.see_in(THREAD.with(|thread| *thread), key, is_refused);
    }

    fn see_in(&self, thread: usize, key: &[u8], is_refused: bool) {
        let print = SECRET.fingerprint(key);
        let name = self.setting.keeps_names().then_some(key);
        let mut periods = self.at(&self.stripes[thread % self.stripes.len()], self.clock.now_ms());
        periods.current.requests.add(print, name);
        if is_refused {
            periods.current.refusals.add(print, name);
        }
    }

    pub(in crate::layer) fn report(&self) -> TopKeysReport {
        let now_ms = self.clock.now_ms();
        let stripes: Vec<_> = self.stripes.iter().map(|stripe| self.at(stripe, now_ms)).collect();
        let counts: Vec<&Counts> = stripes.iter().flat_map(|periods| [&periods.current, &periods.previous]).collect();
        let mut names: HashMap<Fingerprint, Option<&[u8]>, Prehashed> = HashMap::default();
        names.extend(counts.iter().flat_map(|counts| counts.requests.keys().chain(counts.refusals.keys())));
        let start = |periods: &Periods| periods.began_ms.saturating_sub(self.setting.period_ms()).max(periods.first_ms);
        let start_ms = stripes.first().map_or(now_ms, |periods| start(periods));
        TopKeysReport {
            since: Duration::from_millis(now_ms.saturating_sub(start_ms)),
            requests: counts.iter().map(|counts| counts.requests.total()).sum(),
            refusals: counts.iter().map(|counts| counts.refusals.total()).sum(),
            keys: names.into_iter().map(|(print, name)| top_key(&counts, print, name)).collect(),
        }
    }

    /// The counts of a part at a time. Begins a period if one has ended.
    fn at<'a>(&self, stripe: &'a Mutex<Periods>, now_ms: u64) -> MutexGuard<'a, Periods> {
        let mut periods = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ms.saturating_sub(periods.began_ms) >= self.setting.period_ms() {
            periods.begin(now_ms, self.setting.period_ms());
        }
        periods
    }
}

impl Periods {
    /// Begins the period at a time after the end of the current one.
    #[cold]
    fn begin(&mut self, now_ms: u64, period_ms: u64) {
        let ended = (now_ms - self.began_ms) / period_ms;
        self.began_ms += ended * period_ms;
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.clear();
        // Nothing was counted in the period before, or it is over.
        if ended > 1 {
            self.previous.clear();
        }
    }
}

/// The bounds of a key, summed over all counts.
fn top_key(counts: &[&Counts], print: Fingerprint, name: Option<&[u8]>) -> TopKey {
    let (mut requests, mut refusals) = (Estimate::default(), Estimate::default());
    for counts in counts {
        requests += counts.requests.estimate(print);
        refusals += counts.refusals.estimate(print);
    }
    // A refused request is a request.
    requests.at_least = requests.at_least.max(refusals.at_least);
    refusals.at_most = refusals.at_most.min(requests.at_most);
    TopKey {
        id: KeyId(IDS.hash_one(print)),
        name: name.map(KeyName::new),
        requests,
        refusals,
        is_refused: counts.iter().any(|counts| counts.refusals.has(print)),
    }
}

impl Counts {
    fn new(size: usize) -> Self {
        Self { requests: SpaceSaving::new(size), refusals: SpaceSaving::new(size) }
    }

    fn clear(&mut self) {
        self.requests.clear();
        self.refusals.clear();
    }
}

impl fmt::Debug for Tracker {
    /// Omits the keys, because they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker").field("setting", &self.setting).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::ManualClock;
    use crate::layer::top_keys::space_saving::LONGEST_NAME;

    fn tracker(setting: TopKeys) -> (Tracker, ManualClock) {
        let clock = ManualClock::new();
        (Tracker::with_clock(setting, TimeSource::custom(Arc::new(clock.clone()))), clock)
    }

    /// The names, the requests and the refusals of a ranking.
    fn listed(keys: &[&TopKey]) -> Vec<(String, u64, u64)> {
        let exact = |estimate: Estimate| {
            assert_eq!(estimate.at_least, estimate.at_most);
            estimate.at_most
        };
        keys.iter().map(|key| (key.name().unwrap().to_string(), exact(key.requests), exact(key.refusals))).collect()
    }

    fn key(text: &str) -> Vec<u8> {
        let mut bytes = crate::key::KeyWriter::new();
        bytes.write(text);
        bytes.as_bytes().to_vec()
    }

    fn see(tracker: &Tracker, text: &str, requests: usize, refusals: usize) {
        (0..requests).for_each(|at| tracker.see(&key(text), at < refusals));
    }

    #[test]
    fn keys_are_ranked_by_requests_and_by_refusals() {
        let (tracker, _) = tracker(TopKeys::names(10));
        see(&tracker, "busy", 9, 0);
        see(&tracker, "refused", 5, 4);
        see(&tracker, "both", 7, 1);
        let report = tracker.report();
        let of = |name: &str, requests, refusals| (name.to_owned(), requests, refusals);
        assert_eq!(listed(&report.by_requests()), [of("busy", 9, 0), of("both", 7, 1), of("refused", 5, 4)]);
        assert_eq!(listed(&report.by_refusals()), [of("refused", 5, 4), of("both", 7, 1)]);
        assert_eq!((report.requests(), report.refusals()), (21, 5));
    }

    #[test]
    fn a_report_covers_one_to_two_periods() {
        let (tracker, clock) = tracker(TopKeys::names(10));
        let requests = || tracker.report().by_requests().first().map_or(0, |key| key.requests.at_most);
        let after = |seconds| clock.advance(Duration::from_secs(seconds));
        see(&tracker, "a", 1, 1);
        after(59);
        see(&tracker, "a", 2, 2);
        assert_eq!((requests(), tracker.report().since()), (3, Duration::from_secs(59)));
        after(1);
        see(&tracker, "a", 4, 4);
        assert_eq!((requests(), tracker.report().since()), (7, Duration::from_secs(60)));
        after(59);
        assert_eq!((requests(), tracker.report().since()), (7, Duration::from_secs(119)));
        after(1);
        assert_eq!((requests(), tracker.report().since()), (4, Duration::from_secs(60)), "the first period is over");
        see(&tracker, "a", 8, 8);
        after(120);
        assert_eq!((requests(), tracker.report().refusals()), (0, 0), "two periods without a request");
        after(7 * 60 + 5);
        see(&tracker, "a", 1, 1);
        assert_eq!((requests(), tracker.report().since()), (1, Duration::from_secs(65)));
    }

    #[test]
    fn only_short_names_are_kept_and_none_if_there_are_only_ids() {
        let (long, longest) = ("x".repeat(LONGEST_NAME), "x".repeat(LONGEST_NAME - 9));
        let (names, _) = tracker(TopKeys::names(10));
        see(&names, &long, 1, 0);
        see(&names, &longest, 2, 0);
        names.see(&[], false);
        let report = names.report();
        let kept: Vec<_> = report.by_requests().iter().map(|key| key.name().map(ToString::to_string)).collect();
        assert_eq!(kept.len(), 3);
        assert!(
            kept.contains(&Some(longest.clone())) && kept.contains(&None) && kept.contains(&Some("(global)".into()))
        );

        let (ids, _) = tracker(TopKeys::ids(10));
        see(&ids, &longest, 2, 0);
        let (found, same) = (ids.report(), report.by_requests()[0].id());
        assert!(found.get(same).is_some_and(|key| key.name().is_none()), "a key has one id in all limits");
        assert_eq!(same.to_string().parse(), Ok(same));
        assert_eq!(same.to_string().len(), 16);
        let shown = format!("{report:?} {names:?} {found:?}");
        assert!(!shown.contains("xxx") && shown.contains(&same.to_string()), "{shown}");
    }

    proptest! {
        /// In both periods together, as in one: frequent keys are listed, and the bounds are true.
        #[test]
        fn the_bounds_of_a_report_are_true(
            size in 1_usize..20,
            stream in prop::collection::vec((prop_oneof![0..3_u8, 0..60_u8], any::<bool>()), 0..600),
            ends in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        ) {
            let (tracker, clock) = tracker(TopKeys::names(size));
            // The counts of each period.
            let mut naive = vec![[[0_u64; 60]; 2]];
            for (at, (key, is_refused)) in stream.iter().enumerate() {
                if ends.iter().any(|end| end.index(stream.len()) == at) {
                    clock.advance(Duration::from_secs(60));
                    naive.push([[0; 60]; 2]);
                }
                tracker.see(&[*key], *is_refused);
                let period = naive.last_mut().unwrap();
                period[0][usize::from(*key)] += 1;
                period[1][usize::from(*key)] += u64::from(*is_refused);
            }
            let report = tracker.report();
            let count = |which: usize, key: usize| naive.iter().rev().take(2).map(|it| it[which][key]).sum::<u64>();
            let total = |which| (0..60).map(|key| count(which, key)).sum::<u64>();
            prop_assert_eq!((report.requests(), report.refusals()), (total(0), total(1)));
            let is_frequent = |which, key: u8| count(which, usize::from(key)) * size as u64 > total(which);
            let rankings = [report.by_requests(), report.by_refusals()];
            for (which, ranking) in rankings.iter().enumerate() {
                for key in 0..60_u8 {
                    let name = KeyName::new(&[key]);
                    let row = ranking.iter().find(|row| row.name() == Some(&name));
                    prop_assert!(row.is_some() || !is_frequent(which, key));
                    if let Some(row) = row {
                        for (which, bounds) in [(0, row.requests()), (1, row.refusals())] {
                            let count = count(which, usize::from(key));
                            prop_assert!((bounds.at_least..=bounds.at_most).contains(&count), "{count} {bounds:?}");
                        }
                    }
                }
                let counts = ranking.iter().map(|row| [row.requests, row.refusals][which].at_most);
                prop_assert!(counts.is_sorted_by(|a, b| a >= b));
            }
        }
    }

    /// With names of the largest size, in each part and in both periods.
    #[test]
    fn a_flood_of_keys_takes_bounded_memory() {
        for (setting, per_key) in [
            (TopKeys::ids(100), 450),
            (TopKeys::ids(1_000), 450),
            (TopKeys::names(100), 1_500),
            (TopKeys::names(1_000), 1_500),
        ] {
            let used = allocation_counter::measure(|| {
                let (tracker, clock) = tracker(setting);
                let mut key = [7; 4 * LONGEST_NAME];
                for at in 0..500_000_u64 {
                    key[..8].copy_from_slice(&at.to_le_bytes());
                    // Every fourth key is too long for a name.
                    let len = if at % 4 < 3 { LONGEST_NAME } else { key.len() };
                    tracker.see_in(at as usize / 4, &key[..len], true);
                    if at == 250_000 {
                        clock.advance(Duration::from_secs(60));
                    }
                }
            });
            let stripes = thread::available_parallelism().map_or(1, usize::from).min(MOST_STRIPES) as u64;
            let most = 10_000 + stripes * setting.size() as u64 * per_key;
            assert!(used.bytes_max < most, "{} bytes for {setting}", used.bytes_max);
            assert_eq!(used.bytes_current, 0);
        }
    }

    /// More keys than counters, and more threads than parts.
    #[test]
    fn threads_lose_no_count_and_the_bounds_stay_true() {
        let (tracker, _) = tracker(TopKeys::names(3));
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    // Each key has a quarter of the requests of the one before it.
                    for at in 1..20_000_u32 {
                        tracker.see(&(at.trailing_zeros() / 2).to_le_bytes(), at % 2 == 0);
                    }
                });
            }
        });
        let report = tracker.report();
        assert_eq!((report.requests(), report.refusals()), (5 * 19_999, 5 * 9_999));
        assert_eq!(report.by_requests()[0].name(), Some(&KeyName::new(&0_u32.to_le_bytes())));
        let count = |key: u32| 5 * (1..20_000_u32).filter(|at| at.trailing_zeros() / 2 == key).count() as u64;
        for key in report.by_requests() {
            let number = (0..16).find(|number: &u32| key.name() == Some(&KeyName::new(&number.to_le_bytes()))).unwrap();
            let bounds = key.requests();
            assert!((bounds.at_least..=bounds.at_most).contains(&count(number)), "{number}: {bounds:?}");
        }
    }
}
