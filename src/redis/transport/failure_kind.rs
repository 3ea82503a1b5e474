//! The kinds of failures, and the codes by which the client's own errors carry two of them.

/// Marks a connection that was lost during a command; see `cluster::node`.
pub(super) const LOST: &str = "WEIRLOST";
/// Marks a node that did not reply in time; see `cluster::node`.
pub(super) const LATE: &str = "WEIRLATE";

/// The kind of a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The server does not have the script. The script did not run, and its text must be sent.
    NoScript,
    /// The server cannot run it now, and did not run it (for example, it loads its data set, or the cluster is down).
    NothingRan,
    /// The server is a replica, and did not run it. The former master has been demoted.
    ReadOnly,
    /// The server refuses to run it, and did not run it, until an operator changes the configuration.
    Refused,
    /// The keys are in different slots of a cluster; the command did not run.
    CrossSlot,
    /// The slot is on another node, or moves to one; the command did not run.
    Moved,
    /// The connection could not be made, so nothing was sent.
    Unreachable,
    /// The caller is outside a runtime, so nothing was sent.
    NoRuntime,
    /// The connection was lost during the command, which may have run.
    ConnectionLost,
    /// The reply did not arrive in time; the command may have run.
    Timeout,
    /// The reply is invalid.
    Protocol,
}

impl FailureKind {
    /// The label in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoScript => "no_script",
            Self::NothingRan => "nothing_ran",
            Self::ReadOnly => "read_only",
            Self::Refused => "refused",
            Self::CrossSlot => "cross_slot",
            Self::Moved => "moved",
            Self::Unreachable => "unreachable",
            Self::NoRuntime => "no_runtime",
            Self::ConnectionLost => "connection_lost",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
        }
    }
}
