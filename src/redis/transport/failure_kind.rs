//! The kinds of failures, and the codes by which the client's own errors carry two of them.

/// Stands for a connection that was lost under a command; see `cluster::node`.
pub(super) const LOST: &str = "WEIRLOST";
/// Stands for a node that did not answer in time; see `cluster::node`.
pub(super) const LATE: &str = "WEIRLATE";

/// The kind of a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The server does not have the script: it did not run, send its text.
    NoScript,
    /// The server cannot run it now and did not (a data set that loads, a cluster that is down).
    NothingRan,
    /// The server is a replica, and did not run it: what was the master is no more.
    ReadOnly,
    /// The server will not run it, and did not, until somebody changes something there.
    Refused,
    /// The keys lie in different slots of a cluster: it did not run.
    CrossSlot,
    /// The slot lies on another node, or is under way to one: it did not run.
    Moved,
    /// There is no connection, so nothing was sent.
    Unreachable,
    /// The caller is outside a runtime, so nothing was sent.
    NoRuntime,
    /// The connection was lost under the command, which may have run.
    ConnectionLost,
    /// No answer came in time; the command may have run.
    Timeout,
    /// The answer makes no sense.
    Protocol,
}

impl FailureKind {
    /// As a label of metrics.
    #[cfg(feature = "metrics")]
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
