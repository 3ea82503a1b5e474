//! Requests with several limits, against one engine window for each key.

use super::*;
use crate::engine::Outcome;

const BUCKET_MS: u64 = 10;

/// One limit's key: the script's value, and the window that it must equal.
struct Twin {
    name: Vec<u8>,
    limits: Vec<Limit>,
    horizon: Retention,
    is_suppressed: bool,
    window: Option<Window>,
}

/// What a request asks of one of the keys.
#[derive(Clone, Copy, Debug)]
struct Want {
    key: usize,
    is_enforced: bool,
}

impl Twin {
    /// Quotas as (capacity, hard, window in ticks).
    fn new(name: &str, quotas: &[(u64, u64, u32)], is_suppressed: bool) -> Self {
        let limit = |&(capacity, hard, window)| Limit { capacity, hard, window, span: window, ticks_in_200ms: 20 };
        let limits: Vec<Limit> = quotas.iter().map(limit).collect();
        let horizon = Retention::new(Retention::WORDS_PER_SPAN);
        assert!(horizon.widen(&limits.iter().map(|limit| limit.span).collect::<Vec<_>>()));
        Self { name: name.into(), limits, horizon, is_suppressed, window: None }
    }

    fn policy(&self) -> EncodedPolicy {
        let mode = if self.is_suppressed { Mode::Suppressed } else { Mode::Absolute };
        EncodedPolicy::decide(BUCKET_MS, &self.horizon, mode, &self.limits)
    }

    /// Returns the outcome, and the window after it.
    fn decide(&self, now_ms: u64, ask: Ask) -> (Outcome, Window) {
        let now = now_ms / BUCKET_MS;
        let mut window = self.window.clone().unwrap_or_else(|| Window::new(now));
        window.trim(now);
        let outcome = match self.is_suppressed {
            true => engine::suppressed(&mut window, now, ask.cost, &self.limits, &self.horizon, ask.random),
            false => engine::absolute(&mut window, now, ask.cost, &self.limits, &self.horizon, true),
        };
        (outcome, window)
    }
}

/// Sends requests in one call. Returns the outcomes of each.
fn send(
    server: &mut redis::Connection,
    twins: &[Twin],
    now_ms: u64,
    requests: &[Vec<(Want, Ask)>],
) -> Vec<Vec<Outcome>> {
    let (mut keys, mut args) = (Vec::new(), vec![now_ms.to_string().into_bytes()]);
    for request in requests {
        for (index, (want, ask)) in request.iter().enumerate() {
            let joint = JointAsk { ask: *ask, is_enforced: want.is_enforced, is_needed: want.is_enforced };
            keys.push(&*twins[want.key].name);
            args.extend([twins[want.key].policy().as_bytes().to_vec(), joint.bytes(index + 1 == request.len())]);
        }
    }
    let mut all = redis::pipe();
    all.atomic().add_command(JOINT.eval(&keys, args.iter().map(Vec::as_slice)));
    // The server's own time must not expire the keys.
    for key in &keys {
        all.cmd("PERSIST").arg(*key).ignore();
    }
    let (answer,): (Vec<u8>,) = all.query(server).unwrap();
    let reply = read(&answer, keys.len()).unwrap();
    assert_eq!(reply.now_ms, now_ms);
    let mut at = 0..;
    let mut outcome = |(want, ask): &(Want, Ask)| {
        let limits = &twins[want.key].limits;
        reply.outcome(at.next().unwrap(), *ask, limits, now_ms / BUCKET_MS).unwrap()
    };
    requests.iter().map(|request| request.iter().map(&mut outcome).collect()).collect()
}

fn values(server: &mut redis::Connection, twins: &[Twin]) -> Vec<Option<Vec<u8>>> {
    twins.iter().map(|twin| redis::cmd("GET").arg(&twin.name).query(server).unwrap()).collect()
}

