//! The encoding of script arguments and replies.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::lease_id::LeaseId;
use crate::correction::RateLimitComparator;
use crate::decision::Verdict;
use crate::engine::{Limit, NEVER, Outcome, Retention, SetMode, factor_in_band, retry_tick};

/// The effect of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The absolute strategy.
    Absolute = 0,
    /// The absolute strategy, without a charge.
    Peek = 1,
    /// The suppressed strategy.
    Suppressed = 2,
    /// The suppressed strategy's factor.
    Factor = 3,
}

/// The parameters of leases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lending {
    /// The longest time between two syncs of a key in use; 0 for no leases.
    pub(crate) interval_ms: u32,
    /// The part by which the limits may be exceeded. Their capacities already include it.
    pub(crate) tolerance: f64,
}

/// One cost of one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) cost: u64,
    /// Uniform. The scripts draw no random numbers, because some servers use the same seed each time.
    pub(crate) random: u32,
}

impl Ask {
    /// The length of an ask.
    pub(crate) const BYTES: usize = 9;

    /// Appends the ask. Costs above 2^39 fit no limit, so their exact value is irrelevant.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        put(out, self.cost.min(MOST_UNITS), 5);
        put(out, u64::from(self.random), 4);
    }
}

/// The largest number of units in a message.
pub(super) const MOST_UNITS: u64 = (1 << 40) - 1;
/// The largest tick in a message; in a reply it means never.
pub(super) const MOST_TICK: u64 = (1 << 48) - 1;

/// The first argument of a call: the window's shape, then what the call itself needs.
///
/// Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EncodedPolicy {
    bytes: Arc<[u8]>,
    weight: usize,
}

impl EncodedPolicy {
    /// The argument of a decision.
    pub(crate) fn decide(bucket_ms: u64, horizon: &Retention, mode: Mode, limits: &[Limit]) -> Self {
        Self::lend(bucket_ms, horizon, mode, limits, Lending { interval_ms: 0, tolerance: 0.0 })
    }

    /// The argument of a decision that gives leases.
    pub(crate) fn lend(bucket_ms: u64, horizon: &Retention, mode: Mode, limits: &[Limit], lending: Lending) -> Self {
        let plain = match (mode, limits) {
            (Mode::Absolute | Mode::Suppressed, [limit])
                if lending.interval_ms == 0 && limit.span == longest(horizon) =>
            {
                Plain { capacity: limit.capacity, refusals: mode == Mode::Absolute }
            }
            _ => Plain::default(),
        };
        let mut out = shape(bucket_ms, horizon, plain);
        out.extend([mode as u8, limits.len() as u8]);
        put(&mut out, u64::from(lending.interval_ms), 4);
        put(&mut out, lending.tolerance.to_bits(), 8);
        for limit in limits {
            put(&mut out, limit.capacity, 5);
            put(&mut out, limit.hard, 5);
            for ticks in [limit.window, limit.span, limit.fast()] {
                put(&mut out, u64::from(ticks), 4);
            }
        }
        // Measured: the suppressed strategy takes about twice as long, and each further limit as long as the first.
        let of_strategy = if matches!(mode, Mode::Suppressed | Mode::Factor) { 2 } else { 1 };
        Self { bytes: out.into(), weight: of_strategy * limits.len().max(1) }
    }

    /// The argument of a correction.
    pub(crate) fn correct(bucket_ms: u64, horizon: &Retention, span: u32, correction: Correction) -> Self {
        let mut out = operation(bucket_ms, horizon, span, correction.operation());
        match correction {
            Correction::Set { comparator, count, mode } => {
                let (comparator, operand) = match comparator {
                    RateLimitComparator::Eq(operand) => (0, operand),
                    RateLimitComparator::Lt(operand) => (1, operand),
                    RateLimitComparator::Gt(operand) => (2, operand),
                    RateLimitComparator::Ne(operand) => (3, operand),
                    RateLimitComparator::Always => (4, 0),
                };
                out.push(comparator);
                put(&mut out, operand.min(MOST_TICK), 6);
                put(&mut out, count.min(crate::quota::MAX_CAPACITY), 5);
                let (units, age) = match mode {
                    SetMode::Replace { age } => (0, age),
                    SetMode::Newest => (1, 0),
                    SetMode::Oldest => (2, 0),
                };
                out.push(units);
                put(&mut out, u64::from(age), 4);
            }
            Correction::Refund { stamp, units } => {
                put(&mut out, stamp.min(MOST_TICK), 6);
                put(&mut out, units.min(MOST_UNITS), 5);
            }
            Correction::Hold { id, life_ms, stamp, units } => {
                put_id(&mut out, id);
                put(&mut out, u64::from(life_ms), 4);
                put(&mut out, stamp.min(MOST_TICK), 6);
                put(&mut out, units.min(MOST_UNITS), 5);
            }
            Correction::Delete => {}
        }
        Self::light(out)
    }

    /// The argument of a correction that charges past units, with at most 255 entries, oldest first.
    pub(crate) fn charge(
        bucket_ms: u64,
        horizon: &Retention,
        span: u32,
        entries: impl IntoIterator<Item = (Duration, u64)>,
    ) -> Self {
        let mut out = operation(bucket_ms, horizon, span, CHARGE);
        put_entries(&mut out, entries);
        Self::light(out)
    }

