//! The age of values, and lookups while the source fails.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::source::*;
use crate::layer::quota_lookup::QuotaLookup;
use crate::time::{Clock, ManualClock, TimeSource};

#[test]
fn a_value_is_used_for_its_time_to_live() {
    let source = Source::new(Does::Return(1));
    let (lookup, clock) = source.lookup();
    assert_eq!(answer(&lookup, "a"), found(1));
    source.now_does(Does::Return(2));
    clock.advance(TTL - MS);
    assert_eq!((at_once(&lookup, "a"), source.calls()), (Some(found(1)), 1));
    clock.advance(MS);
    assert_eq!((answer(&lookup, "a"), source.calls()), (found(2), 2));
}

/// A value is as old as the question, because the source may have read it at that moment.
#[test]
fn the_time_of_a_lookup_counts() {
    let source = Source::new(Does::Hang);
    let (lookup, clock) = source.lookup();
    let mut request = waiting(&lookup, "a");
    assert!(poll(&mut request).is_none());
    clock.advance(TTL - MS);
    source.now_does(Does::Return(1));
    assert_eq!((poll(&mut request), at_once(&lookup, "a")), (Some(found(1)), Some(found(1))));
    clock.advance(MS);
    source.now_does(Does::Return(2));
    assert_eq!(answer(&lookup, "a"), found(2));
}

#[test]
fn requests_use_the_old_value_during_a_refresh_and_wait_after_twice_its_time() {
    let source = Source::new(Does::Return(1));
    let (lookup, clock) = source.lookup();
    assert_eq!(answer(&lookup, "a"), found(1));
    source.now_does(Does::Hang);
    clock.advance(TTL);
    let mut refresh = waiting(&lookup, "a");
    assert!(poll(&mut refresh).is_none());
    clock.advance(TTL - MS);
    assert_eq!(at_once(&lookup, "a"), Some(found(1)));
    clock.advance(MS);
    let mut late = waiting(&lookup, "a");
    assert!(poll(&mut late).is_none());
    source.now_does(Does::Return(2));
    assert_eq!((poll(&mut late), poll(&mut refresh)), (Some(found(2)), Some(found(2))));
    assert_eq!(source.calls(), 2);
}

/// A refresh whose client hangs up must not keep an old value in use.
#[test]
fn the_next_request_repeats_a_dropped_refresh() {
    let source = Source::new(Does::Return(1));
    let (lookup, clock) = source.lookup();
    assert_eq!(answer(&lookup, "a"), found(1));
    source.now_does(Does::Hang);
    clock.advance(TTL);
    for _ in 0..3 {
        assert!(poll(&mut waiting(&lookup, "a")).is_none());
    }
    source.now_does(Does::Return(2));
    assert_eq!((answer(&lookup, "a"), source.calls()), (found(2), 5));
}

#[test]
fn the_last_good_value_is_used_while_the_source_fails() {
    for does in [Does::Fail, Does::Panic, Does::PanicInTheCall] {
        let source = Source::new(Does::Return(1));
        let (lookup, clock) = source.lookup();
        assert_eq!(answer(&lookup, "a"), found(1));
        source.now_does(does);
        // Five minutes without the source, and a request in every 100 ms.
        for _ in 0..3_000 {
            clock.advance(100 * MS);
            assert_eq!(answer(&lookup, "a"), found(1), "{does:?}");
        }
        let calls = source.calls();
        assert!((200..=242).contains(&calls), "{does:?}: {calls} calls in four minutes after the time to live");
        source.now_does(Does::Return(2));
        clock.advance(PAUSE);
        assert_eq!(answer(&lookup, "a"), found(2), "{does:?}");
    }
}

