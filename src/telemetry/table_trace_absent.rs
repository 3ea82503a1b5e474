//! Writes nothing, without the feature `tracing`. The log has a [`Notice`](super::Notice) of the first overflow.

/// See the module documentation.
#[derive(Debug)]
pub(super) struct TableTrace;

impl TableTrace {
    pub(super) fn new(_: Option<&str>) -> Self {
        Self
    }

    pub(super) fn overflow_began(&self) {}

    pub(super) fn overflow_ended(&self) {}
}
