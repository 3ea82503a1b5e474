//! The requests that a layer refuses without a decision.

use std::sync::Arc;

use super::rules::Predicate;
use crate::error::ConfigError;
use crate::key::{ClientIp, KeyExtractor, Networks};

/// The configured denials of one layer.
#[derive(Clone, Default)]
pub(super) struct Denials {
    pub(super) predicates: Vec<Arc<Predicate>>,
    /// The given status, which the builder checks.
    pub(super) status: Option<u16>,
    /// The first invalid list, which `build` returns.
    invalid: Option<ConfigError>,
}

impl Denials {
    pub(super) fn add_networks(&mut self, ip: ClientIp, networks: Result<Networks, ConfigError>) {
        match ip.check().and(networks) {
            Ok(networks) => self.predicates.push(Arc::new(move |request| ip.is_denied(&networks, request))),
            Err(error) => drop(self.invalid.get_or_insert(error)),
        }
    }

    /// Returns the predicates; a request is denied if one of them is true.
    pub(super) fn build(self) -> Result<Vec<Arc<Predicate>>, ConfigError> {
        self.invalid.map_or(Ok(self.predicates), Err)
    }
}
