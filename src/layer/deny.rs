//! The requests that a layer refuses without a decision.

use std::sync::Arc;

use super::client_networks::{self, ClientNetworks};
use super::rules::Predicate;
use crate::error::ConfigError;
use crate::key::{ClientIp, KeyExtractor, Networks};

/// The configured denials of one layer.
#[derive(Clone, Default)]
pub(super) struct Denials {
    /// The cases of the code.
    pub(super) predicates: Vec<Arc<Predicate>>,
    pub(super) networks: ClientNetworks,
    /// The given status, which the builder checks.
    pub(super) status: Option<u16>,
    /// The first invalid list, which `build` returns.
    invalid: Option<ConfigError>,
}

impl Denials {
    pub(super) fn add_networks(&mut self, ip: ClientIp, networks: Result<Networks, ConfigError>) {
        match ip.check().and(networks) {
            Ok(networks) => client_networks::add(&mut self.networks, ip, &networks),
            Err(error) => drop(self.invalid.get_or_insert(error)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.predicates.is_empty() && self.networks.is_empty()
    }

    /// Returns the predicates; a request is denied if one of them is true.
    pub(super) fn build(self) -> Result<Vec<Arc<Predicate>>, ConfigError> {
        let Self { mut predicates, networks, invalid, .. } = self;
        for (ip, networks) in networks {
            predicates.push(Arc::new(move |request| ip.is_denied(&networks, request)));
        }
        invalid.map_or(Ok(predicates), Err)
    }
}
