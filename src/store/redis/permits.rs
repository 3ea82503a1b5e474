//! The permits that this instance holds in Redis, so that they can be renewed and returned.
//!
//! Redis counts a permit for its time to live, like a unit in a window. A renewal moves all permits of a key to the
//! current tick, in one call. The permits of a key are alike: what matters is how many are charged at which tick.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::runtime::Carrier;

/// The most ticks in one renewal. A key with more is renewed in several calls.
const MOST_TICKS: usize = 1_024;

/// Permits that are charged at a tick of the server.
pub(super) type Charged = (u64, u64);

/// The permits of one limit, by the names of their keys.
#[derive(Default)]
pub(super) struct HeldPermits {
    keys: Mutex<HashMap<Box<[u8]>, HeldKey>>,
}

struct HeldKey {
    charged: Vec<Charged>,
    /// Admitted by this instance's share. Redis does not know them yet.
    uncharged: u64,
    /// Returned while a renewal is in flight. Their tick is known when it ends.
    returned: u64,
    is_renewing: bool,
    renewed: Instant,
    /// The runtime of the last request.
    carrier: Carrier,
}

/// A renewal that is in flight. Its drop ends it without a reply.
pub(super) struct Renewal {
    permits: Arc<HeldPermits>,
    pub(super) name: Box<[u8]>,
    /// The oldest ticks first.
    pub(super) charged: Vec<Charged>,
    uncharged: u64,
    /// When the key was renewed before.
    before: Instant,
    is_over: bool,
}

impl HeldKey {
    fn is_empty(&self) -> bool {
        !self.is_renewing && self.uncharged == 0 && self.charged.is_empty()
    }

    fn add(&mut self, tick: u64, permits: u64) {
        match self.charged.iter_mut().rev().find(|(at, _)| *at == tick) {
            Some((_, charged)) => *charged += permits,
            None => self.charged.push((tick, permits)),
        }
    }

    /// Takes permits out. Returns what must be refunded in Redis.
    fn take(&mut self, mut permits: u64) -> Vec<Charged> {
        let unknown = permits.min(self.uncharged);
        self.uncharged -= unknown;
        permits -= unknown;
        let mut refunds = Vec::new();
        while let Some((tick, charged)) = self.charged.last_mut().filter(|_| permits > 0) {
            let taken = permits.min(*charged);
            refunds.push((*tick, taken));
            *charged -= taken;
            permits -= taken;
            if *charged == 0 {
                self.charged.pop();
            }
        }
        refunds
    }
}

impl HeldPermits {
    /// Adds permits of a key: those that Redis charged at a tick, or that this instance's share admitted.
    pub(super) fn hold(&self, name: Box<[u8]>, tick: Option<u64>, permits: u64) {
        let carrier = Carrier::here();
        let mut keys = self.keys();
        let key = match keys.entry(name) {
            Entry::Occupied(key) => key.into_mut(),
            Entry::Vacant(place) => place.insert(HeldKey {
                charged: Vec::with_capacity(1),
                uncharged: 0,
                returned: 0,
                is_renewing: false,
                renewed: Instant::now(),
                carrier: carrier.clone(),
            }),
        };
        key.carrier = carrier;
        match tick {
            Some(tick) => key.add(tick, permits),
            None => key.uncharged += permits,
        }
    }

    /// Returns permits of a key. The result must be refunded in Redis, on the runtime beside it if the caller has none.
    pub(super) fn give_back(&self, name: &[u8], permits: u64) -> Option<(Vec<Charged>, Carrier)> {
        let mut keys = self.keys();
        let key = keys.get_mut(name)?;
        if key.is_renewing {
            key.returned += permits;
            return None;
        }
        let refunds = key.take(permits);
        let carrier = key.carrier.clone();
        if key.is_empty() {
            keys.remove(name);
        }
        Some((refunds, carrier))
    }

    /// The keys that were not renewed for a time, or hold permits that Redis does not know.
    pub(super) fn due(&self, age: Duration) -> Vec<Box<[u8]>> {
        let is_due = |key: &HeldKey| !key.is_renewing && (key.uncharged > 0 || key.renewed.elapsed() >= age);
        self.keys().iter().filter(|(_, key)| is_due(key)).map(|(name, _)| name.clone()).collect()
    }

    /// Begins a renewal of a key, unless one is in flight.
    pub(super) fn begin(self: &Arc<Self>, name: &[u8]) -> Option<Renewal> {
        let mut keys = self.keys();
        let key = keys.get_mut(name).filter(|key| !key.is_renewing)?;
        key.is_renewing = true;
        key.charged.sort_unstable();
        let before = key.renewed;
        let count = key.charged.len().min(MOST_TICKS);
        if count == key.charged.len() {
            key.renewed = Instant::now();
        }
        let charged = key.charged.drain(..count).collect();
        let uncharged = std::mem::take(&mut key.uncharged);
        Some(Renewal { permits: Arc::clone(self), name: name.into(), charged, uncharged, before, is_over: false })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys().is_empty()
    }

