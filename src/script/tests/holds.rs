//! Reservations, against a naive model: a list of the charged units, and the holds by their ids.

use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::engine::Outcome;

const BUCKET_MS: u64 = 10;
const SPAN: u32 = 60;
const CAPACITY: u64 = 40;
const MOST_HOLDS: u64 = 1024;

fn limits() -> [Limit; 1] {
    [Limit { capacity: CAPACITY, hard: CAPACITY, window: SPAN, span: SPAN, ticks_in_200ms: 20 }]
}

fn horizon() -> Retention {
    let horizon = Retention::new(Retention::WORDS_PER_SPAN);
    assert!(horizon.widen(&[SPAN]));
    horizon
}

fn id(counter: u64) -> LeaseId {
    LeaseId { nonce: 7, counter: counter as u32 }
}

/// What must be charged: units by the tick of their date, and holds by id with their last tick.
#[derive(Default)]
struct Model {
    log: Vec<(u64, u64)>,
    holds: HashMap<u64, (u64, u64)>,
}

impl Model {
    fn used(&self, now: u64) -> u64 {
        let live = |(tick, _): &&(u64, u64)| now <= *tick + u64::from(SPAN);
        self.log.iter().chain(self.holds.values()).filter(live).map(|(_, units)| units).sum()
    }

    fn hold(&mut self, now_ms: u64, id: u64, life_ms: u64, stamp: u64, units: u64) -> u64 {
        if let Some((_, units)) = self.holds.get(&id).filter(|(end, _)| now_ms / BUCKET_MS <= end + u64::from(SPAN)) {
            return *units;
        }
        let mut taken = 0;
        let is_live = now_ms / BUCKET_MS <= stamp + u64::from(SPAN);
        for (_, left) in self.log.iter_mut().filter(|(tick, _)| is_live && *tick == stamp) {
            let part = (*left).min(units - taken);
            (*left, taken) = (*left - part, taken + part);
        }
        if taken > 0 {
            self.holds.insert(id, ((now_ms + life_ms) / BUCKET_MS, taken));
        }
        taken
    }

    fn commit(&mut self, now_ms: u64, id: u64, spent: &[(u64, u64)]) {
        let now = now_ms / BUCKET_MS;
        let Some((end, mut left)) = self.holds.remove(&id) else { return };
        if now > end + u64::from(SPAN) {
            return;
        }
        for &(age_ms, units) in spent {
            let units = units.min(left);
            left -= units;
            self.log.push(((now_ms - age_ms) / BUCKET_MS, units));
        }
    }
}

/// The script on one key.
struct Site {
    server: redis::Connection,
    key: Vec<u8>,
    horizon: Retention,
}

impl Site {
    fn new(server: &Server, key: &str) -> Self {
        Self { server: connect(server), key: key.into(), horizon: horizon() }
    }

    fn call(&mut self, script: &Script, now_ms: u64, policy: &EncodedPolicy, more: &[u8]) -> Vec<u8> {
        let time = now_ms.to_string();
        let args = [policy.as_bytes(), time.as_bytes(), more];
        let call = script.eval(&[&self.key], args.into_iter().take(if more.is_empty() { 2 } else { 3 }));
        persistent(call, &self.key, &mut self.server)
    }

    fn decide(&mut self, now_ms: u64, cost: u64) -> Outcome {
        let policy = EncodedPolicy::decide(BUCKET_MS, &self.horizon, Mode::Absolute, &limits());
        let (ask, mut packed) = (Ask { cost, random: 0 }, Vec::new());
        ask.write(&mut packed);
        let answer = self.call(&DECIDE, now_ms, &policy, &packed);
        read(&answer, 1).unwrap().outcome(0, ask, &limits(), now_ms / BUCKET_MS).unwrap()
    }

    fn correct(&mut self, now_ms: u64, policy: &EncodedPolicy) -> CorrectionReply {
        CorrectionReply::read(&self.call(&CORRECT, now_ms, policy, b"")).unwrap()
    }

    fn hold(&mut self, now_ms: u64, counter: u64, life_ms: u64, stamp: u64, units: u64) -> u64 {
        let hold = Correction::Hold { id: id(counter), life_ms: life_ms as u32, stamp, units };
        let policy = EncodedPolicy::correct(BUCKET_MS, &self.horizon, SPAN, hold);
        self.correct(now_ms, &policy).after
    }

    fn commit(&mut self, now_ms: u64, counter: u64, spent: &[(u64, u64)]) -> CorrectionReply {
        let entries = spent.iter().map(|&(age_ms, units)| (Duration::from_millis(age_ms), units));
        let policy = EncodedPolicy::commit(BUCKET_MS, &self.horizon, SPAN, id(counter), entries);
        self.correct(now_ms, &policy)
    }
}

