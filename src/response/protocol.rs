//! Which protocol a client speaks, and so in which one it is answered.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

/// The protocol in which refusals are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// That of each request, as its content type tells.
    #[default]
    Auto,
    /// HTTP: a status, `Retry-After` and a body.
    Http,
    /// gRPC: a trailers-only response. Requests in gRPC-Web are answered in gRPC-Web.
    Grpc,
}

/// The form of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Http,
    Grpc,
    GrpcWeb,
    GrpcWebText,
}

impl Wire {
    /// The form of the answer to a request with these headers.
    pub(super) fn of(protocol: Protocol, request: &HeaderMap) -> Self {
        match (protocol, Self::spoken(request)) {
            (Protocol::Auto, spoken) => spoken,
            (Protocol::Http, _) => Self::Http,
            (Protocol::Grpc, Self::Http) => Self::Grpc,
            (Protocol::Grpc, spoken) => spoken,
        }
    }

    /// A gRPC request says so in its content type. gRPC-Web first, since its names begin alike.
    fn spoken(request: &HeaderMap) -> Self {
        let content_type = request.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
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

    /// The content type of an answer in gRPC.
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Http | Self::Grpc => "application/grpc",
            Self::GrpcWeb => "application/grpc-web+proto",
            Self::GrpcWebText => "application/grpc-web-text+proto",
        })
    }
}

/// Whether a media type is `kind`, alone or with a suffix or parameters.
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
    use super::*;

    fn spoken(content_type: &str, accept: Option<&str>) -> Wire {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        headers.extend(accept.map(|it| (ACCEPT, it.parse().unwrap())));
        Wire::of(Protocol::Auto, &headers)
    }

    #[test]
    fn the_content_type_tells_the_protocol() {
        for (content_type, want) in [
            ("application/grpc", Wire::Grpc),
            ("application/grpc+proto", Wire::Grpc),
            ("Application/GRPC;charset=utf-8", Wire::Grpc),
            ("application/grpc ; a=b", Wire::Grpc),
            ("application/grpc-web", Wire::GrpcWeb),
            ("application/grpc-web+proto", Wire::GrpcWeb),
            ("application/GRPC-web-TEXT", Wire::GrpcWebText),
            ("application/grpc-web-text+proto", Wire::GrpcWebText),
            ("application/grpcfoo", Wire::Http),
            ("application/grpc-foo", Wire::Http),
            ("application/grpc-webfoo", Wire::Http),
            ("application/grpc-web-textual", Wire::Http),
            ("text/application/grpc", Wire::Http),
            ("application/json", Wire::Http),
            ("", Wire::Http),
        ] {
            assert_eq!(spoken(content_type, None), want, "{content_type}");
        }
        assert_eq!(Wire::of(Protocol::Auto, &HeaderMap::new()), Wire::Http);
    }

    #[test]
    fn a_web_client_that_says_what_it_accepts_is_heard() {
        let (web, text) = ("application/grpc-web+proto", "application/grpc-web-text+proto");
        for (content_type, accept, want) in [
            (web, text, Wire::GrpcWebText),
            (web, "text/html, application/grpc-web-text;q=1", Wire::GrpcWebText),
            (web, "*/*", Wire::GrpcWeb),
            (text, "*/*", Wire::GrpcWebText),
            (text, web, Wire::GrpcWeb),
            ("application/grpc", text, Wire::Grpc),
            ("application/json", text, Wire::Http),
        ] {
            assert_eq!(spoken(content_type, Some(accept)), want, "{content_type}, {accept}");
        }
    }

    #[test]
    fn a_fixed_protocol_answers_in_it_whatever_the_request_says() {
        for (content_type, grpc) in [
            ("application/json", Wire::Grpc),
            ("application/grpc", Wire::Grpc),
            ("application/grpc-web-text", Wire::GrpcWebText),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
            assert_eq!(Wire::of(Protocol::Grpc, &headers), grpc);
            assert_eq!(Wire::of(Protocol::Http, &headers), Wire::Http);
        }
    }
}
