use crate::key::extractor::KeyExtractor;
use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::KeyWriter;

/// A key from the request's method, such as `GET`.
///
/// The methods of RFC 9110, `PATCH` and `QUERY` are keys of their own. All others share one, `extension`, since a client
/// could invent a new one for each request.
///
/// A method is shared by all clients, so a request that is shed is answered 503. It is most useful joined with
/// another key.
///
/// # Examples
///
/// ```
/// use tower_weir::{ClientIp, RateLimitLayer};
/// use tower_weir::key::HttpMethod;
///
/// let layer = RateLimitLayer::builder().quota("100/min".parse()?).key((HttpMethod, ClientIp::peer())).build()?;
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpMethod;

const STANDARD: [&str; 10] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "QUERY", "CONNECT", "TRACE"];

impl KeyExtractor for HttpMethod {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        let method = req.method().as_str();
        // Methods are case-sensitive, so no standard one is this word.
        out.write(if STANDARD.contains(&method) { method } else { "extension" });
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

    fn key(method: &str) -> Vec<u8> {
        let mut request = request("/");
        *request.method_mut() = method.parse().unwrap();
        bytes(&HttpMethod, &request)
    }

    #[test]
    fn standard_methods_are_keys_of_their_own() {
        for method in STANDARD {
            assert_eq!(key(method), written(method));
        }
    }

    #[test]
    fn all_other_methods_share_a_key() {
        for method in ["get", "PROPFIND", "INVENTED", "extension", "A-METHOD-WITH-A-RATHER-LONG-NAME"] {
            assert_eq!(key(method), written("extension"), "{method}");
        }
    }
}
