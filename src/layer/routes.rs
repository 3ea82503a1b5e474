//! A table of values by route and method.

use std::collections::HashMap;

use http::Method;

use crate::error::{ConfigError, shortened};
use crate::key::{RequestView, grpc_service};

/// Values by route, each for all methods or for one.
#[derive(Clone, Debug)]
pub(super) struct Routes<T> {
    by_path: Table<T>,
    /// The values for all methods of a gRPC service, by its path without the method.
    by_service: Table<T>,
}

type Table<T> = HashMap<Box<str>, Vec<(Option<Method>, T)>>;

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { by_path: HashMap::new(), by_service: HashMap::new() }
    }
}

impl<T> Routes<T> {
    /// Adds a value for a route such as `/users/{id}`, `POST /login` or `/pkg.Service/*`.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::InvalidRoute`] for a text that matches no request, or for a route that is listed already.
    pub(super) fn insert(&mut self, route: &str, value: T) -> Result<(), ConfigError> {
        let invalid = || ConfigError::InvalidRoute(shortened(route));
        let (method, path) = match route.trim().split_once(' ') {
            Some((method, path)) => (Some(parse_method(method).ok_or_else(invalid)?), path.trim()),
            None => (None, route.trim()),
        };
        let (table, path) = match path.strip_suffix("/*") {
            Some(service) => (&mut self.by_service, service),
            None => (&mut self.by_path, path),
        };
        // A star is part of a template such as `/files/{*path}`, and otherwise matches nothing.
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
        if !path.starts_with('/') || !is_plain || path.replace("{*", "").contains('*') {
            return Err(invalid());
        }
        let values = table.entry(path.into()).or_default();
        if values.iter().any(|(other, _)| *other == method) {
            return Err(invalid());
        }
        values.push((method, value));
        // A value for the request's method comes before one for all methods.
        values.sort_by_key(|(method, _)| method.is_none());
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_path.is_empty() && self.by_service.is_empty()
    }

    /// The value for a request: by the route that axum matched, by its path, or by its gRPC service.
    pub(super) fn get(&self, request: &RequestView<'_>) -> Option<&T> {
        let (path, method) = (request.uri().path(), request.method());
        matched(request)
            .and_then(|route| find(&self.by_path, route, method))
            .or_else(|| find(&self.by_path, path, method))
            .or_else(|| find(&self.by_service, grpc_service(path)?, method))
    }

    /// Converts each value; `convert` gets it with its route.
    pub(super) fn try_map<U, E>(self, mut convert: impl FnMut(&str, T) -> Result<U, E>) -> Result<Routes<U>, E> {
        let mut map = |table: Table<T>, end: &str| {
            let mut mapped = Table::with_capacity(table.len());
            for (path, values) in table {
                let convert = |(method, value): (Option<Method>, T)| {
                    let route = match &method {
                        Some(method) => format!("{method} {path}{end}"),
                        None => format!("{path}{end}"),
                    };
                    convert(&route, value).map(|value| (method, value))
                };
                mapped.insert(path.clone(), values.into_iter().map(convert).collect::<Result<_, E>>()?);
            }
            Ok(mapped)
        };
        Ok(Routes { by_path: map(self.by_path, "")?, by_service: map(self.by_service, "/*")? })
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.by_path.values().chain(self.by_service.values()).flatten().map(|(_, value)| value)
    }
}

/// Reads a method, such as `POST`.
///
/// # Errors
///
/// Returns [`ConfigError::UnknownWord`] for a text that is not the name of a method.
pub(super) fn method(name: &str) -> Result<Method, ConfigError> {
    let known = &["GET", "POST", "PUT", "PATCH", "DELETE", "another method in upper case"];
    parse_method(name).ok_or_else(|| ConfigError::UnknownWord { text: shortened(name), known })
}

fn parse_method(name: &str) -> Option<Method> {
    // Methods are case-sensitive, and no server knows a lower-case one.
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    is_name.then(|| Method::from_bytes(name.as_bytes()).ok())?
}

fn find<'a, T>(table: &'a Table<T>, path: &str, method: &Method) -> Option<&'a T> {
    // Servers route HEAD as GET.
    let is_of = |of: &Method| of == method || (*method == Method::HEAD && *of == Method::GET);
    let values = table.get(path)?;
    values.iter().find(|(of, _)| of.as_ref().is_none_or(is_of)).map(|(_, value)| value)
}

#[cfg(feature = "axum")]
fn matched<'a>(request: &RequestView<'a>) -> Option<&'a str> {
    request.extensions().get().map(axum::extract::MatchedPath::as_str)
}

#[cfg(not(feature = "axum"))]
fn matched<'a>(_: &RequestView<'a>) -> Option<&'a str> {
    None
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn routes(list: &[&'static str]) -> Routes<&'static str> {
        let mut routes = Routes::default();
        list.iter().for_each(|route| routes.insert(route, *route).unwrap());
        routes
    }

    fn found(routes: &Routes<&'static str>, method: &str, path: &str) -> Option<&'static str> {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        routes.get(&RequestView::new(&request)).copied()
    }

    #[test]
    fn the_method_narrows_a_route() {
        let routes = routes(&["/a", "POST /a", "GET /b", "/pkg.Echo/*", "/pkg.Echo/Slow"]);
        for (method, path, want) in [
            ("POST", "/a", Some("POST /a")),
            ("PUT", "/a?x=/b", Some("/a")),
            ("GET", "/b", Some("GET /b")),
            ("HEAD", "/b", Some("GET /b")),
            ("POST", "/b", None),
            ("GET", "/a/", None),
            ("POST", "/pkg.Echo/Slow", Some("/pkg.Echo/Slow")),
            ("POST", "/pkg.Echo/Fast", Some("/pkg.Echo/*")),
            ("POST", "/pkg.Echo/", None),
            ("POST", "/pkg.EchoX/Fast", None),
        ] {
            assert_eq!(found(&routes, method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn a_route_that_matches_nothing_is_an_error() {
        let mut routes = routes(&["GET /a", "/files/{*path}"]);
        for route in ["", "a", "POST", "post /a", "GET /a", "/a?b", "/a#b", "/a*", "/ä", "GET  ", "/a b", "P\u{e9}T /a"]
        {
            assert!(matches!(routes.insert(route, ""), Err(ConfigError::InvalidRoute(_))), "{route:?}");
        }
    }
}
