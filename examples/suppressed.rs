//! Three times more requests than the limit, decided by both strategies side by side.
//!
//! ```text
//! cargo run --example suppressed            # prints one line a second, and ends by itself after 10 seconds
//! ```
//!
//! Both hold 100 requests per second on average over a window of 2 seconds. The absolute strategy lets the
//! burst in at once and is then closed until it has left the window. The suppressed strategy thins the
//! stream: every request has the same chance, and none has to wait for a whole window.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tower_weir::{Decision, HardLimitFactor, RateLimit, RateLimiter, WindowSizeSeconds};

const LIMIT_PER_SECOND: f64 = 100.0;
const OFFERED_PER_SECOND: u32 = 300;
const SECONDS: u32 = 10;

/// What became of the requests of one strategy.
#[derive(Default)]
struct Tally {
    admitted: u32,
    refused: u32,
    last_admission: Duration,
    longest_silence: Duration,
}

impl Tally {
    fn count(&mut self, decision: &Decision, now: Duration) {
        if decision.is_allowed() {
            self.admitted += 1;
            self.longest_silence = self.longest_silence.max(now - self.last_admission);
            self.last_admission = now;
        } else {
            self.refused += 1;
        }
    }

    fn take(&mut self) -> (u32, u32) {
        (std::mem::take(&mut self.admitted), std::mem::take(&mut self.refused))
    }
}

fn main() -> Result<(), tower_weir::ConfigError> {
    let limiter = RateLimiter::builder()
        .window_size_seconds(WindowSizeSeconds::try_from(2)?)
        .hard_limit_factor(HardLimitFactor::try_from(1.5)?) // never above 1.5 x 200 in any 2 seconds
        .build()?;
    let rate = RateLimit::try_from(LIMIT_PER_SECOND)?; // 200 in any 2 seconds

    println!("offered {OFFERED_PER_SECOND}/s, limit {LIMIT_PER_SECOND}/s, window 2 s");
    println!("          absolute            suppressed");
    println!("second    admitted rejected   admitted   shed   factor");
    let (mut cut, mut thinned) = (Tally::default(), Tally::default());
    let start = Instant::now();
    for second in 1..=SECONDS {
        let mut factor = 0.0;
        for nth in 0..OFFERED_PER_SECOND {
            let due = Duration::from_secs(1) * ((second - 1) * OFFERED_PER_SECOND + nth) / OFFERED_PER_SECOND;
            sleep(due.saturating_sub(start.elapsed()));

            let decision = limiter.local().absolute().decide("cut", &rate, 1);
            cut.count(&decision, due);
            let decision = limiter.local().suppressed().decide("thinned", &rate, 1);
            thinned.count(&decision, due);
            factor = decision.suppression_factor();
        }
        let ((admitted, rejected), (passed, shed)) = (cut.take(), thinned.take());
        println!("{second:>6} {admitted:>11} {rejected:>8} {passed:>10} {shed:>6} {factor:>8.2}");
    }
    println!(
        "longest time without an admission: absolute {} ms, suppressed {} ms",
        cut.longest_silence.as_millis(),
        thinned.longest_silence.as_millis()
    );
    Ok(())
}
