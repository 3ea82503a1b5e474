//! Requests of a process, and what became of them, as they are written to its file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use tower_weir::{Decision, StoreError};

use crate::support::ledger::Admission;

/// Who decided, and how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// Refused, by Redis or by what is known of it.
    Refused,
    /// Admitted by Redis or from a lease.
    Admitted,
    /// Refused by this instance's part of the limit.
    ShareRefused,
    /// Admitted by this instance's part of the limit.
    ShareAdmitted,
    /// Nobody decided.
    Failed,
}

use Outcome::{Admitted, Failed, Refused, ShareAdmitted, ShareRefused};

/// A request and its answer, in nanoseconds of the clock that all processes of a machine share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// Which of the process's flows.
    pub(crate) flow: u8,
    pub(crate) outcome: Outcome,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Outcome {
    const ALL: [Self; 5] = [Refused, Admitted, ShareRefused, ShareAdmitted, Failed];

    pub(crate) fn of(result: &Result<Decision, StoreError>) -> Self {
        match result {
            Ok(decision) if decision.is_local_share() => {
                if decision.is_allowed() {
                    ShareAdmitted
                } else {
                    ShareRefused
                }
            }
            Ok(decision) if decision.is_allowed() => Admitted,
            Ok(_) => Refused,
            Err(_) => Failed,
        }
    }

    pub(crate) fn is_admitted(self) -> bool {
        matches!(self, Admitted | ShareAdmitted)
    }

    /// Whether Redis decided, itself or by what it had lent or said.
    pub(crate) fn is_by_redis(self) -> bool {
        matches!(self, Refused | Admitted)
    }
}

impl Record {
    const BYTES: usize = 18;

    pub(crate) fn latency(&self) -> Duration {
        Duration::from_nanos(self.received - self.sent)
    }

    /// As one unit.
    pub(crate) fn admission(&self) -> Admission {
        Admission { sent: self.sent, received: self.received, cost: 1 }
    }

    /// Whether it was sent and answered in this time.
    pub(crate) fn is_within(&self, from: u64, to: u64) -> bool {
        self.sent >= from && self.received <= to
    }

    fn bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.flow;
        bytes[1] = u8::try_from(Outcome::ALL.iter().position(|outcome| *outcome == self.outcome).unwrap()).unwrap();
        bytes[2..10].copy_from_slice(&self.sent.to_le_bytes());
        bytes[10..].copy_from_slice(&self.received.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Self {
        let number = |from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().unwrap());
        let outcome = Outcome::ALL[usize::from(bytes[1])];
        Self { flow: bytes[0], outcome, sent: number(2), received: number(10) }
    }
}

/// A process's file of records.
#[derive(Debug)]
pub(crate) struct Records(Mutex<BufWriter<File>>);

impl Records {
    /// A file that has each record at once, or some time later.
    pub(crate) fn create(path: &str, at_once: bool) -> Self {
        let room = if at_once { 0 } else { 1 << 18 };
        Self(Mutex::new(BufWriter::with_capacity(room, File::create(path).unwrap())))
    }

    pub(crate) fn add(&self, record: Record) {
        self.0.lock().unwrap().write_all(&record.bytes()).unwrap();
    }

    pub(crate) fn finish(&self) {
        self.0.lock().unwrap().flush().unwrap();
    }

    /// What a process has written; the last of a process that was killed may be cut.
    pub(crate) fn read(path: &Path) -> Vec<Record> {
        std::fs::read(path).unwrap_or_default().chunks_exact(Record::BYTES).map(Record::read).collect()
    }
}