    /// A runtime on which one of the requests runs, if any is left.
    pub(super) fn carrier(&self) -> Option<Carrier> {
        let all: Vec<Carrier> = self.keys().values().map(|key| key.carrier.clone()).collect();
        all.into_iter().find(Carrier::is_live)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, HeldKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Renewal {
    /// The permits to charge.
    pub(super) fn total(&self) -> u64 {
        self.charged.iter().map(|(_, permits)| permits).sum::<u64>() + self.uncharged
    }

    /// Ends the renewal. `tick` is that of the charge. Returns what must be refunded in Redis.
    pub(super) fn end(mut self, tick: Option<u64>) -> Vec<Charged> {
        self.conclude(tick)
    }

    fn conclude(&mut self, tick: Option<u64>) -> Vec<Charged> {
        if std::mem::replace(&mut self.is_over, true) {
            return Vec::new();
        }
        let permits = Arc::clone(&self.permits);
        let mut keys = permits.keys();
        let Some(key) = keys.get_mut(&self.name) else { return Vec::new() };
        key.is_renewing = false;
        match tick {
            Some(tick) => key.add(tick, self.total()),
            None => {
                // It may have taken place. The permits are then counted twice, until their first ticks expire.
                let newer = std::mem::replace(&mut key.charged, std::mem::take(&mut self.charged));
                key.charged.extend(newer);
                key.uncharged += self.uncharged;
                key.renewed = self.before;
            }
        }
        let returned = std::mem::take(&mut key.returned);
        let refunds = key.take(returned);
        if key.is_empty() {
            keys.remove(&self.name);
        }
        refunds
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        // What was returned meanwhile expires by itself.
        self.conclude(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Box<[u8]> {
        Box::from(*b"k")
    }

    /// What Redis holds for one instance, as a map of ticks, against what the instance believes.
    #[derive(Default)]
    struct Server(std::collections::BTreeMap<u64, u64>);

    impl Server {
        fn refund(&mut self, refunds: Vec<Charged>) {
            for (tick, permits) in refunds {
                let held = self.0.entry(tick).or_default();
                *held = held.saturating_sub(permits);
            }
        }

        fn total(&self) -> u64 {
            self.0.values().sum()
        }
    }

    /// Admissions, returns and renewals in any order, with replies that are lost or late. Redis never counts less than
    /// the permits that are held. Without losses, it counts exactly those between two renewals.
    #[test]
    fn redis_never_counts_less_than_what_is_held() {
        for seed in 0..60 {
            let mut random = fastrand::Rng::with_seed(seed);
            let loses = seed % 2 == 1;
            let (permits, mut server) = (Arc::new(HeldPermits::default()), Server::default());
            let (mut held, mut renewal, mut tick) = (0, None::<(Renewal, Option<u64>)>, 1);
            for _ in 0..400 {
                tick += random.u64(0..3);
                match random.u32(0..10) {
                    0..4 => {
                        let is_known = random.u32(0..5) > 0;
                        permits.hold(name(), is_known.then_some(tick), 1);
                        if is_known {
                            *server.0.entry(tick).or_default() += 1;
                        }
                        held += 1;
                    }
                    4..7 if held > 0 => {
                        held -= 1;
                        if let Some((refunds, _)) = permits.give_back(&name(), 1) {
                            server.refund(refunds);
                        }
                    }
                    7..9 if renewal.is_none() => {
                        let Some(begun) = permits.begin(&name()) else { continue };
                        assert!(permits.begin(&name()).is_none() && permits.due(Duration::ZERO).is_empty());
                        let arrives = !loses || random.bool();
                        if arrives {
                            server.refund(begun.charged.clone());
                            *server.0.entry(tick).or_default() += begun.total();
                        }
                        let is_answered = arrives && (!loses || random.bool());
                        renewal = Some((begun, is_answered.then_some(tick)));
                    }
                    _ => {
                        let Some((begun, answer)) = renewal.take() else { continue };
                        server.refund(begun.end(answer));
                    }
                }
                // Those of shares, which the next renewal charges in Redis.
                let unknown = renewal.as_ref().map_or(0, |(begun, _)| begun.uncharged);
                let unknown = unknown + permits.keys().get(&name()).map_or(0, |key| key.uncharged);
                let counted = server.total() + unknown;
                assert!(counted >= held, "seed {seed}: {counted} of {held}");
                if !loses && renewal.is_none() {
                    assert_eq!(counted, held, "seed {seed}");
                }
            }
            drop(renewal);
            for _ in 0..held {
                if let Some((refunds, _)) = permits.give_back(&name(), 1) {
                    server.refund(refunds);
                }
            }
            assert!(permits.is_empty(), "nothing is kept for a key without requests");
        }
    }

    /// A key with very many ticks is renewed in several calls, the oldest ticks first.
    #[test]
    fn a_renewal_is_bounded_and_the_rest_is_due() {
        let permits = Arc::new(HeldPermits::default());
        for tick in (0..2 * MOST_TICKS as u64 + 7).rev() {
            permits.hold(name(), Some(tick), 2);
        }
        for count in [MOST_TICKS, MOST_TICKS, 8] {
            let renewal = permits.begin(&name()).unwrap();
            assert_eq!((renewal.charged.len(), renewal.charged[0].0 % MOST_TICKS as u64), (count, 0));
            renewal.end(Some(10_000));
        }
        assert_eq!(permits.keys()[&name()].charged.iter().map(|(_, permits)| permits).sum::<u64>(), 4_110);
    }
}
