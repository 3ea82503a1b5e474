//! The templates among the routes of a policy, such as `/users/{id}`, and a router that matches them.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::routing::any_service;
use tower::Service;
use tower_weir::RateLimitConfig;

/// The distinct templates of a policy.
pub(crate) fn templates(config: &RateLimitConfig) -> Vec<String> {
    let of_limits = config.limits.iter().flat_map(|limit| {
        limit.routes.iter().map(|(route, _)| route).chain(limit.costs.iter().map(|(route, _)| route))
    });
    let mut templates: Vec<String> = Vec::new();
    for route in of_limits.chain(config.costs.iter().map(|(route, _)| route)) {
        let path = route.split_once(' ').map_or(route.as_str(), |(_, path)| path.trim());
        if path.contains('{') && templates.iter().all(|known| nameless(known) != nameless(path)) {
            templates.push(path.to_owned());
        }
    }
    templates
}

/// A template without the names of its parameters. Templates that differ only in names match the same paths.
fn nameless(path: &str) -> Vec<&str> {
    path.split('/').map(|part| if part.starts_with("{") && part.ends_with('}') { "{}" } else { part }).collect()
}

/// A router for these templates, with the same service for all paths.
///
/// # Panics
///
/// axum panics if two templates overlap; see [`check`].
pub(crate) fn router<S, F>(templates: &[String], service: &S) -> Router
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = F>,
    S: Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let add = |router: Router, template: &String| router.route(template, any_service(service.clone()));
    templates.iter().fold(Router::new(), add).fallback_service(service.clone())
}

/// Builds a router while no other thread runs.
///
/// # Errors
///
/// Returns what axum reports if two templates overlap.
pub(crate) fn check(templates: &[String]) -> Result<(), String> {
    let service = tower::service_fn(|_: Request<Body>| std::future::ready(Ok(Response::new(Body::empty()))));
    // The hook would print a trace of the stack, but the message is for the user.
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let built = catch_unwind(AssertUnwindSafe(|| drop(router(templates, &service))));
    set_hook(hook);
    built.map_err(|panic| match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(_) => "a router cannot have all these routes".into(),
    })
}
