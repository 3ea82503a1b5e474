use crate::key::extractor::KeyExtractor;
use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::KeyWriter;

/// A key from the gRPC service that is called, such as `helloworld.Greeter`.
///
/// It is the first part of the path `/helloworld.Greeter/SayHello`. Paths of any other form share one key,
/// `unknown`: there must be two parts, neither of them empty.
///
/// A client writes the path. Calls to a service that the server does not have also have a budget for each name
/// that a client invents; no handler ever sees them, and `max_keys` bounds how many are kept. A new *method*
/// name under a service that exists gains nothing here, and that makes this key a safer one than [`GrpcMethod`].
///
/// A service is shared by its clients, so a call that is shed is answered UNAVAILABLE.
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

/// A key from the gRPC method that is called, such as `helloworld.Greeter/SayHello`.
///
/// It is the whole path. Paths that are not of this form share one key, `unknown`.
///
/// Unknown methods are a client's invention: under a service that exists, a client has a new budget for each
/// name it invents, and such calls do reach the service, which answers UNIMPLEMENTED. Where that matters use
/// [`GrpcService`], or limit by client in a layer beside this one.
///
/// A method is shared by its clients, so a call that is shed is answered UNAVAILABLE.
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

/// What stands for every path that names no method. All others begin with a slash, so none is this word.
const UNKNOWN: &str = "unknown";

/// The service with the slash before it, if the path names a service and a method.
///
/// Names have no slashes (gRPC over HTTP/2, "Path"). tonic's routes let them into the method; were such a path
/// split at its last slash, a client could invent services under one that exists.
fn service(path: &str) -> Option<&str> {
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
    fn calls_are_shared_by_clients() {
        assert!(GrpcService.is_global() && GrpcMethod.is_global());
    }
}
