//! What one exact limiter in one place would have admitted of the same requests.

use std::collections::VecDeque;
use std::time::Duration;

/// The arrivals that are admitted of single units, in nanoseconds. Each unit counts for `hold`.
///
/// A test compares with this instead of with the limit, so that a machine that delays the requests changes both.
pub(crate) fn admits(mut arrivals: Vec<u64>, capacity: u64, hold: Duration) -> Vec<u64> {
    arrivals.sort_unstable();
    let hold = u64::try_from(hold.as_nanos()).unwrap();
    let (mut counted, mut admitted) = (VecDeque::new(), Vec::new());
    for now in arrivals {
        while counted.front().is_some_and(|at| at + hold <= now) {
            counted.pop_front();
        }
        if (counted.len() as u64) < capacity {
            counted.push_back(now);
            admitted.push(now);
        }
    }
    admitted
}

#[test]
fn an_exact_limiter_admits_what_fits_each_window() {
    let hold = Duration::from_nanos(100);
    assert_eq!(admits(vec![0, 10, 20, 100, 105, 110], 2, hold), [0, 10, 100, 110]);
    assert_eq!(admits(vec![30, 20, 10], 5, hold), [10, 20, 30]);
}
