//! What a store must do at the end of an outage.

use std::pin::Pin;

/// Work on some keys, which ends by itself.
pub(crate) type Return<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A store that must report more at the end of an outage than what its shares admitted.
pub(crate) trait Returning: Send + Sync {
    /// Brings the keys whose names `is_here` selects up to date.
    fn bring_back<'a>(&'a self, is_here: &'a (dyn Fn(&[u8]) -> bool + Send + Sync)) -> Return<'a>;
}
