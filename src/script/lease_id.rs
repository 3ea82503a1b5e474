/// The id of a lease: a random number of the instance, and a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseId {
    pub(crate) nonce: u64,
    pub(crate) counter: u32,
}
