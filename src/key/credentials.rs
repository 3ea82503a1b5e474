//! The one spelling of a header value on which the common readers agree.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::key::missing_key::MissingKey;

/// The value of a header that is a key, in the form on which all common readers agree.
///
/// Two values that such a reader treats as equal give the same text, or none.
pub(super) fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Cow<'a, str>, MissingKey> {
    let mut lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let line = lines.next().ok_or(MISSING)?;
    // Some readers use the first line and others the last, so no value is right for both.
    if lines.next().is_some() {
        return Err(SEVERAL);
    }
    // A reader that replaces invalid UTF-8 maps many such values to one.
    let text = std::str::from_utf8(line).map_err(|_| NO_TEXT)?.trim();
    match *name {
        _ if text.is_empty() => Err(EMPTY),
        header::AUTHORIZATION | header::PROXY_AUTHORIZATION => credentials(text).map(Cow::Borrowed),
        header::HOST => host(text),
        _ => Ok(Cow::Borrowed(text)),
    }
}

/// The credentials without their scheme (RFC 9110, section 11.4).
///
/// Readers ignore the case of the scheme and the number of spaces after it. Some ignore the scheme entirely, and some
/// read only the second word. So the scheme is not part of the key, and a value of three words has no key.
fn credentials(text: &str) -> Result<&str, MissingKey> {
    let is = |name: &str, scheme: &str| scheme.eq_ignore_ascii_case(name);
    let mut words = text.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(scheme), None, _) if is("bearer", scheme) || is("basic", scheme) => Err(EMPTY),
        (Some(only), None, _) => Ok(only),
        (Some(scheme), Some(credentials), None) if is("basic", scheme) => {
            if is_canonical_base64(credentials.as_bytes()) { Ok(credentials) } else { Err(NO_BASE64) }
        }
        (Some(_), Some(credentials), None) => Ok(credentials),
        _ => Err(SEVERAL_WORDS),
    }
}

/// Whether no other text decodes to the same bytes. Such a text is padded and has no bits beyond the last byte (RFC
/// 4648, section 3.5).
fn is_canonical_base64(text: &[u8]) -> bool {
    let symbols = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let Some(last) = symbols.last().copied().map(symbol) else { return false };
    let unused = match text.len() - symbols.len() {
        0 => 0,
        1 => 0b11,
        _ => 0b1111,
    };
    text.len().is_multiple_of(4)
        && symbols.iter().all(|&byte| symbol(byte).is_some())
        && last.is_some_and(|last| last & unused == 0)
}

/// The six bits that a character encodes.
fn symbol(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// The host in lower case, without its port and without the dot of the root domain.
fn host(text: &str) -> Result<Cow<'_, str>, MissingKey> {
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']').ok_or(NO_HOST)? + 2,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (name, port) = text.split_at(end);
    let port = port.strip_prefix(':').unwrap_or(port);
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || !name.bytes().all(is_legal) || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NO_HOST);
    }
    let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    Ok(if is_lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) })
}

const MISSING: MissingKey = MissingKey::client_fault("the header that is the key is missing");
const SEVERAL: MissingKey = MissingKey::client_fault("the header that is the key has several lines");
const NO_TEXT: MissingKey = MissingKey::client_fault("the header that is the key is not UTF-8");
const EMPTY: MissingKey = MissingKey::client_fault("the header that is the key is empty");
const NO_BASE64: MissingKey = MissingKey::client_fault("the Basic credentials are not canonical base64");
const SEVERAL_WORDS: MissingKey = MissingKey::client_fault("the credentials are more than a scheme and one word");
const NO_HOST: MissingKey = MissingKey::client_fault("the Host header names no host");

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &HeaderName, lines: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line).unwrap());
        }
        value(&headers, name).ok().map(Cow::into_owned)
    }

    #[test]
    fn a_header_has_one_line_of_text() {
        let name = HeaderName::from_static("x-api-key");
        for (lines, want) in [
            (&[&b"abc"[..]][..], Some("abc")),
            (&[b" abc\t"], Some("abc")),
            (&["abc\u{a0}".as_bytes()], Some("abc")),
            (&[b"a b, c"], Some("a b, c")),
            (&["J\u{fc}rgen".as_bytes()], Some("J\u{fc}rgen")),
            (&[], None),
            (&[b""], None),
            (&[b" "], None),
            (&[b"\xff"], None),
            (&[b"abc", b"abc"], None),
            (&[b"abc", b"17"], None),
            (&[b"abc", b""], None),
        ] {
            assert_eq!(read(&name, lines).as_deref(), want, "{lines:?}");
        }
    }

    #[test]
    fn credentials_have_one_spelling() {
        for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION] {
            for (line, want) in [
                ("Bearer abc", Some("abc")),
                ("bearer   abc ", Some("abc")),
                ("BEARER\tabc", Some("abc")),
                ("Token abc", Some("abc")),
                ("abc", Some("abc")),
                ("Bearer Abc", Some("Abc")),
                ("Bearer abc def", None),
                ("Bearer ", None),
                ("basic", None),
                ("Digest username=\"a\", realm=\"b\"", None),
                ("Basic YTpi", Some("YTpi")),
                ("basic  YTpi", Some("YTpi")),
                ("Basic YTpiYw==", Some("YTpiYw==")),
                ("Basic YTpiYw", None),
                ("Basic YTpiYw=", None),
                ("Basic YTpiYx==", None),
                ("Basic YTpiYmI=", Some("YTpiYmI=")),
                ("Basic YTpiYmJ=", None),
                ("Basic YTp_", None),
                ("Basic ====", None),
                ("Basic =", None),
                ("Basic Y===", None),
            ] {
                assert_eq!(read(&name, &[line.as_bytes()]).as_deref(), want, "{line}");
            }
        }
    }

    #[test]
    fn a_host_has_one_spelling() {
        for (line, want) in [
            ("example.com", Some("example.com")),
            ("EXAMPLE.com:8080", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("example.com.:80", Some("example.com")),
            ("[2001:DB8::1]:80", Some("[2001:db8::1]")),
            ("[2001:db8::1]", Some("[2001:db8::1]")),
            ("a@example.com", None),
            (":80[::1]", None),
            ("[::1", None),
            ("example.com:a", None),
            ("a,b", None),
            (":80", None),
            (".", None),
        ] {
            assert_eq!(read(&header::HOST, &[line.as_bytes()]).as_deref(), want, "{line}");
        }
    }
}