/// Decides a request on the windows; returns whether it is admitted. Of the outcomes after a refusal, only those at the
/// hard cap are defined.
fn expect(twins: &mut [Twin], now_ms: u64, request: &[(Want, Ask)], outcomes: &[Outcome]) -> bool {
    let (mut fits, mut charges, mut demands) = (true, Vec::new(), Vec::new());
    for ((want, ask), outcome) in request.iter().zip(outcomes) {
        let twin = &twins[want.key];
        let (expected, window) = twin.decide(now_ms, *ask);
        if fits || !twin.is_suppressed {
            assert_eq!(*outcome, expected, "{request:?} at {now_ms}");
        }
        if fits {
            let is_kept = twin.window.is_some() || (expected.is_allowed() && ask.cost > 0);
            let of = if expected.is_allowed() { &mut charges } else { &mut demands };
            of.extend(is_kept.then_some((want.key, window)));
        }
        fits &= expected.is_allowed() || !want.is_enforced;
    }
    for (key, window) in demands.into_iter().chain(charges.into_iter().filter(|_| fits)) {
        twins[key].window = Some(window);
    }
    fits
}

fn twins() -> Vec<Twin> {
    vec![
        Twin::new("a", &[(6, 6, 100)], false),
        Twin::new("b", &[(9, 9, 150)], false),
        Twin::new("c", &[(4, 4, 30), (20, 20, 400)], false),
        Twin::new("d", &[(5, 5, 60), (9, 9, 200), (30, 30, 900)], false),
        Twin::new("e", &[(8, 12, 100)], true),
        Twin::new("f", &[(5, 5, 70), (20, 30, 500)], true),
    ]
}

/// Two to four limits, with their asks; those of the suppressed strategy are last.
fn random_request(random: &mut fastrand::Rng, among: std::ops::Range<usize>) -> Vec<(Want, Ask)> {
    let mut keys: Vec<usize> = among.collect();
    random.shuffle(&mut keys);
    keys.truncate(random.usize(2..=4));
    keys.sort_by_key(|key| *key >= 4);
    let want = |key: usize| {
        let cost = [0, 1, 1, 1, 2, 3, 10][random.usize(0..7)];
        (Want { key, is_enforced: random.u32(0..5) > 0 }, Ask { cost, random: random.u32(..) })
    };
    keys.into_iter().map(want).collect()
}

#[test]
fn joint_requests_are_charged_to_every_limit_or_to_none() {
    let server = Server::start(Flavor::Debian);
    let (mut connection, mut twins) = (connect(&server), twins());
    let mut random = fastrand::Rng::with_seed(7);
    let (mut now, mut admitted, mut refused) = (DAY, 0, 0);
    for _ in 0..3_000 {
        now += random.u64(0..80) * random.u64(0..3);
        let before = values(&mut connection, &twins);
        // Several requests may share a call.
        let requests: Vec<_> = (0..random.usize(1..4)).map(|_| random_request(&mut random, 0..6)).collect();
        let outcomes = send(&mut connection, &twins, now, &requests);
        let mut is_any_admitted = false;
        for (request, outcomes) in requests.iter().zip(&outcomes) {
            let is_admitted = expect(&mut twins, now, request, outcomes);
            is_any_admitted |= is_admitted;
            *(if is_admitted { &mut admitted } else { &mut refused }) += 1;
        }
        if !is_any_admitted {
            let after = values(&mut connection, &twins);
            assert_eq!(before[..4], after[..4], "refused requests write no charge");
        }
    }
    println!("{admitted} admitted, {refused} refused");
    assert!(admitted > 1_000 && refused > 1_000, "{admitted} admitted, {refused} refused");
}

/// The longest wait of the refusing limits ends exactly when the request fits.
#[test]
fn the_wait_of_a_joint_refusal_is_exact() {
    let server = Server::start(Flavor::Debian);
    let (mut connection, mut twins) = (connect(&server), twins());
    let mut random = fastrand::Rng::with_seed(8);
    let (mut now, mut waits) = (DAY, 0);
    for _ in 0..2_000 {
        now += random.u64(0..60);
        let mut request = random_request(&mut random, 0..4);
        request.iter_mut().for_each(|(want, _)| want.is_enforced = true);
        let mut ask = |now| {
            let outcomes = send(&mut connection, &twins, now, std::slice::from_ref(&request)).remove(0);
            let is_admitted = expect(&mut twins, now, &request, &outcomes);
            let refusals = outcomes.iter().filter(|outcome| !outcome.is_allowed());
            (is_admitted, refusals.map(|refusal| refusal.fits_at).max())
        };
        let (false, Some(fits_at)) = ask(now) else { continue };
        if fits_at == engine::NEVER {
            continue;
        }
        assert!(!ask(fits_at * BUCKET_MS - 1).0, "a tick too early");
        assert!(ask(fits_at * BUCKET_MS).0, "the wait is over");
        (now, waits) = (fits_at * BUCKET_MS, waits + 1);
    }
    assert!(waits > 300, "{waits}");
}