/// Messages arrive late, twice, or never.
#[test]
fn reservations_are_charged_as_the_model_says_whatever_is_lost_or_late_or_twice() {
    let server = Server::start(Flavor::Debian);
    let (mut admitted, mut refused, mut held, mut lost) = (0, 0, 0, 0);
    for case in 0..12 {
        let mut random = fastrand::Rng::with_seed(case);
        let (mut site, mut model) = (Site::new(&server, &format!("holds{case}")), Model::default());
        let (mut now, mut next) = (DAY, 0);
        // The charges that can be held, the open holds, and the commits that were sent.
        let (mut charged, mut open) = (Vec::<(u64, u64)>::new(), Vec::<(u64, u64)>::new());
        let mut said: Vec<(u64, Vec<(u64, u64)>)> = Vec::new();
        for _ in 0..300 {
            now += random.u64(0..60) * random.u64(0..3);
            match random.u32(0..5) {
                0 | 1 => {
                    let cost = random.u64(1..15);
                    let (before, outcome) = (model.used(now / BUCKET_MS), site.decide(now, cost));
                    assert_eq!(outcome.is_allowed(), before + cost <= CAPACITY, "{before} and {cost} at {now}");
                    match outcome.is_allowed() {
                        true => {
                            assert_eq!(outcome.used, before + cost);
                            model.log.push((now / BUCKET_MS, cost));
                            charged.push((now / BUCKET_MS, cost));
                            admitted += 1;
                        }
                        false => {
                            refused += 1;
                            if outcome.fits_at != engine::NEVER {
                                assert!(model.used(outcome.fits_at - 1) + cost > CAPACITY, "it waits in vain");
                                assert!(model.used(outcome.fits_at) + cost <= CAPACITY, "it does not fit then");
                            }
                        }
                    }
                }
                2 if !charged.is_empty() => {
                    let (stamp, units) = charged.swap_remove(random.usize(0..charged.len()));
                    let (life_ms, twice) = (random.u64(0..900), random.u32(0..4) == 0);
                    for _ in 0..=u32::from(twice) {
                        let expected = model.hold(now, next, life_ms, stamp, units);
                        assert_eq!(site.hold(now, next, life_ms, stamp, units), expected);
                    }
                    (held, next) = (held + 1, next + 1);
                    open.push((next - 1, now));
                }
                3 if !open.is_empty() => {
                    let (hold, since) = open.swap_remove(random.usize(0..open.len()));
                    if random.u32(0..5) == 0 {
                        lost += 1;
                        continue;
                    }
                    let (entries, longest) = (random.usize(0..4), (now - since).min(400));
                    let entry = |_| (random.u64(0..=longest), random.u64(0..6));
                    let mut spent: Vec<(u64, u64)> = (0..entries).map(entry).collect();
                    spent.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
                    model.commit(now, hold, &spent);
                    site.commit(now, hold, &spent);
                    said.push((hold, spent));
                }
                _ if !said.is_empty() => {
                    let (hold, spent) = &said[random.usize(0..said.len())];
                    assert!(!site.commit(now, *hold, spent).done, "a commit counts once");
                }
                _ => {}
            }
            let probe = site.decide(now, 0);
            assert_eq!(probe.used, model.used(now / BUCKET_MS), "case {case} at {now}");
        }
    }
    println!("{admitted} admitted, {refused} refused, {held} held, {lost} never committed");
    assert!(admitted > 300 && refused > 300 && held > 300 && lost > 20);
}

/// Of a holder that died, nothing counts for longer than the time of the hold and a window.
#[test]
fn an_uncommitted_hold_counts_as_spent_at_its_end() {
    let server = Server::start(Flavor::Debian);
    let mut site = Site::new(&server, "dead");
    let window = u64::from(SPAN) * BUCKET_MS;
    assert!(site.decide(DAY, CAPACITY).is_allowed());
    assert_eq!(site.hold(DAY, 1, 2_000, DAY / BUCKET_MS, CAPACITY), CAPACITY);
    let ttl: i64 = redis::cmd("PTTL").arg(&site.key).query(&mut site.server).unwrap();
    assert_eq!(ttl, -1, "the test keeps the key");
    for at in [0, window, 2_000, 2_000 + window] {
        assert!(!site.decide(DAY + at, 1).is_allowed(), "after {at} ms");
    }
    assert!(site.decide(DAY + 2_000 + window + BUCKET_MS, CAPACITY).is_allowed());
}

/// The value in Redis lives until the last hold no longer counts, and an empty one is deleted.
#[test]
fn a_key_lives_for_as_long_as_its_holds_and_no_longer() {
    let server = Server::start(Flavor::Debian);
    let mut site = Site::new(&server, "life");
    assert!(site.decide(DAY, 5).is_allowed());
    let hold = Correction::Hold { id: id(1), life_ms: 60_000, stamp: DAY / BUCKET_MS, units: 5 };
    let policy = EncodedPolicy::correct(BUCKET_MS, &site.horizon, SPAN, hold);
    let time = DAY.to_string();
    let _: Vec<u8> = CORRECT.eval(&[&site.key], [policy.as_bytes(), time.as_bytes()]).query(&mut site.server).unwrap();
    let ttl: u64 = redis::cmd("PTTL").arg(&site.key).query(&mut site.server).unwrap();
    assert!((59_000 + 600..62_000).contains(&ttl), "{ttl}");
    assert!(site.commit(DAY, 1, &[]).done);
    let exists: bool = redis::cmd("EXISTS").arg(&site.key).query(&mut site.server).unwrap();
    assert!(!exists, "nothing is charged");
}

/// Beyond the bound, the units return, so the value stays small and nothing is lost.
#[test]
fn a_key_has_a_bounded_number_of_holds() {
    let server = Server::start(Flavor::Debian);
    let mut site = Site::new(&server, "many");
    let stamp = DAY / BUCKET_MS;
    let most = EncodedPolicy::charge(BUCKET_MS, &site.horizon, SPAN, [(Duration::ZERO, MOST_HOLDS + 1)]);
    site.correct(DAY, &most);
    for counter in 0..MOST_HOLDS {
        assert_eq!(site.hold(DAY, counter, 1_000, stamp, 1), 1);
    }
    assert_eq!(site.decide(DAY, 0).used, MOST_HOLDS + 1);
    assert_eq!(site.hold(DAY, MOST_HOLDS, 1_000, stamp, 1), 0);
    assert_eq!(site.decide(DAY, 0).used, MOST_HOLDS, "its unit is free");
}
