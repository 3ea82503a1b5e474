use std::borrow::Cow;

use crate::key::extractor::KeyExtractor;
use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::KeyWriter;

/// A key from the called gRPC service, such as `helloworld.Greeter`.
///
/// The key is the first part of the path `/helloworld.Greeter/SayHello`. The path must have two parts that are not
/// empty. All other paths share one key, `unknown`.
///
/// A client writes the path. So a client can also invent service names, and each one has a budget. No handler receives
/// such calls, and `max_keys` bounds the number of keys. A new *method* name under an existing service has no new
/// budget, so this key is safer than [`GrpcMethod`].
///
/// All clients share a service, so a call that is shed gets UNAVAILABLE.
///
/// # Examples
///
/// ```
/// use tower_weir::{ClientIp, RateLimitLayer};
/// use tower_weir::key::GrpcService;
///
/// let layer = RateLimitLayer::builder().quota("100/s".parse()?).key((GrpcService, ClientIp::peer())).build()?;
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcService;

/// A key from the called gRPC method, such as `helloworld.Greeter/SayHello`.
///
/// The key is the whole path. Paths of any other form share one key, `unknown`.
///
/// A client can invent method names under an existing service, and has a new budget for each name. Such calls reach
/// the service, which responds with UNIMPLEMENTED. If this matters, use [`GrpcService`], or add a layer that limits by
/// client.
///
/// All clients share a method, so a call that is shed gets UNAVAILABLE.
///
/// # Examples
///
/// ```
/// use tower_weir::{ClientIp, RateLimitLayer};
/// use tower_weir::key::GrpcMethod;
///
/// let layer = RateLimitLayer::builder().quota("100/s".parse()?).key((GrpcMethod, ClientIp::peer())).build()?;
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcMethod;

/// The key of every path that names no method. All other keys start with a slash, so none equals this word.
const UNKNOWN: &str = "unknown";

/// The service with the slash before it, if the path names a service and a method.
///
/// Names contain no slashes (gRPC over HTTP/2, "Path"), but tonic's routes allow them in the method. If such a path
/// were split at its last slash, a client could invent services under an existing one.
pub(crate) fn service(path: &str) -> Option<&str> {
    let (service, method) = path.rsplit_once('/')?;
    let name = service.strip_prefix('/')?;
    (!name.is_empty() && !name.contains('/') && !method.is_empty()).then_some(service)
}

impl KeyExtractor for GrpcService {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        out.write(service(req.uri().path()).unwrap_or(UNKNOWN));
        Ok(())
    }

    fn is_global(&self) -> bool {
        true
    }

    fn text(&self) -> Cow<'static, str> {
        "grpc-service".into()
    }
}

impl KeyExtractor for GrpcMethod {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        let path = req.uri().path();
        out.write(if service(path).is_some() { path } else { UNKNOWN });
        Ok(())
    }

    fn is_global(&self) -> bool {
        true
    }

    fn text(&self) -> Cow<'static, str> {
        "grpc-method".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::{bytes, request, written};

    #[test]
    fn a_path_names_a_service_and_a_method() {
        for (path, expected) in [
            ("/helloworld.Greeter/SayHello", ("/helloworld.Greeter", "/helloworld.Greeter/SayHello")),
            ("/Greeter/SayHello?a=/b/c", ("/Greeter", "/Greeter/SayHello")),
            ("/unknown/unknown", ("/unknown", "/unknown/unknown")),
            ("/", (UNKNOWN, UNKNOWN)),
            ("//", (UNKNOWN, UNKNOWN)),
            ("//SayHello", (UNKNOWN, UNKNOWN)),
            ("/SayHello", (UNKNOWN, UNKNOWN)),
            ("/Greeter/", (UNKNOWN, UNKNOWN)),
            ("/Greeter/invented/SayHello", (UNKNOWN, UNKNOWN)),
            ("//Greeter/SayHello", (UNKNOWN, UNKNOWN)),
            ("*", (UNKNOWN, UNKNOWN)),
        ] {
            let request = request(path);
            assert_eq!(bytes(&GrpcService, &request), written(expected.0), "{path}");
            assert_eq!(bytes(&GrpcMethod, &request), written(expected.1), "{path}");
        }
    }

    #[test]
    fn keys_of_calls_are_global() {
        assert!(GrpcService.is_global() && GrpcMethod.is_global());
    }
}
