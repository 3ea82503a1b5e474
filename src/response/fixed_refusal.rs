//! The refusals for another reason than a limit.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};

use super::grpc::{self, Code};
use super::problem;
use super::protocol::WireFormat;
use super::refusal_body::RefusalBody;
use super::refusal_template::{shared, write_http};
use crate::key::Fault;

/// A refusal whose content never changes.
pub(super) struct Fixed {
    status: StatusCode,
    code: Code,
    message: &'static str,
    problem: &'static str,
}

const NO_CLIENT_KEY: Fixed = Fixed {
    status: StatusCode::BAD_REQUEST,
    code: Code::InvalidArgument,
    message: "missing rate limit key",
    problem: r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"missing rate limit key"}"#,
};
const NO_SERVER_KEY: Fixed = Fixed {
    status: StatusCode::INTERNAL_SERVER_ERROR,
    code: Code::Internal,
    message: "rate limit key unavailable",
    problem: r#"{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"rate limit key unavailable"}"#,
};
pub(super) const UNAVAILABLE: Fixed = Fixed {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: Code::Unavailable,
    message: "the rate limiter is unavailable",
    problem: r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the rate limiter is unavailable"}"#,
};

/// The refusal of denied requests. It reveals only the status, so that 404 hides the deny list.
#[derive(Clone)]
pub(super) struct Denied {
    status: StatusCode,
    body: Bytes,
}

impl Denied {
    pub(super) fn new(status: StatusCode, form: RefusalBody) -> Self {
        let body = match form {
            RefusalBody::Problem => shared(problem::plain(status)),
            RefusalBody::Text => Bytes::from_static(problem::reason(status).as_bytes()),
            RefusalBody::Empty => Bytes::new(),
        };
        Self { status, body }
    }

    pub(super) fn write(&self, form: RefusalBody, wire: WireFormat, response: &mut Response<Bytes>) {
        if wire.is_grpc() {
            let message = const { HeaderValue::from_static("permission denied") };
            return grpc::write_status(Code::PermissionDenied, message, wire, response.headers_mut());
        }
        write_http(self.status, form, self.body.clone(), response);
    }
}

impl Fixed {
    /// The refusal of a request without a key.
    pub(super) fn missing_key(fault: Fault) -> &'static Self {
        match fault {
            Fault::Client => &NO_CLIENT_KEY,
            Fault::Server | Fault::PeerAddress | Fault::ProxyHeader => &NO_SERVER_KEY,
        }
    }

    pub(super) fn write(&self, form: RefusalBody, wire: WireFormat, response: &mut Response<Bytes>) {
        if wire.is_grpc() {
            let message = HeaderValue::from_static(self.message);
            return grpc::write_status(self.code, message, wire, response.headers_mut());
        }
        let body = match form {
            RefusalBody::Problem => self.problem,
            RefusalBody::Text => self.message,
            RefusalBody::Empty => "",
        };
        write_http(self.status, form, Bytes::from_static(body.as_bytes()), response);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_constant_problems_state_what_is_sent() {
        for Fixed { status, message, problem, .. } in [NO_CLIENT_KEY, NO_SERVER_KEY, UNAVAILABLE] {
            let title = status.canonical_reason();
            let want = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": message});
            assert_eq!(serde_json::from_str::<Value>(problem).unwrap(), want);
        }
    }
}