#[test]
fn only_one_request_waits_for_a_source_that_fails_slowly() {
    let source = Source::new(Does::Return(1));
    let (lookup, clock) = source.lookup();
    assert_eq!(answer(&lookup, "a"), found(1));
    source.now_does(Does::Fail);
    clock.advance(TTL);
    assert_eq!(answer(&lookup, "a"), found(1));
    source.now_does(Does::Hang);
    clock.advance(10 * TTL);
    let mut retry = waiting(&lookup, "a");
    assert!(poll(&mut retry).is_none());
    assert_eq!(at_once(&lookup, "a"), Some(found(1)));
    source.now_does(Does::Fail);
    assert_eq!(poll(&mut retry), Some(found(1)));
}

#[test]
fn without_a_value_a_failure_is_the_answer_for_a_second() {
    let source = Source::new(Does::Hang);
    let (lookup, clock) = source.lookup();
    let (mut first, mut second) = (waiting(&lookup, "a"), waiting(&lookup, "a"));
    assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
    // The pause begins with the failure.
    clock.advance(10 * PAUSE);
    source.now_does(Does::Fail);
    assert_eq!((poll(&mut second), poll(&mut first)), (Some(FAILED), Some(FAILED)));
    clock.advance(PAUSE - MS);
    assert_eq!((at_once(&lookup, "a"), source.calls()), (Some(FAILED), 1));
    source.now_does(Does::Return(1));
    assert_eq!(at_once(&lookup, "a"), Some(FAILED));
    assert_eq!(answer(&lookup, "b"), found(1), "another key does not pause");
    clock.advance(MS);
    assert_eq!((answer(&lookup, "a"), source.calls()), (found(1), 3));
}

#[test]
fn without_a_time_to_live_every_request_asks() {
    let source = Source::new(Does::Return(1));
    let (lookup, clock) = source.lookup();
    let lookup = lookup.cached(10, Duration::ZERO);
    assert_eq!((answer(&lookup, "a"), answer(&lookup, "a"), source.calls()), (found(1), found(1), 2));
    source.now_does(Does::Fail);
    assert_eq!((answer(&lookup, "a"), answer(&lookup, "a"), source.calls()), (found(1), found(1), 3));
    source.now_does(Does::Return(2));
    clock.advance(PAUSE);
    assert_eq!(answer(&lookup, "a"), found(2));
}

#[test]
fn an_endless_time_to_live_keeps_a_value() {
    let source = Source::new(Does::Return(1));
    let (lookup, clock) = source.lookup();
    let lookup = lookup.cached(10, Duration::MAX);
    assert_eq!(answer(&lookup, "a"), found(1));
    clock.advance(Duration::from_secs(u64::from(u32::MAX)));
    assert_eq!((at_once(&lookup, "a"), source.calls()), (Some(found(1)), 1));
}

/// A source that returns its time, in seconds.
fn dated() -> (QuotaLookup, ManualClock) {
    let clock = ManualClock::new();
    let time = clock.clone();
    let lookup = QuotaLookup::new(move |_| {
        let now = time.now_ms() / 1_000;
        async move { Ok::<_, &str>(quotas(now)) }
    });
    (lookup.cached(100, TTL).clock(TimeSource::custom(Arc::new(clock.clone()))), clock)
}

proptest! {
    /// With a healthy source, no request fails, and each gets a value that is younger than the time to live. The
    /// source is not asked more often than that.
    #[test]
    fn a_healthy_source_keeps_all_values_fresh(steps in prop::collection::vec((0_u8..3, 0_u64..100), 1..100)) {
        let (lookup, clock) = dated();
        clock.advance(Duration::from_secs(1_000));
        let mut latest = [0; 3];
        for (key, seconds) in steps {
            clock.advance(Duration::from_secs(seconds));
            let answer = answer(&lookup, &key.to_string());
            let (now, at) = (clock.now_ms() / 1_000, answer.unwrap().as_slice()[0].count());
            prop_assert!(now - at < TTL.as_secs(), "a value of {} at {}", at, now);
            let latest = &mut latest[usize::from(key)];
            prop_assert!(at == *latest || at >= *latest + TTL.as_secs(), "{} after {}", at, latest);
            *latest = at;
        }
    }
}
