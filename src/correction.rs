//! Changes of a key through the API: what they demand, what they keep, and what they did.

/// What `set_if` demands of a key's current total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateLimitComparator {
    /// Equal to the operand.
    Eq(u64),
    /// Less than the operand.
    Lt(u64),
    /// Greater than the operand.
    Gt(u64),
    /// Not equal to the operand.
    Ne(u64),
    /// Anything.
    Always,
}

impl RateLimitComparator {
    /// Whether a total satisfies it.
    #[must_use]
    pub fn matches(self, total: u64) -> bool {
        match self {
            Self::Eq(operand) => total == operand,
            Self::Lt(operand) => total < operand,
            Self::Gt(operand) => total > operand,
            Self::Ne(operand) => total != operand,
            Self::Always => true,
        }
    }
}

/// Which units `set_if_preserve_history` keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HistoryPreservation {
    /// The newest: a lower total drops the oldest, a higher one adds units that are stamped now.
    PreserveNewest,
    /// The oldest: a lower total drops the newest, a higher one adds to the oldest bucket.
    PreserveOldest,
}

/// What `set_if` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetOutcome {
    /// Whether the comparator held, and the total was set.
    pub matched: bool,
    /// The units in the window before.
    pub previous_total: u64,
    /// The units in the window after.
    pub current_total: u64,
}
