//! The errors: a typed [`ConfigError`] at build time and an opaque [`StoreError`] at run time.

mod config_error;
mod config_message;
mod store_error;

pub use self::config_error::ConfigError;
pub use self::store_error::{StoreError, StoreErrorKind};

/// Shortens a text, so that an error message has a bounded length.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
