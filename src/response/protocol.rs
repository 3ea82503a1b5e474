//! The protocol of a client, and therefore of its response.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Version};

use crate::key::RequestView;

/// The protocol of refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// The request determines the protocol.
    ///
    /// It is gRPC for POST over HTTP/2 or later with a gRPC content type, and gRPC-Web for POST with a gRPC-Web content
    /// type. It is HTTP for every other request.
    ///
    /// A client of a service without gRPC can send such a POST too, and its refusal then has the status 200. Set
    /// [`Http`](Self::Http) for such a service, so that logs show each 429.
    #[default]
    Auto,
    /// HTTP: a status, `Retry-After` and a body.
    Http,
    /// gRPC: a trailers-only response. A gRPC-Web request gets a gRPC-Web response.
    Grpc,
}

/// The form of one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireFormat {
    Http,
    Grpc,
    GrpcWeb,
    GrpcWebText,
}

impl WireFormat {
    /// The form of the response to a request. A content type alone must not turn a refusal into a 200.
    pub(super) fn of(protocol: Protocol, request: &RequestView<'_>) -> Self {
        if protocol == Protocol::Http || (protocol == Protocol::Auto && request.method() != Method::POST) {
            return Self::Http;
        }
        match (protocol, Self::spoken(request.headers())) {
            // PROTOCOL-HTTP2, "Requests". But gRPC-Web "uses HTTP/1.1 or HTTP/2" (PROTOCOL-WEB).
            (Protocol::Auto, Self::Grpc) if request.version() < Version::HTTP_2 => Self::Http,
            (Protocol::Grpc, Self::Http) => Self::Grpc,
            (_, spoken) => spoken,
        }
    }

    /// The content type identifies a gRPC request. gRPC-Web is tested first, because its name starts like gRPC's.
    fn spoken(request: &HeaderMap) -> Self {
        let Some(content_type) = request.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else { return Self::Http };
        if is_kind(content_type, b"application/grpc-web-text") {
            return if accepts(request, b"application/grpc-web") { Self::GrpcWeb } else { Self::GrpcWebText };
        }
        if is_kind(content_type, b"application/grpc-web") {
            return if accepts(request, b"application/grpc-web-text") { Self::GrpcWebText } else { Self::GrpcWeb };
        }
        if is_kind(content_type, b"application/grpc") { Self::Grpc } else { Self::Http }
    }

    pub(super) fn is_grpc(self) -> bool {
        self != Self::Http
    }

    /// The content type of a gRPC response.
    pub(super) fn content_type(self) -> HeaderValue {
        match self {
            Self::Http | Self::Grpc => const { HeaderValue::from_static("application/grpc") },
            Self::GrpcWeb => const { HeaderValue::from_static("application/grpc-web+proto") },
            Self::GrpcWebText => const { HeaderValue::from_static("application/grpc-web-text+proto") },
        }
    }
}

