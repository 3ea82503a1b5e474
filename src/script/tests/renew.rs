//! The renewal of permits: the same as a refund of each tick and a charge now, in the engine.

use super::*;

impl Twins {
    /// Renews permits, and returns their tick.
    fn renew(&mut self, now_ms: u64, units: u64, taken: &[(u64, u64)]) -> u64 {
        let policy = EncodedPolicy::renew(self.bucket_ms, &self.horizon, units, taken);
        let time = now_ms.to_string();
        let answer = self.call(&CORRECT, &[policy.as_bytes(), time.as_bytes()]);
        let answer = CorrectionReply::read(&answer).unwrap();
        let now = now_ms / self.bucket_ms;
        let mut window = self.window.take().unwrap_or_else(|| Window::new(now));
        let now = window.follow(now, &self.horizon);
        let span = self.horizon.keep();
        assert_eq!(answer.before, window.used(now, span), "step {}", self.steps);
        for (stamp, units) in taken {
            window.refund(now, *stamp, *units, &self.horizon);
        }
        window.record_external(now, units, &self.horizon);
        assert_eq!(answer.after, window.used(now, span), "step {} {taken:?}", self.steps);
        assert_eq!(answer.newest, now);
        self.window = Some(window);
        self.steps += 1;
        now
    }
}

/// Permits of several instances at random ticks, in histories that merge. Each renews what it charged, and sometimes
/// ticks at which it has nothing.
#[test]
fn a_renewal_equals_refunds_and_a_charge() {
    let server = Server::start(Flavor::Debian);
    let all: [&'static [(u64, u64, u32)]; 3] = [&[(400, 400, 300)], &[(60, 60, 100)], &[(5, 5, 10), (500, 500, 2_000)]];
    for (case, words) in [256, 8, 16].into_iter().enumerate() {
        let setup =
            Setup { limits: all[case], words, bucket_ms: 10, start_ms: DAY, most_gap_ms: 40, suppressed: false };
        let (limits, mut twins) = (setup.limits(), setup.twins(&server));
        let mut random = fastrand::Rng::with_seed(case as u64);
        let mut now = setup.start_ms;
        let mut instances: [Vec<(u64, u64)>; 3] = Default::default();
        while twins.steps < 4_000 {
            now += random.u64(0..setup.most_gap_ms);
            if random.u32(0..400) == 0 {
                now -= random.u64(0..2_000);
            }
            let held = &mut instances[random.usize(0..3)];
            match random.u32(0..10) {
                0..7 => {
                    let ask = Ask { cost: 1, random: 0 };
                    twins.decide(now, &[ask], Mode::Absolute, &limits);
                    held.push((now / setup.bucket_ms, random.u64(1..3)));
                }
                7 if !held.is_empty() => {
                    let (stamp, units) = held.swap_remove(random.usize(0..held.len()));
                    twins.correct(now, limits[0].span, Correction::Refund { stamp, units });
                }
                _ if random.bool() || held.len() > 100 => {
                    held.sort_unstable();
                    let total = held.iter().map(|(_, units)| units).sum();
                    let tick = twins.renew(now, total, held);
                    *held = Vec::from_iter((total > 0).then_some((tick, total)));
                }
                _ => {}
            }
        }
    }
}

/// Neither a lost value nor a correction makes the count too low after a renewal.
#[test]
fn a_renewal_charges_whatever_it_finds() {
    let server = Server::start(Flavor::Debian);
    let setup =
        Setup { limits: &[(9, 9, 100)], words: 256, bucket_ms: 10, start_ms: DAY, most_gap_ms: 1, suppressed: false };
    let (limits, mut twins) = (setup.limits(), setup.twins(&server));
    for _ in 0..4 {
        twins.decide(DAY, &[Ask { cost: 1, random: 0 }], Mode::Absolute, &limits);
    }
    let tick = DAY / 10;
    server.cli(&["FLUSHALL"]);
    twins.window = None;
    assert_eq!(twins.renew(DAY + 100, 4, &[(tick, 4)]), tick + 10);
    twins.decide(DAY + 100, &[Ask { cost: 6, random: 0 }], Mode::Absolute, &limits);
    assert_eq!(twins.window.as_ref().unwrap().used(tick + 10, 100), 4, "six more do not fit");
    // After their time to live, they are gone, and a renewal brings them back.
    twins.renew(DAY + 5_000, 4, &[(tick + 10, 4)]);
    assert_eq!(twins.window.as_ref().unwrap().used(tick + 500, 100), 4);
    // A reply was lost: they count twice until their old tick expires, and then once.
    twins.renew(DAY + 5_400, 4, &[(tick + 510, 4)]);
    assert_eq!(twins.window.as_ref().unwrap().used(tick + 540, 100), 8);
    twins.renew(DAY + 5_800, 4, &[(tick + 540, 4)]);
    assert_eq!(twins.window.as_ref().unwrap().used(tick + 601, 100), 4);
}