    /// The argument of a correction that ends a reservation: it keeps the spent units, with at most 255 entries, oldest
    /// first, and frees the rest.
    pub(crate) fn commit(
        bucket_ms: u64,
        horizon: &Retention,
        span: u32,
        id: LeaseId,
        entries: impl IntoIterator<Item = (Duration, u64)>,
    ) -> Self {
        let mut out = operation(bucket_ms, horizon, span, COMMIT);
        put_id(&mut out, id);
        put_entries(&mut out, entries);
        Self::light(out)
    }

    /// The argument of a correction that takes units from their ticks and charges `units` now. The entries are in the
    /// order of their ticks, and at most 65 535.
    pub(crate) fn renew(bucket_ms: u64, horizon: &Retention, units: u64, entries: &[(u64, u64)]) -> Self {
        let mut out = shape(bucket_ms, horizon, Plain::default());
        let entries = &entries[..entries.len().min(usize::from(u16::MAX))];
        out.reserve(16 + 11 * entries.len());
        out.push(RENEW);
        put(&mut out, u64::from(longest(horizon)), 4);
        put(&mut out, units.min(MOST_UNITS), 5);
        put(&mut out, entries.len() as u64, 2);
        for (stamp, units) in entries {
            put(&mut out, (*stamp).min(MOST_TICK), 6);
            put(&mut out, (*units).min(MOST_UNITS), 5);
        }
        Self::light(out)
    }

    /// A policy whose calls are never batched.
    fn light(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), weight: 1 }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// An order in which equal policies are neighbours. Policies that share their bytes are not read.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        match Arc::ptr_eq(&self.bytes, &other.bytes) {
            true => Ordering::Equal,
            false => self.bytes.cmp(&other.bytes),
        }
    }

    /// How long the script takes for one ask under this policy, relative to the absolute strategy with one limit.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }
}

/// The operations of [`EncodedPolicy::charge`] and [`EncodedPolicy::renew`]; [`Correction::operation`] has the others.
const CHARGE: u8 = 3;
/// The operation of [`EncodedPolicy::commit`].
const COMMIT: u8 = 5;
/// The operation of [`EncodedPolicy::renew`].
const RENEW: u8 = 6;

/// The beginning of a correction's argument.
fn operation(bucket_ms: u64, horizon: &Retention, span: u32, operation: u8) -> Vec<u8> {
    let mut out = shape(bucket_ms, horizon, Plain::default());
    out.push(operation);
    put(&mut out, u64::from(span), 4);
    out
}

/// Appends spent units with their ages.
fn put_entries(out: &mut Vec<u8>, entries: impl IntoIterator<Item = (Duration, u64)>) {
    let count_at = out.len();
    out.push(0);
    for (age, units) in entries.into_iter().take(usize::from(u8::MAX)) {
        out[count_at] += 1;
        put(out, crate::time::millis(age).min(u64::from(u32::MAX)), 4);
        put(out, units.min(MOST_UNITS), 5);
    }
}

/// A change of a key other than a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Correction {
    Set {
        comparator: RateLimitComparator,
        count: u64,
        mode: SetMode,
    },
    Refund {
        stamp: u64,
        units: u64,
    },
    /// Reserves the units of a decision, for as long as they may be spent.
    Hold {
        id: LeaseId,
        life_ms: u32,
        stamp: u64,
        units: u64,
    },
    Delete,
}

impl Correction {
    fn operation(self) -> u8 {
        match self {
            Self::Set { .. } => 0,
            Self::Refund { .. } => 1,
            Self::Delete => 2,
            Self::Hold { .. } => 4,
        }
    }
}

/// The reply to a correction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CorrectionReply {
    /// Whether the correction was applied; for a deletion, whether the key was known.
    pub(crate) done: bool,
    pub(crate) before: u64,
    /// The units live afterwards; after [`Correction::Hold`], the reserved units.
    pub(crate) after: u64,
    /// The tick of the newest unit.
    pub(crate) newest: u64,
}

impl CorrectionReply {
    pub(crate) fn read(answer: &[u8]) -> Option<Self> {
        let mut reader = Reader(answer);
        let (done, before, after) = (reader.number(1)? == 1, reader.number(5)?, reader.number(5)?);
        Some(Self { done, before, after, newest: reader.number(6)? })
    }
}

/// The reply to a call of the decide script: one record per ask, and the server's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScriptReply<'a> {
    pub(crate) now_ms: u64,
    records: &'a [u8],
}

impl<'a> ScriptReply<'a> {
    /// The length of the reply to one ask, in bytes.
    pub(crate) const RECORD: usize = 33;

    /// The byte that fills the replies of a key with a value of another type.
    const FOREIGN: u8 = 0xff;

    /// Whether a key holds a value of another type. The key's replies begin at `at`.
    pub(crate) fn is_foreign(answer: &[u8], at: usize) -> bool {
        answer.get(at) == Some(&Self::FOREIGN)
    }

