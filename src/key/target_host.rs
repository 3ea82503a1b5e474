use http::header::HOST;

use super::extractor::KeyExtractor;
use super::missing_key::MissingKey;
use super::request_view::RequestView;
use super::writer::KeyWriter;

/// The server of an outgoing request: the host and port of its URI, or its `Host` header.
///
/// Use it with [`RateLimitLayer::outgoing`](crate::RateLimitLayer::outgoing). It is no key for incoming requests,
/// because a client chooses the host freely. The port of the scheme, such as 443 for `https`, equals no port.
///
/// # Examples
///
/// ```
/// use tower_weir::RateLimitLayer;
/// use tower_weir::key::TargetHost;
///
/// let layer = RateLimitLayer::outgoing("50/s").key(TargetHost).build()?;
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TargetHost;

impl KeyExtractor for TargetHost {
    fn key(&self, request: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        let missing = || MissingKey::server_fault("the request has no host");
        let default = match request.uri().scheme_str() {
            Some("http" | "ws") => Some(80),
            Some("https" | "wss") => Some(443),
            _ => None,
        };
        let header = || request.headers().get(HOST)?.to_str().ok()?.parse().ok();
        let authority = request.uri().authority().cloned().or_else(header).ok_or_else(missing)?;
        if authority.host().is_empty() {
            return Err(missing());
        }
        out.write(&authority.host().trim_end_matches('.').to_ascii_lowercase());
        out.write(&authority.port_u16().filter(|port| Some(*port) != default).unwrap_or(0));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_server_are_one_key() {
        let key = |uri: &str, host: Option<&str>| {
            let mut request = http::Request::builder().uri(uri);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let (request, mut out) = (request.body(()).unwrap(), KeyWriter::new());
            TargetHost.key(&RequestView::new(&request), &mut out).ok().map(|()| out.as_bytes().to_vec())
        };
        let one = key("https://api.example.org/a", None);
        assert!(one.is_some());
        for same in ["https://API.example.org:443/b", "https://api.example.org./", "https://user@api.example.org/"] {
            assert_eq!(key(same, None), one, "{same}");
        }
        assert_eq!(key("/a", Some("api.example.org")), one);
        for other in ["https://api.example.org:8443/", "https://example.org/", "http://api.example.org:443/"] {
            assert_ne!(key(other, None), one, "{other}");
        }
        assert_eq!(key("/a", None), None);
    }
}
