//! Work that runs on every exit of a call.

/// Calls its function when it is dropped, together with the future that owns it.
pub(crate) struct OnDrop<F: Fn()>(pub(crate) F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
