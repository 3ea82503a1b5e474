use std::borrow::Cow;

use crate::key::extractor::KeyExtractor;
use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::KeyWriter;

/// A key from the request's method, such as `GET`.
///
/// The methods of RFC 9110, `PATCH` and `QUERY` each have a key. All others share one key, `extension`, because a
/// client could invent a new method for each request.
///
/// All clients share a method, so a request that is shed gets a 503. This key is most useful in combination with
/// another one.
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
        // Methods are case-sensitive, so no standard method equals this word.
        out.write(if STANDARD.contains(&method) { method } else { "extension" });
        Ok(())
    }

    fn is_global(&self) -> bool {
        true
    }

    fn text(&self) -> Cow<'static, str> {
        "method".into()
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
    fn each_standard_method_has_its_own_key() {
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
