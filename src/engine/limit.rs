//! The arguments of a decision: its limits, and the windows for which to retain history.

use std::sync::atomic::{AtomicU32, Ordering};

use super::word::MOST_WORDS;
use crate::quota::MAX_QUOTAS;

/// One limit of a decision, in units and ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limit {
    /// The most units in the window.
    pub(crate) capacity: u64,
    /// The units that the suppressed strategy never exceeds; at least `capacity`.
    pub(crate) hard: u64,
    /// The window's length.
    pub(crate) window: u32,
    /// How long a unit is held: the window plus the clock's lag.
    pub(crate) span: u32,
    /// The ticks in 200 ms.
    pub(crate) ticks_in_200ms: u32,
}

impl Limit {
    /// The length of the suppressed strategy's fast estimate of the demand, in ticks.
    ///
    /// It covers about 20 arrivals at the limit, but at least min(0.2 s, W/8) and at most W/4.
    pub(crate) fn fast(&self) -> u32 {
        let arrivals = 20 * u64::from(self.window) / self.capacity.max(1);
        let least = self.ticks_in_200ms.min(self.window / 8);
        u32::try_from(arrivals).unwrap_or(u32::MAX).clamp(least, (self.window / 4).max(least)).max(1)
    }

    /// Identifies the limits. FNV-1a is sufficient, because no client chooses them.
    #[cfg(feature = "_redis")]
    #[inline]
    pub(crate) fn digest(limits: &[Self]) -> u64 {
        let parts = limits.iter().flat_map(|limit| [limit.capacity, limit.hard, u64::from(limit.window)]);
        parts.fold(0xcbf2_9ce4_8422_2325, |hash, part| (hash ^ part).wrapping_mul(0x0000_0100_0000_01b3))
    }
}

/// The most spans of a history: those in use, and one that was recently in use and may be again.
const MOST_SPANS: usize = MAX_QUOTAS + 1;

/// The spans for which a key's history is retained: one per distinct window in use under a limit's name.
///
/// A decision with a shorter span looks back less far in the same log.
#[derive(Debug)]
pub(crate) struct Retention {
    keep: AtomicU32,
    spans: [AtomicU32; MOST_SPANS],
    words_per_span: usize,
}

/// Spans in rising order, and how many of them there are.
pub(crate) type Spans = ([u32; MOST_SPANS], usize);

impl Retention {
    /// The words of history per window; coarsening starts beyond this number.
    pub(crate) const WORDS_PER_SPAN: usize = 256;

    pub(crate) fn new(words_per_span: usize) -> Self {
        Self { keep: AtomicU32::new(0), spans: Default::default(), words_per_span: words_per_span.max(4) }
    }

    /// Adds spans. Returns false and adds none if not all of them fit.
    ///
    /// Only one thread may call it at a time.
    #[cfg(any(test, feature = "_redis"))]
    pub(crate) fn widen(&self, spans: &[u32]) -> bool {
        let held = self.spans.each_ref().map(|span| span.load(Ordering::Relaxed));
        let mut widened: Vec<u32> = held.into_iter().filter(|&span| span > 0).chain(spans.iter().copied()).collect();
        widened.sort_unstable();
        widened.dedup();
        if widened.len() > self.spans.len() {
            return false;
        }
        // The retention grows before any decision looks back further.
        self.keep.fetch_max(widened.last().copied().unwrap_or(0), Ordering::Relaxed);
        for (slot, span) in self.spans.iter().zip(widened) {
            slot.store(span, Ordering::Relaxed);
        }
        true
    }

    /// Retains history for exactly these spans from now on. They are distinct, in rising order, and at least one.
    ///
    /// Only one thread may call it at a time. Meanwhile a decision of another thread may see a span twice, or an old
    /// span. It then merges less of the history than it could.
    pub(crate) fn assign(&self, spans: &[u32]) {
        let longest = spans.last().copied().unwrap_or(0);
        // The retention grows before any decision looks back further, and shrinks after the last one that does.
        self.keep.fetch_max(longest, Ordering::Relaxed);
        for (at, slot) in self.spans.iter().enumerate() {
            slot.store(spans.get(at).copied().unwrap_or(0), Ordering::Relaxed);
        }
        self.keep.store(longest, Ordering::Relaxed);
    }

    /// The longest span.
    #[inline]
    pub(crate) fn keep(&self) -> u32 {
        self.keep.load(Ordering::Relaxed)
    }

    /// The most words in a log.
    pub(crate) fn words(&self) -> usize {
        let spans = self.spans.iter().filter(|span| span.load(Ordering::Relaxed) > 0).count();
        (self.words_per_span * spans.max(1)).min(MOST_WORDS)
    }

    /// The distinct spans in rising order, in the first places, and how many there are.
    pub(crate) fn spans(&self) -> Spans {
        let mut spans = self.spans.each_ref().map(|span| span.load(Ordering::Relaxed));
        // While another thread widens, a span may appear twice.
        spans.sort_unstable_by_key(|&span| if span == 0 { u32::MAX } else { span });
        (spans, spans.iter().filter(|&&span| span > 0).count())
    }

    /// The number of cells per span when words merge. The merged words then take at most half of the span's words.
    pub(crate) fn cells_in_a_span(&self) -> u64 {
        (self.words_per_span / 2).saturating_sub(2).max(1) as u64
    }

    /// Returns each span in rising order, with the size of the cell in which words of that age may merge.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (u64, u64)> + Clone {
        let ((spans, count), cells) = (self.spans(), self.cells_in_a_span());
        spans.into_iter().take(count).map(move |span| (u64::from(span), u64::from(span).div_ceil(cells)))
    }
}
