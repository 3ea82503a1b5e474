//! The requests that a layer does not limit.
//!
//! An exempt request is admitted before its key is read. It is not charged, and its response has no fields.

use std::sync::Arc;

use http::Method;

use super::client_networks::{self, ClientNetworks};
use super::rules::Predicate;
use crate::error::{ConfigError, shortened};
use crate::key::{ClientIp, KeyExtractor, Networks};
use crate::response;

const HEALTH: &[&str] = &["grpc.health.v1.Health"];
const REFLECTION: &[&str] = &["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// The configured exemptions of one layer.
#[derive(Clone, Default)]
pub(super) struct Exemptions {
    pub(super) is_off: bool,
    pub(super) preflight: bool,
    pub(super) grpc_health: bool,
    pub(super) grpc_reflection: bool,
    pub(super) paths: Vec<String>,
    /// The methods that are limited, or `None` for all.
    pub(super) methods: Option<Vec<Method>>,
    pub(super) networks: ClientNetworks,
    /// The cases of the code.
    pub(super) predicates: Vec<Arc<Predicate>>,
    /// The first mistake, which the builder's `build` returns.
    pub(super) invalid: Option<ConfigError>,
}

impl Exemptions {
    pub(super) fn add_networks(&mut self, ip: ClientIp, networks: Result<Networks, ConfigError>) {
        match ip.check().and(networks) {
            Ok(networks) => client_networks::add(&mut self.networks, ip, &networks),
            Err(error) => self.fail(error),
        }
    }

    /// Keeps the first mistake for the builder's `build`.
    pub(super) fn fail(&mut self, error: ConfigError) {
        self.invalid.get_or_insert(error);
    }

    /// Checks the networks, the paths and the methods. Returns the predicates; a request is exempt if one of them is
    /// true.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::ExemptsEveryone`], [`ConfigError::InvalidExemptPath`] or [`ConfigError::NoMethod`].
    pub(super) fn build(self) -> Result<Vec<Arc<Predicate>>, ConfigError> {
        let Self { is_off, preflight, grpc_health, grpc_reflection, paths, methods, networks, mut predicates, .. } =
            self;
        paths.iter().try_for_each(|path| check_path(path))?;
        for (ip, networks) in networks {
            check_networks(&networks)?;
            predicates.push(Arc::new(move |request| ip.is_exempt(&networks, request)));
        }
        for service in [(grpc_health, HEALTH), (grpc_reflection, REFLECTION)].into_iter().filter(|(is_on, _)| *is_on) {
            predicates.push(Arc::new(move |request| is_method_of(service.1, request.uri().path())));
        }
        if !paths.is_empty() {
            predicates.push(Arc::new(move |request| paths.iter().any(|path| path == request.uri().path())));
        }
        if let Some(methods) = methods {
            if methods.is_empty() {
                return Err(ConfigError::NoMethod);
            }
            predicates.push(Arc::new(move |request| !is_listed(&methods, request.method())));
        }
        if preflight {
            predicates.push(Arc::new(|request| response::is_preflight(request.method(), request.headers())));
        }
        if is_off {
            predicates = vec![Arc::new(|_| true)];
        }
        Ok(predicates)
    }
}

/// Servers route HEAD as GET, so a limit on GET also limits HEAD.
fn is_listed(methods: &[Method], method: &Method) -> bool {
    methods.contains(method) || (method == Method::HEAD && methods.contains(&Method::GET))
}

/// Whether a path is `/service/method` of one of the services, with a method that is not empty and contains no slash.
fn is_method_of(services: &[&str], path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else { return false };
    let method = |service: &&str| path.strip_prefix(*service)?.strip_prefix('/');
    services.iter().find_map(method).is_some_and(|method| !method.is_empty() && !method.contains('/'))
}

/// Checks that exempt networks do not contain every address.
pub(super) fn check_networks(networks: &Networks) -> Result<(), ConfigError> {
    networks.everything().map_or(Ok(()), |all| Err(ConfigError::ExemptsEveryone(all.to_owned())))
}

/// Checks that a path can match.
///
/// Paths are compared byte by byte, so a pattern, a query or a missing leading slash never matches.
pub(super) fn check_path(path: &str) -> Result<(), ConfigError> {
    let is_plain = path.bytes().all(|byte| !matches!(byte, b'*' | b'{' | b'}' | b'?' | b'#' | b' '));
    match path.starts_with('/') && is_plain {
        true => Ok(()),
        false => Err(ConfigError::InvalidExemptPath(shortened(path))),
    }
}