/// Whether a media type is `kind`, with or without a suffix or parameters.
fn is_kind(media_type: &[u8], kind: &[u8]) -> bool {
    media_type.split_at_checked(kind.len()).is_some_and(|(begin, rest)| {
        begin.eq_ignore_ascii_case(kind) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

fn accepts(request: &HeaderMap, kind: &[u8]) -> bool {
    let values = request.get_all(ACCEPT).into_iter();
    values.flat_map(|value| value.as_bytes().split(|&byte| byte == b',')).any(|it| is_kind(it.trim_ascii(), kind))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn wire(protocol: Protocol, method: &Method, version: Version, headers: &[(&str, &str)]) -> WireFormat {
        let request = Request::builder().method(method).version(version);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        WireFormat::of(protocol, &RequestView::new(&request.body(()).unwrap()))
    }

    fn spoken(content_type: &str, accept: Option<&str>) -> WireFormat {
        let accept = accept.map(|it| ("accept", it));
        let headers: Vec<_> = [("content-type", content_type)].into_iter().chain(accept).collect();
        wire(Protocol::Auto, &Method::POST, Version::HTTP_2, &headers)
    }

    #[test]
    fn only_a_post_is_grpc_and_only_over_http_2_or_later() {
        for (method, version, grpc, web) in [
            (Method::POST, Version::HTTP_3, WireFormat::Grpc, WireFormat::GrpcWeb),
            (Method::POST, Version::HTTP_2, WireFormat::Grpc, WireFormat::GrpcWeb),
            (Method::POST, Version::HTTP_11, WireFormat::Http, WireFormat::GrpcWeb),
            (Method::POST, Version::HTTP_10, WireFormat::Http, WireFormat::GrpcWeb),
            (Method::GET, Version::HTTP_2, WireFormat::Http, WireFormat::Http),
            (Method::HEAD, Version::HTTP_2, WireFormat::Http, WireFormat::Http),
            (Method::OPTIONS, Version::HTTP_2, WireFormat::Http, WireFormat::Http),
            (Method::PUT, Version::HTTP_2, WireFormat::Http, WireFormat::Http),
            (Method::GET, Version::HTTP_11, WireFormat::Http, WireFormat::Http),
        ] {
            for (content_type, want) in
                [("application/grpc+proto", grpc), ("application/grpc-web", web), ("text/plain", WireFormat::Http)]
            {
                let headers = [("content-type", content_type)];
                let got = wire(Protocol::Auto, &method, version, &headers);
                assert_eq!(got, want, "{method} {version:?} {content_type}");
            }
        }
    }

    #[test]
    fn the_content_type_determines_the_protocol() {
        for (content_type, want) in [
            ("application/grpc", WireFormat::Grpc),
            ("application/grpc+proto", WireFormat::Grpc),
            ("Application/GRPC;charset=utf-8", WireFormat::Grpc),
            ("application/grpc ; a=b", WireFormat::Grpc),
            ("application/grpc-web", WireFormat::GrpcWeb),
            ("application/grpc-web+proto", WireFormat::GrpcWeb),
            ("application/GRPC-web-TEXT", WireFormat::GrpcWebText),
            ("application/grpc-web-text+proto", WireFormat::GrpcWebText),
            ("application/grpcfoo", WireFormat::Http),
            ("application/grpc-foo", WireFormat::Http),
            ("application/grpc-webfoo", WireFormat::Http),
            ("application/grpc-web-textual", WireFormat::Http),
            ("text/application/grpc", WireFormat::Http),
            ("application/json", WireFormat::Http),
            ("", WireFormat::Http),
        ] {
            assert_eq!(spoken(content_type, None), want, "{content_type}");
        }
        assert_eq!(wire(Protocol::Auto, &Method::POST, Version::HTTP_2, &[]), WireFormat::Http);
    }

    #[test]
    fn the_accept_header_selects_the_grpc_web_form() {
        let (web, text) = ("application/grpc-web+proto", "application/grpc-web-text+proto");
        for (content_type, accept, want) in [
            (web, text, WireFormat::GrpcWebText),
            (web, "text/html, application/grpc-web-text;q=1", WireFormat::GrpcWebText),
            (web, "*/*", WireFormat::GrpcWeb),
            (text, "*/*", WireFormat::GrpcWebText),
            (text, web, WireFormat::GrpcWeb),
            ("application/grpc", text, WireFormat::Grpc),
            ("application/json", text, WireFormat::Http),
        ] {
            assert_eq!(spoken(content_type, Some(accept)), want, "{content_type}, {accept}");
        }
    }

    #[test]
    fn a_fixed_protocol_ignores_the_request() {
        for (content_type, grpc) in [
            ("application/json", WireFormat::Grpc),
            ("application/grpc", WireFormat::Grpc),
            ("application/grpc-web-text", WireFormat::GrpcWebText),
        ] {
            let of = |protocol| wire(protocol, &Method::GET, Version::HTTP_11, &[("content-type", content_type)]);
            assert_eq!((of(Protocol::Grpc), of(Protocol::Http)), (grpc, WireFormat::Http));
        }
    }
}
