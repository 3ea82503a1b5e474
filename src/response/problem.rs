//! Problem details (RFC 9457), with the types of draft-ietf-httpapi-ratelimit-headers section 10.2.
//!
//! The details contain no keys, addresses or errors.

use std::fmt::Write;

use http::StatusCode;

/// The problem for a refusal by the limits with these names.
pub(super) fn violated<'a>(status: StatusCode, detail: Option<&str>, names: impl Iterator<Item = &'a str>) -> String {
    let (kind, title) = match status.is_server_error() {
        false => ("quota-exceeded", "Request cannot be satisfied as assigned quota has been exceeded"),
        true => {
            ("temporary-reduced-capacity", "Request cannot be satisfied due to temporary server capacity constraints")
        }
    };
    let status = status.as_u16();
    let mut json = format!(
        "{{\"type\":\"https://iana.org/assignments/http-problem-types#{kind}\",\"title\":\"{title}\",\"status\":{status}"
    );
    if let Some(detail) = detail {
        json.push_str(",\"detail\":");
        string(&mut json, detail);
    }
    json.push_str(",\"violated-policies\":[");
    for (n, name) in names.enumerate() {
        json.push_str(if n == 0 { "" } else { "," });
        string(&mut json, name);
    }
    json.push_str("]}");
    json
}

/// The problem that only names a status.
pub(super) fn plain(status: StatusCode) -> String {
    let (title, status) = (reason(status), status.as_u16());
    format!("{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status}}}")
}

/// The phrase of a status, such as "Forbidden".
pub(super) fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Request Refused")
}

/// A JSON string (RFC 8259 section 7).
fn string(json: &mut String, text: &str) {
    json.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => json.extend(['\\', char]),
            // Writing to a string cannot fail.
            '\0'..' ' => write!(json, "\\u{:04x}", u32::from(char)).unwrap_or(()),
            _ => json.push(char),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_quota_problem_equals_the_example_of_the_draft() {
        assert_eq!(
            violated(StatusCode::TOO_MANY_REQUESTS, None, ["burst"].into_iter()),
            r##"{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Request cannot be satisfied as assigned quota has been exceeded","status":429,"violated-policies":["burst"]}"##
        );
    }

    #[test]
    fn every_body_is_json_with_the_status_that_is_sent() {
        let nasty = "a\"b\\c\u{1}\n\u{7f}é\u{2028}";
        for status in [429, 503, 400, 599].map(|status| StatusCode::from_u16(status).unwrap()) {
            let body = violated(status, Some(nasty), [nasty, "b"].into_iter());
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["status"], status.as_u16());
            assert_eq!((&body["violated-policies"], &body["detail"]), (&json!([nasty, "b"]), &json!(nasty)));
            let is_overload = body["type"].as_str().unwrap().ends_with("#temporary-reduced-capacity");
            assert_eq!(is_overload, status.is_server_error());
            let plain: Value = serde_json::from_str(&plain(status)).unwrap();
            let want = json!({"type": "about:blank", "title": reason(status), "status": status.as_u16()});
            assert_eq!(plain, want);
        }
    }
}
