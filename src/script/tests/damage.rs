//! A key contains a value that no limit wrote. Only that key is affected.

use super::*;

/// A call on three keys, of which the second is damaged, with one quota or two, and with or without leases.
struct Call {
    server: redis::Connection,
    mode: Mode,
    interval_ms: u32,
    limits: Vec<Limit>,
    /// The lease of the second key.
    lent: u64,
}

const NAMES: [&[u8]; 3] = [b"good:a", b"bad", b"good:b"];
const NOW: u64 = DAY;

/// The replies to a key's two asks.
#[derive(Debug, PartialEq)]
enum Answer {
    Foreign,
    Decided([bool; 2]),
}

impl Call {
    fn all(server: &Server) -> impl Iterator<Item = Self> {
        let limit =
            |capacity, window| Limit { capacity, hard: capacity * 3 / 2, window, span: window, ticks_in_200ms: 20 };
        let (one, two) = (vec![limit(1_000, 100)], vec![limit(1_000, 100), limit(5_000, 1_000)]);
        [
            (Mode::Absolute, 0, &one),
            (Mode::Absolute, 50, &one),
            (Mode::Suppressed, 0, &two),
            (Mode::Suppressed, 50, &one),
        ]
        .map(|(mode, interval_ms, limits)| Self {
            server: connect(server),
            mode,
            interval_ms,
            limits: limits.clone(),
            lent: 0,
        })
        .into_iter()
    }

    fn make(&mut self) -> [Answer; 3] {
        let horizon = Retention::new(Retention::WORDS_PER_SPAN);
        assert!(horizon.widen(&self.limits.iter().map(|limit| limit.span).collect::<Vec<_>>()));
        let lending = Lending { interval_ms: self.interval_ms, tolerance: 0.0 };
        let policy = EncodedPolicy::lend(10, &horizon, self.mode, &self.limits, lending);
        let asks = [Ask { cost: 1, random: 7 }; 2];
        let id = LeaseId { nonce: 3, counter: 4 };
        let part =
            SyncRequest { id, expected: 0, proposed: 9, rate: 0.5, shed_units: 1, wants: true, reports: Vec::new() };
        let mut body = Vec::new();
        match self.interval_ms {
            0 => asks.iter().for_each(|ask| ask.write(&mut body)),
            _ => body.extend_from_slice(&part.bytes(&asks)),
        }
        let time = NOW.to_string();
        let args = [policy.as_bytes(), time.as_bytes(), &body, &body, &body];
        let answer: Vec<u8> = DECIDE.eval(&NAMES, args).query(&mut self.server).unwrap();
        let each = 2 * ScriptReply::RECORD + if self.interval_ms > 0 { SyncReply::BYTES } else { 0 };
        [0, 1, 2].map(|key| {
            if ScriptReply::is_foreign(&answer, key * each) {
                return Answer::Foreign;
            }
            let answered = ScriptReply::read(&answer, 3 * each, key * each..(key + 1) * each).unwrap();
            if self.interval_ms > 0 {
                let limits = self.limits.len();
                let reply = answered.behind(2).and_then(|reply| SyncReply::read(reply, limits)).unwrap();
                if key == 1 {
                    self.lent = reply.units;
                }
            }
            Answer::Decided(
                [0, 1].map(|at| answered.outcome(at, asks[at], &self.limits, NOW / 10).unwrap().is_allowed()),
            )
        })
    }

    fn run(&mut self, command: &str, args: &[&[u8]]) -> redis::Value {
        let mut built = redis::cmd(command);
        args.iter().for_each(|arg| {
            built.arg(*arg);
        });
        built.query(&mut self.server).unwrap()
    }

    fn ttl(&mut self) -> i64 {
        redis::cmd("PTTL").arg(NAMES[1]).query(&mut self.server).unwrap()
    }
}

