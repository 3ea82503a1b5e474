//! The local store: the windows of many keys, in this process.
//!
//! A decision is one clock read, one fingerprint and one lookup; check and charge are one step under the
//! key's lock. Nothing of the key is stored and nothing is allocated once a key is known.

mod calls;
mod local_store;

#[cfg(test)]
mod tests;

pub use self::calls::LocalLimits;
pub use self::local_store::LocalStore;
