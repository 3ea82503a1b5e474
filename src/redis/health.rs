//! The state of Redis for the operator: one log line when an outage starts, one when it ends, and metrics.
//!
//! A Redis that flaps does not fill the log. There is at most one pair of lines per [`PAUSE`], and the next line counts
//! the outages without one. If the first failure of an outage does not show its cause, the line waits. The log writes
//! it when the search for the cause ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::transport::Failure;
use crate::telemetry::{self, Notice, RedisWatch};

/// The least time between two lines that report an outage.
const PAUSE: Duration = Duration::from_secs(10);

/// Counts a call that failed.
pub(super) fn count_failure(failure: &Failure) {
    telemetry::count_failure(failure.kind().name());
}

/// The health of one Redis server or cluster.
#[derive(Debug, Default)]
pub(super) struct HealthLog {
    /// The number of open breakers. On a cluster, a dead node opens many, and all of them have one line.
    open: AtomicUsize,
    lines: Mutex<Lines>,
    is_odd: AtomicBool,
    is_forgetful: AtomicBool,
    pub(super) watch: RedisWatch,
}

/// The state that decides which lines are due.
#[derive(Debug, Default)]
struct Lines {
    /// Why Redis is unavailable, during an outage.
    cause: Option<Failure>,
    /// Whether the log has a line for the current outage.
    is_reported: bool,
    /// The state of the search for the cause.
    search: Search,
    /// When the log last reported an outage.
    reported_at: Option<Instant>,
    /// The number of outages since then that have no line.
    unreported: u32,
    /// When the last outage ended.
    ended_at: Option<Instant>,
}

/// The search for the cause of an outage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Search {
    #[default]
    Open,
    UnderWay,
    ExternalConnection,
}

/// A line to log.
#[derive(Debug, PartialEq)]
enum Line {
    Lost(String),
    Back,
}

impl HealthLog {
    /// A breaker opened: calls stop, or on a cluster the calls for some keys.
    pub(super) fn on_open(&self, failure: &Failure) {
        self.watch.breaker_opened();
        let mut lines = self.lines();
        if self.open.fetch_add(1, Ordering::Relaxed) == 0 {
            let line = lines.on_open(failure, Instant::now());
            drop(lines);
            write(line);
        }
    }

    /// A probe failed. Its failure may show the cause, and an outage without a line may be due for one.
    pub(super) fn goes_on(&self, failure: &Failure) {
        let line = self.lines().goes_on(failure, Instant::now());
        write(line);
    }

    /// Whether the caller must look for the cause of the current outage, and then report it with
    /// [`found`](Self::found).
    pub(super) fn seek(&self) -> bool {
        self.lines().seek()
    }

    /// Records the result of the search for the cause.
    pub(super) fn found(&self, failure: &Failure) {
        let line = self.lines().found(failure, Instant::now());
        write(line);
    }

    /// Whether an outage is in progress, or ended within `time`.
    pub(super) fn was_within(&self, time: Duration) -> bool {
        self.open.load(Ordering::Relaxed) > 0 || self.lines().ended_at.is_some_and(|ended| ended.elapsed() < time)
    }

    /// A reply made no sense, or a call could not reach Redis from its context. Neither opens a breaker. Both are
    /// logged once, because they may never end.
    pub(super) fn on_unexpected_reply(&self, failure: &Failure) {
        if !self.is_odd.swap(true, Ordering::Relaxed) {
            telemetry::report(Notice::RedisOdd, &format!("{}; logged once: {failure:#}", Notice::RedisOdd));
        }
    }

    /// Redis has lost charges of some instances. The line appears once, because the loss may affect many keys.
    #[cold]
    pub(super) fn forgot(&self) {
        if !self.is_forgetful.swap(true, Ordering::Relaxed) {
            telemetry::report(Notice::RedisForgot, &format!("{}; logged once", Notice::RedisForgot));
        }
    }

    /// A breaker closed.
    pub(super) fn on_close(&self) {
        self.watch.breaker_closed();
        let mut lines = self.lines();
        if self.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            let written = lines.on_close(Instant::now());
            drop(lines);
            written.into_iter().for_each(write);
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(line: Option<Line>) {
    match line {
        Some(Line::Lost(text)) => telemetry::report(Notice::RedisLost, &text),
        Some(Line::Back) => telemetry::report(Notice::RedisBack, &Notice::RedisBack.to_string()),
        None => {}
    }
}

impl Lines {
    fn on_open(&mut self, failure: &Failure, now: Instant) -> Option<Line> {
        self.cause = Some(failure.clone());
        self.is_reported = false;
        self.search = if failure.is_vague() { Search::Open } else { Search::ExternalConnection };
        self.report(now)
    }

    fn goes_on(&mut self, failure: &Failure, now: Instant) -> Option<Line> {
        let cause = self.cause.as_mut().filter(|_| !self.is_reported)?;
        if cause.is_vague() && !failure.is_vague() {
            *cause = failure.clone();
            self.search = Search::ExternalConnection;
        }
        self.report(now)
    }

    fn seek(&mut self) -> bool {
        let is_wanted = self.cause.is_some() && !self.is_reported && self.search == Search::Open;
        if is_wanted {
            self.search = Search::UnderWay;
        }
        is_wanted
    }

    fn found(&mut self, failure: &Failure, now: Instant) -> Option<Line> {
        // The outage may have ended, and another may have begun without a search.
        if self.search != Search::UnderWay {
            return None;
        }
        self.search = Search::ExternalConnection;
        self.goes_on(failure, now)
    }

    /// Returns the line of an outage, unless it has one, or the last line is too recent.
    fn report(&mut self, now: Instant) -> Option<Line> {
        let is_due = self.reported_at.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        let cause =
            self.cause.as_ref().filter(|_| is_due && !self.is_reported && self.search == Search::ExternalConnection)?;
        let others = match self.unreported {
            0 => String::new(),
            count => format!(" ({count} more short outages since the last line)"),
        };
        let text = format!("{}{others}: {cause:#}", Notice::RedisLost);
        (self.is_reported, self.reported_at, self.unreported) = (true, Some(now), 0);
        Some(Line::Lost(text))
    }

    fn on_close(&mut self, now: Instant) -> [Option<Line>; 2] {
        self.search = Search::ExternalConnection;
        let lost = self.report(now);
        let back = self.is_reported.then_some(Line::Back);
        if !self.is_reported {
            self.unreported = self.unreported.saturating_add(1);
        }
        (self.cause, self.ended_at) = (None, Some(now));
        [lost, back]
    }
}

#[cfg(test)]
mod tests;
