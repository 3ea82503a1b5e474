use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_timer::Delay;

use crate::time::TimeSource;

/// The longest time until the next look at the clock. A suspended machine may delay a timer, and a timer's own clock
/// ends somewhere.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Sleeps until an instant of a clock, on any runtime. It ends at once if the instant has passed.
pub(crate) struct Sleep {
    time: TimeSource,
    until_ms: u64,
    timer: Option<Delay>,
}

impl Sleep {
    pub(crate) fn until(time: &TimeSource, until_ms: u64) -> Self {
        Self { time: time.clone(), until_ms, timer: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.time.now_ms() >= self.until_ms {
                return Poll::Ready(());
            }
            if self.time.wake_when_moved(cx.waker()) {
                // The clock may have moved before the registration.
                return if self.time.now_ms() >= self.until_ms { Poll::Ready(()) } else { Poll::Pending };
            }
            let rest = Duration::from_millis(self.until_ms.saturating_sub(self.time.now_ms()).max(1)).min(LONGEST);
            let timer = self.timer.get_or_insert_with(|| Delay::new(rest));
            if Pin::new(timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            // A timer may fire early by this clock.
            self.timer = None;
        }
    }
}