/// With the parts of a request in another order, the same requests are admitted, and the values are equal.
#[test]
fn the_order_of_the_limits_is_irrelevant() {
    let server = Server::start(Flavor::Debian);
    let mut connection = connect(&server);
    let mut twins = twins();
    let mut backwards = self::twins();
    backwards.iter_mut().for_each(|twin| twin.name.push(b'2'));
    let mut random = fastrand::Rng::with_seed(9);
    let mut now = DAY;
    for _ in 0..1_500 {
        now += random.u64(0..80);
        let request = random_request(&mut random, 0..4);
        let reversed: Vec<_> = request.iter().rev().copied().collect();
        let outcomes = send(&mut connection, &twins, now, std::slice::from_ref(&request)).remove(0);
        let mut mirrored = send(&mut connection, &backwards, now, std::slice::from_ref(&reversed)).remove(0);
        let is_admitted = expect(&mut twins, now, &request, &outcomes);
        assert_eq!(expect(&mut backwards, now, &reversed, &mirrored), is_admitted);
        mirrored.reverse();
        assert_eq!(outcomes, mirrored);
        assert_eq!(values(&mut connection, &twins), values(&mut connection, &backwards));
    }
}

/// A limit that is already refused by another has no demand, and a limit that sheds a request has it.
#[test]
fn a_refused_request_is_demand_only_where_it_is_shed() {
    let server = Server::start(Flavor::Debian);
    let (mut connection, mut twins) = (connect(&server), twins());
    let want = |key, cost| (Want { key, is_enforced: true }, Ask { cost, random: 0 });
    let mut ask = |twins: &mut [Twin], request: &[(Want, Ask)]| {
        let outcomes = send(&mut connection, twins, DAY, &[request.to_vec()]).remove(0);
        (expect(twins, DAY, request, &outcomes), values(&mut connection, twins))
    };
    let (is_admitted, before) = ask(&mut twins, &[want(0, 5), want(4, 8)]);
    assert!(is_admitted);
    // The suppressed limit is over its capacity, and the absolute one has no room for the request.
    let (is_admitted, after) = ask(&mut twins, &[want(0, 2), want(4, 5)]);
    assert!(!is_admitted && before == after);
    // Here the suppressed limit sheds it, at its hard cap.
    let (is_admitted, after) = ask(&mut twins, &[want(0, 1), want(4, 5)]);
    assert!(!is_admitted);
    assert_eq!(before[0], after[0], "nothing is charged");
    assert_ne!(before[4], after[4], "the demand is recorded");
}

#[test]
fn a_value_of_another_type_refuses_if_it_is_needed() {
    let server = Server::start(Flavor::Debian);
    let (mut connection, twins) = (connect(&server), twins());
    let _: () = redis::cmd("LPUSH").arg("b").arg("x").query(&mut connection).unwrap();
    for (is_needed, expected) in [(true, None), (false, Some(()))] {
        let ask = JointAsk { ask: Ask { cost: 1, random: 0 }, is_enforced: true, is_needed };
        let policies = [twins[1].policy(), twins[0].policy()];
        let (first, last, time) = (ask.bytes(false), ask.bytes(true), DAY.to_string());
        let args = [time.as_bytes(), policies[0].as_bytes(), &first, policies[1].as_bytes(), &last];
        let answer: Vec<u8> = JOINT.eval(&[b"b", b"a"], args).query(&mut connection).unwrap();
        let reply = read(&answer, 2).unwrap();
        assert!(reply.is_foreign_at(0) && !reply.is_foreign_at(1));
        assert!(reply.outcome(0, ask.ask, &twins[1].limits, DAY / BUCKET_MS).is_none());
        let charged: Option<Vec<u8>> = redis::cmd("GET").arg("a").query(&mut connection).unwrap();
        assert_eq!(charged.map(drop), expected);
    }
}
