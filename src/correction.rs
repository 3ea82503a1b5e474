//! Changes of a key through the API: their condition, the units that they keep, and their result.

/// The condition of `set_if` on a key's current total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RateLimitComparator {
    /// Equal to the operand.
    Eq(u64),
    /// Less than the operand.
    Lt(u64),
    /// Greater than the operand.
    Gt(u64),
    /// Not equal to the operand.
    Ne(u64),
    /// Any total.
    Always,
}

impl RateLimitComparator {
    /// Whether a total satisfies the condition.
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

/// The units that `set_if_preserve_history` keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HistoryPreservation {
    /// Keeps the newest units. A lower total drops the oldest ones, and a higher total adds units that are dated now.
    PreserveNewest,
    /// Keeps the oldest units. A lower total drops the newest ones, and a higher total adds to the oldest bucket.
    PreserveOldest,
}

/// The result of `set_if`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetOutcome {
    /// Whether the condition held, so that the total was set.
    pub matched: bool,
    /// The units in the window before the call.
    pub previous_total: u64,
    /// The units in the window after the call.
    pub current_total: u64,
}
