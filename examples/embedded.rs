//! The engine alone, without HTTP, Tower or a runtime: a mail queue that limits what it sends.
//!
//! ```text
//! cargo run --example embedded --no-default-features
//! ```
//!
//! Time comes from a [`ManualClock`], as in a test, so the program ends at once. Only the last line varies by a few:
//! the suppressed strategy draws at random.

use std::time::Duration;

use tower_weir::{
    HardLimitFactor, ManualClock, RateLimit, RateLimitComparator, RateLimitDecision, RateLimiter, WindowSizeSeconds,
};

fn main() -> Result<(), tower_weir::ConfigError> {
    let clock = ManualClock::new();
    let limiter = RateLimiter::builder()
        .window_size_seconds(WindowSizeSeconds::try_from(10)?)
        .hard_limit_factor(HardLimitFactor::try_from(1.5)?)
        .clock(clock.clone())
        .build()?;

    // Absolute: 0.5/s over 10 s is 5 in any 10 seconds. A mail costs its recipients; all or none.
    let rate = RateLimit::try_from(0.5)?;
    let mails = limiter.local().absolute();
    for recipients in [2, 2, 2, 1] {
        match mails.inc("example.org", &rate, recipients) {
            RateLimitDecision::Allowed => println!("{recipients} recipients: sent"),
            RateLimitDecision::Rejected { retry_after_ms, .. } => {
                println!("{recipients} recipients: wait {retry_after_ms} ms");
            }
            RateLimitDecision::Suppressed { .. } => unreachable!("only the suppressed strategy does this"),
        }
    }

    // A retry after exactly that long is admitted.
    if let Some(wait) = mails.is_allowed("example.org", &rate).retry_after() {
        clock.advance(wait);
        assert!(mails.inc("example.org", &rate, 1).is_allowed());
        println!("{} s later: sent", wait.as_secs_f64());
    }

    // What a previous run had used: set it, unless somebody counted in the meantime.
    let restored = mails.set_if("example.net", &rate, RateLimitComparator::Eq(0), 4);
    println!("restored: {} -> {} of 5 used", restored.previous_total, restored.current_total);
    let again = mails.set_if("example.net", &rate, RateLimitComparator::Eq(0), 4);
    println!("restored again: {}", if again.matched { "yes" } else { "no, it is no longer 0" });

    // A rate is an argument: twice the rate applies to the same history at once.
    let double = RateLimit::try_from(1.0)?;
    println!("5 more at twice the rate: {:?}", mails.inc("example.net", &double, 5));

    // Suppressed: 20/s over 10 s is 200; almost three times as much is offered for a minute.
    let rate = RateLimit::try_from(20.0)?;
    let (mut admitted, mut shed) = (0_u32, 0_u32);
    for _ in 0..60 * 60 {
        clock.advance(Duration::from_millis(17));
        match limiter.local().suppressed().inc("newsletter", &rate, 1) {
            RateLimitDecision::Allowed | RateLimitDecision::Suppressed { is_allowed: true, .. } => admitted += 1,
            RateLimitDecision::Suppressed { is_allowed: false, .. } => shed += 1,
            RateLimitDecision::Rejected { .. } => unreachable!("only the absolute strategy does this"),
        }
    }
    let factor = limiter.local().suppressed().get_suppression_factor("newsletter", &rate);
    println!("newsletter: in 61 s at 20/s {admitted} of {} sent, factor now {factor:.2}", admitted + shed);
    Ok(())
}
