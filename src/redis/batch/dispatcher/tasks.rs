//! The tasks that send the batches of a partition.

use std::sync::Arc;

use super::Dispatcher;
use crate::redis::batch::queue::Pending;
use crate::runtime;

/// A batch beside the one of the loop.
pub(super) struct Overflow {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) at: usize,
    pub(super) batch: Vec<Pending>,
}

impl Overflow {
    pub(super) async fn run(mut self) {
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
pub(super) struct Loop {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) at: usize,
    pub(super) number: u64,
}

impl Loop {
    pub(super) async fn run(self) {
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
