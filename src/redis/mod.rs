//! The Redis store.

mod script;
#[cfg(test)]
mod testing;
