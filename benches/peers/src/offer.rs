//! Requests at a steady rate, which do not wait for the answers to earlier ones.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::report::Failure;

/// How long a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answer of a limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Admitted,
    Refused,
    /// An error, or no answer for ten seconds: the limiter decided nothing.
    Failed,
}

impl Answer {
    pub fn of<E>(is_admitted: Result<bool, E>) -> Self {
        match is_admitted {
            Ok(true) => Self::Admitted,
            Ok(false) => Self::Refused,
            Err(_) => Self::Failed,
        }
    }
}

/// A request: when it was sent and answered, in seconds from the start.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub sent: f64,
    pub answered: f64,
    pub answer: Answer,
}

impl Request {
    /// The times of an admission; `None` for other requests.
    pub fn admission(&self) -> Option<(f64, f64)> {
        (self.answer == Answer::Admitted).then_some((self.sent, self.answered))
    }
}

/// An instance of a limiter: asks for one unit of a key.
pub type Instance = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// Offers requests to an instance, evenly spaced, from the start for a time. The offset is a part of their distance.
pub async fn offer(
    instance: Instance,
    per_second: f64,
    offset: f64,
    start: Instant,
    time: Duration,
) -> Result<Vec<Request>, Failure> {
    let mut asked = Vec::new();
    let mut sent = 0_u32;
    tokio::time::sleep_until(start.into()).await;
    while start.elapsed() < time {
        let due = (start.elapsed().as_secs_f64() * per_second + offset) as u32;
        while sent < due {
            sent += 1;
            let ask = instance();
            asked.push(tokio::spawn(async move {
                let sent = start.elapsed().as_secs_f64();
                let answer = tokio::time::timeout(PATIENCE, ask).await.unwrap_or(Answer::Failed);
                Request { sent, answered: start.elapsed().as_secs_f64(), answer }
            }));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut requests = Vec::with_capacity(asked.len());
    for request in asked {
        requests.push(request.await?);
    }
    Ok(requests)
}