    /// Reads a part of a reply with `total` bytes before the time; returns `None` if the length differs.
    pub(crate) fn read(answer: &'a [u8], total: usize, part: Range<usize>) -> Option<Self> {
        let (records, time) = answer.split_at_checked(total)?;
        if time.len() != size_of::<f64>() {
            return None;
        }
        Some(Self { now_ms: Reader(time).double()? as u64, records: records.get(part)? })
    }

    /// Whether the key of the ask with this index holds a value of another type.
    pub(crate) fn is_foreign_at(&self, index: usize) -> bool {
        Self::is_foreign(self.records, index * Self::RECORD)
    }

    /// Returns the bytes that follow the replies to `asks` requests.
    pub(crate) fn behind(&self, asks: usize) -> Option<&'a [u8]> {
        self.records.get(asks * Self::RECORD..)
    }

    /// Returns the outcome of the ask with this index; `now` is the tick of the reply's time.
    pub(crate) fn outcome(&self, index: usize, ask: Ask, limits: &[Limit], now: u64) -> Option<Outcome> {
        let mut reader = Reader(self.records.get(index * Self::RECORD..(index + 1) * Self::RECORD)?);
        let verdict = reader.number(1)?;
        let (used, newest) = (reader.number(5)?, reader.number(6)?);
        let (binding, violated) = (reader.number(1)? as u8, reader.number(1)? as u8);
        let fits_at = reader.tick()?;
        let (used_then, ratio) = (reader.number(5)?, reader.double()?);
        let used_then = if fits_at == 0 { used } else { used_then };
        let (verdict, factor, fits_at) = match verdict {
            0 => (Verdict::Allowed, 0.0, fits_at),
            1 => (Verdict::Rejected, 0.0, fits_at),
            2 => (Verdict::Suppressed { is_allowed: true }, factor_in_band(ratio), fits_at),
            3 => {
                let limit = limits.get(usize::from(binding))?;
                let fits_at = retry_tick(now.max(newest), ask.cost, limit, fits_at, ask.random);
                (Verdict::Suppressed { is_allowed: false }, factor_in_band(ratio), fits_at)
            }
            4 => (Verdict::Suppressed { is_allowed: false }, 1.0, fits_at),
            _ => return None,
        };
        Some(Outcome { verdict, binding, violated, factor, used, newest, fits_at, used_then })
    }

    /// The suppression factor, 0 to 1, from a reply in the mode [`Mode::Factor`].
    pub(crate) fn factor(&self, index: usize) -> Option<f64> {
        let ratio = self.records.get((index + 1) * Self::RECORD - 8..)?;
        Reader(ratio).double().map(|ratio| 1.0 - ratio)
    }
}

/// The longest span of a history.
fn longest(horizon: &Retention) -> u32 {
    let (spans, count) = horizon.spans();
    spans[..count].last().copied().unwrap_or(0)
}

/// The decisions that `plain.lua` makes.
#[derive(Clone, Copy, Default)]
struct Plain {
    /// The capacity under which admissions are plain; 0 for none.
    capacity: u64,
    /// Whether refusals are plain too.
    refusals: bool,
}

/// The part of the first argument that is common to all calls.
fn shape(bucket_ms: u64, horizon: &Retention, plain: Plain) -> Vec<u8> {
    let (spans, count) = horizon.spans();
    let longest = u64::from(longest(horizon));
    let mut out = Vec::with_capacity(128);
    put(&mut out, bucket_ms, 4);
    put(&mut out, longest, 4);
    put(&mut out, 0, 8);
    put(&mut out, horizon.words() as u64, 2);
    put(&mut out, plain.capacity, 5);
    put(&mut out, u64::from(plain.refusals), 1);
    // Digits, because the script cannot convert a number to text quickly.
    let life = ((longest + longest / 8 + 3) * bucket_ms).to_string();
    out.push(life.len() as u8);
    out.extend_from_slice(life.as_bytes());
    put(&mut out, horizon.cells_in_a_span(), 2);
    out.push(count as u8);
    for span in &spans[..count] {
        put(&mut out, u64::from(*span), 4);
    }
    out
}

/// Appends the low bytes of a number, in little endian.
pub(super) fn put(out: &mut Vec<u8>, number: u64, bytes: usize) {
    out.extend_from_slice(&number.to_le_bytes()[..bytes]);
}

pub(super) fn put_id(out: &mut Vec<u8>, id: LeaseId) {
    put(out, id.nonce, 8);
    put(out, u64::from(id.counter), 4);
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn number(&mut self, bytes: usize) -> Option<u64> {
        let (head, rest) = self.0.split_at_checked(bytes)?;
        let mut number = [0; 8];
        number.get_mut(..bytes)?.copy_from_slice(head);
        self.0 = rest;
        Some(u64::from_le_bytes(number))
    }

    /// Reads a tick, which may be never.
    pub(super) fn tick(&mut self) -> Option<u64> {
        self.number(6).map(|tick| if tick == MOST_TICK { NEVER } else { tick })
    }

    pub(super) fn double(&mut self) -> Option<f64> {
        self.number(8).map(f64::from_bits)
    }
}
