//! The tasks that send the batches of a partition.

use std::sync::Arc;

use super::Dispatcher;
use crate::redis::batch::queue::Pending;
use crate::runtime::{self, NoRuntime};

impl Dispatcher {
    /// Starts the loop with this number in the background.
    pub(super) fn start_loop(self: &Arc<Self>, at: usize, number: u64) -> Result<(), NoRuntime> {
        // Dropping it releases the partition, even if it never runs.
        let turns = Loop { dispatcher: Arc::clone(self), at, number };
        runtime::spawn(turns.run())
    }

    /// Sends a batch in the background, beside the one of the loop.
    pub(super) fn send_overflow(self: &Arc<Self>, at: usize, batch: Vec<Pending>) -> Result<(), NoRuntime> {
        let overflow = Overflow { dispatcher: Arc::clone(self), at, batch };
        runtime::spawn(overflow.run())
    }
}

/// A batch beside the one of the loop.
struct Overflow {
    dispatcher: Arc<Dispatcher>,
    at: usize,
    batch: Vec<Pending>,
}

impl Overflow {
    async fn run(mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.dispatcher.serve(self.at, batch).await;
    }
}

impl Drop for Overflow {
    fn drop(&mut self) {
        self.dispatcher.partitions[self.at].queue.end_overflow(std::mem::take(&mut self.batch));
    }
}

/// The loop that serves a partition's queue until the queue is empty.
struct Loop {
    dispatcher: Arc<Dispatcher>,
    at: usize,
    number: u64,
}

impl Loop {
    async fn run(self) {
        // During this time, callers queue up, and their batch grows. Afterwards the next batch goes. Otherwise a round
        // trip of more than half the deadline would leave those callers no time.
        let alone = self.dispatcher.deadline / 8;
        while let Some(batch) = self.dispatcher.partitions[self.at].queue.next(self.number) {
            let (dispatcher, at) = (Arc::clone(&self.dispatcher), self.at);
            let mut flight = Box::pin(async move { dispatcher.serve(at, batch).await });
            let Ok(landed) = runtime::timeout(alone, &mut flight) else { return };
            if landed.await.is_err() {
                let _ = runtime::spawn(flight);
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.dispatcher.partitions[self.at].queue.abandon(self.number);
    }
}