#[test]
fn a_value_of_another_type_fails_its_key_alone() {
    let server = Server::start(Flavor::Debian);
    for mut call in Call::all(&server) {
        call.run("FLUSHALL", &[]);
        call.run("RPUSH", &[NAMES[1], b"x"]);
        for _ in 0..3 {
            let [a, bad, b] = call.make();
            assert_eq!([a, b], [const { Answer::Decided([true; 2]) }; 2]);
            assert_eq!(bad, Answer::Foreign);
        }
        assert_eq!(call.run("LLEN", &[NAMES[1]]), redis::Value::Int(1), "no call changes the foreign value");
        call.run("DEL", &[NAMES[1]]);
        assert_eq!(call.make()[1], Answer::Decided([true; 2]));
    }
}

#[test]
fn a_string_that_no_limit_wrote_is_replaced_and_ends() {
    let server = Server::start(Flavor::Debian);
    for mut call in Call::all(&server) {
        for value in [&b"hello"[..], b"", &[0xff; 36], &[0; 36], &[0; 35], &[0xff; 900]] {
            call.run("FLUSHALL", &[]);
            call.run("SET", &[NAMES[1], value]);
            assert_eq!(call.make(), [const { Answer::Decided([true; 2]) }; 3], "{value:?}");
            assert!(call.ttl() > 0, "{value:?} without a time to live");
        }
    }
}

/// The position of the first lease's last tick, in a value without a part of the suppressed strategy.
const LAST_TICK: std::ops::Range<usize> = 48..54;

/// A lease with an impossible end would hold its units, and the key, for years.
#[test]
fn a_lease_that_ends_in_the_far_future_is_dropped() {
    let server = Server::start(Flavor::Debian);
    let mut call = Call::all(&server).nth(1).unwrap();
    call.make();
    assert!(call.lent > 0);
    let redis::Value::BulkString(mut value) = call.run("GET", &[NAMES[1]]) else { panic!("the key has no value") };
    value[LAST_TICK].copy_from_slice(&(NOW / 10 + (1 << 40)).to_le_bytes()[..6]);
    call.run("SET", &[NAMES[1], &value]);
    assert_eq!(call.make()[1], Answer::Decided([true; 2]));
    assert!((1..60_000).contains(&call.ttl()), "it lives for {} ms", call.ttl());
}

/// The value may be anything, for example one of ours with a missing or changed byte. No call fails because of it, the
/// other keys are decided, and the value expires.
#[test]
fn no_garbage_fails_a_call() {
    let server = Server::start(Flavor::Debian);
    let mut random = fastrand::Rng::with_seed(5);
    for mut call in Call::all(&server) {
        call.run("FLUSHALL", &[]);
        for _ in 0..6 {
            call.make();
        }
        let redis::Value::BulkString(ours) = call.run("GET", &[NAMES[1]]) else { panic!("the key has no value") };
        for step in 0..600 {
            let mut value = ours.clone();
            match random.u32(0..5) {
                0 => value.truncate(random.usize(0..value.len())),
                1 => value.extend((0..random.usize(1..40)).map(|_| random.u8(..))),
                2 => value = (0..random.usize(0..200)).map(|_| random.u8(..)).collect(),
                3 => {
                    // A header with correct lengths, and random other content.
                    let (words, leases) = (random.u8(0..40), random.u8(0..4));
                    let shed = [0, 17, 121][random.usize(0..3)];
                    value = (0..36 + shed + 27 * usize::from(leases) + 9 * usize::from(words))
                        .map(|_| random.u8(..))
                        .collect();
                    value[8..12].copy_from_slice(&[shed as u8, 0, leases, 0]);
                    value[34..36].copy_from_slice(&[words, 0]);
                    value[0..4].copy_from_slice(&[10, 0, 0, 0]);
                    if random.bool() {
                        value[4..8].copy_from_slice(&ours[4..8]);
                        value[16..22].copy_from_slice(&ours[16..22]);
                    }
                }
                _ => {
                    for _ in 0..random.usize(1..6) {
                        let at = random.usize(0..value.len());
                        value[at] = [0, 0xff, random.u8(..)][random.usize(0..3)];
                    }
                }
            }
            call.run("DEL", &[NAMES[0], NAMES[2]]);
            call.run("SET", &[NAMES[1], &value]);
            let [a, bad, b] = call.make();
            assert_eq!([a, b], [const { Answer::Decided([true; 2]) }; 2], "step {step}: {value:?}");
            assert!(matches!(bad, Answer::Decided(_)), "step {step}: {value:?}");
        }
    }
}
