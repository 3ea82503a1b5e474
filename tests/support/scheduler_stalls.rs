//! How late an answer may be on a machine that does other things as well.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// No call takes longer where the process is not kept from running.
const LATEST: Duration = Duration::from_secs(2);

/// The longest that a thread of this process, which only sleeps, was kept from running, in milliseconds.
static STALLED: AtomicU64 = AtomicU64::new(0);

/// The longest that a call may take, save for what the whole process stood still.
pub(crate) fn latest() -> Duration {
    LATEST + Duration::from_millis(STALLED.load(Ordering::Relaxed))
}

/// Watches for times in which the machine runs nothing of this process.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    const STEP: Duration = Duration::from_millis(10);
    ONCE.call_once(|| {
        thread::spawn(|| {
            loop {
                let began = Instant::now();
                thread::sleep(STEP);
                let late = began.elapsed().saturating_sub(STEP).as_millis();
                STALLED.fetch_max(u64::try_from(late).unwrap(), Ordering::Relaxed);
            }
        });
    });
}
