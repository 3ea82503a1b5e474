//! The size of the cache, and its allocations.

use std::hint::black_box;
use std::time::Duration;

use super::source::*;
use crate::layer::quota_lookup::QuotaLookup;

fn flood(lookup: &QuotaLookup, keys: u64) {
    for key in 0..keys {
        assert_eq!(answer(lookup, &format!("flood {key}")), found(1));
    }
}

#[test]
fn a_flood_of_keys_takes_bounded_memory() {
    for most_keys in [1, 10, 300, 10_000] {
        let used = allocation_counter::measure(|| {
            let (lookup, _) = Source::new(Does::Return(1)).lookup();
            let lookup = lookup.cached(most_keys, TTL);
            flood(&lookup, 50_000);
            assert!(lookup.slots.len() <= most_keys, "{} of {most_keys} keys", lookup.slots.len());
            assert!(lookup.slots.len() >= most_keys / 2, "{} of {most_keys} keys", lookup.slots.len());
        });
        let most = 20_000 + 400 * most_keys as u64;
        assert!(used.bytes_max < most, "{} bytes for {most_keys} keys", used.bytes_max);
        assert_eq!(used.bytes_current, 0);
    }
}

/// Failures are kept too, and must not take more room.
#[test]
fn a_flood_of_failures_takes_bounded_memory() {
    let source = Source::new(Does::Fail);
    let (lookup, _) = source.lookup();
    for key in 0..50_000 {
        assert_eq!(answer(&lookup, &key.to_string()), FAILED);
    }
    assert!(lookup.slots.len() <= 1_000);
}

#[test]
fn keys_in_use_survive_a_flood() {
    const IN_USE: usize = 500;
    let source = Source::new(Does::Return(1));
    let (lookup, _) = source.lookup();
    let use_keys = || (0..IN_USE).for_each(|key| drop(answer(&lookup, &format!("used {key}"))));
    use_keys();
    use_keys();
    let before = source.calls();
    flood(&lookup, 20_000);
    let flooded = source.calls();
    use_keys();
    let lost = source.calls() - flooded;
    assert_eq!((before, flooded), (IN_USE, IN_USE + 20_000), "each new key needs a lookup");
    assert!(lost <= IN_USE / 10, "{lost} of {IN_USE} keys in use were lost");
}

/// A flood removes no key whose lookup is running. Otherwise a second lookup would start, and the result be lost.
#[test]
fn a_flood_does_not_separate_requests_from_their_lookup() {
    let source = Source::new(Does::Hang);
    let (lookup, _) = source.lookup();
    let lookup = lookup.cached(20, TTL);
    let mut first: Vec<_> = (0..40).map(|key| waiting(&lookup, &key.to_string())).collect();
    first.iter_mut().for_each(|request| assert!(poll(request).is_none()));
    assert_eq!(lookup.slots.len(), 40, "as many as there are lookups");
    let mut second: Vec<_> = (0..40).map(|key| waiting(&lookup, &key.to_string())).collect();
    source.now_does(Does::Return(1));
    flood(&lookup, 1_000);
    assert!(second.iter_mut().chain(&mut first).all(|request| poll(request) == Some(found(1))));
    assert_eq!(source.calls(), 1_040);
    flood(&lookup, 100);
    assert!(lookup.slots.len() <= 20, "{} keys", lookup.slots.len());
}

#[test]
fn a_fresh_value_needs_no_allocation() {
    let source = Source::new(Does::Return(1));
    let (lookup, clock) = source.lookup();
    assert_eq!(answer(&lookup, "a"), found(1));
    let request = http::Request::new(());
    let view = crate::key::RequestView::new(&request);
    let used = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            clock.advance(MS);
            drop(black_box(lookup.find(&view, b"a")));
        }
    });
    assert_eq!((used.count_total, source.polls()), (0, 1));
}

/// An unused layer costs little.
#[test]
fn an_empty_cache_is_small() {
    let used = allocation_counter::measure(|| {
        let (lookup, _) = Source::new(Does::Hang).lookup();
        drop(black_box(lookup.cached(1_000_000, Duration::from_secs(1))));
    });
    assert!(used.bytes_max < 30_000, "{} bytes", used.bytes_max);
}
