//! How many calls took how long, without an allocation while it counts.

use std::time::Duration;

const CLASSES: usize = 32;

/// 32 classes for each doubling, in nanoseconds, so a quantile is at most 3 % too high. The longest is exact.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    longest: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        // Not zeros at first: their pages would come into memory only while the histogram counts.
        let mut counts = vec![1; 60 * CLASSES];
        counts.fill(0);
        Self { counts, longest: Duration::ZERO }
    }
}

impl Histogram {
    #[inline]
    pub fn note(&mut self, latency: Duration) {
        let nanos = latency.as_nanos() as u64;
        // Below 32 ns, each nanosecond is a class.
        let shift = (nanos | 32).ilog2() - 5;
        let class = shift as usize * CLASSES + (nanos >> shift) as usize;
        self.counts[class] += 1;
        self.longest = self.longest.max(latency);
    }

    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, other)| *own += other);
        self.longest = self.longest.max(other.longest);
    }

    pub fn calls(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn longest(&self) -> f64 {
        self.longest.as_nanos() as f64
    }

    /// The time within which this part of the calls ended, in nanoseconds.
    pub fn quantile(&self, part: f64) -> f64 {
        let rank = ((self.calls() as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let class = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        let class = class.unwrap_or(0);
        let shift = (class / CLASSES).saturating_sub(1);
        let top = ((class - shift * CLASSES + 1) as u64) << shift;
        (top as f64).min(self.longest().max(1.0))
    }
}
