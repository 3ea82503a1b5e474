//! The key is what the application reads, or there is no key: the usual readers judge every spelling.
//!
//! Two requests in which a reader finds the same value must not have two budgets. And the twin: a plain credential
//! has a key, and different credentials have different ones.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use axum_extra::extract::CookieJar;
use axum_extra::headers::authorization::{Basic, Bearer};
use axum_extra::headers::{Authorization, Cookie as TypedCookie, HeaderMapExt, Host};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use proptest::prelude::*;
use tower_weir::KeyExtractor;
use tower_weir::key::{Cookie, Header, KeyWriter, RequestView};

/// What a reader finds in a request, if it finds anything.
type Reader = (&'static str, fn(&HeaderMap) -> Option<Vec<u8>>);

fn request(name: &HeaderName, lines: &[Vec<u8>]) -> Option<Request<()>> {
    let mut request = Request::new(());
    for line in lines {
        request.headers_mut().append(name, HeaderValue::from_bytes(line).ok()?);
    }
    Some(request)
}

fn key(extractor: &impl KeyExtractor, request: &Request<()>) -> Option<Vec<u8>> {
    let mut out = KeyWriter::new();
    extractor.key(&RequestView::new(request), &mut out).ok()?;
    Some(out.as_bytes().to_vec())
}

/// One value for a reader is one key, or no key.
fn assert_one_key(reader: &Reader, extractor: &impl KeyExtractor, a: &Request<()>, b: &Request<()>) {
    let (name, read) = reader;
    let (Some(read_a), Some(read_b)) = (read(a.headers()), read(b.headers())) else { return };
    let (Some(key_a), Some(key_b)) = (key(extractor, a), key(extractor, b)) else { return };
    assert!(read_a != read_b || key_a == key_b, "{name} reads one value: {:?} and {:?}", a.headers(), b.headers());
}

const COOKIES: [Reader; 6] = [
    ("axum-extra's jar", |headers| Some(CookieJar::from_headers(headers).get("s")?.value().into())),
    ("axum-extra's jar, trimmed", |headers| Some(CookieJar::from_headers(headers).get("s")?.value_trimmed().into())),
    ("the typed header", |headers| Some(headers.typed_get::<TypedCookie>()?.get("s")?.into())),
    ("tower-cookies, and what it does with the jar", |headers| {
        // Its jar is filled by this call, and the last cookie of a name wins.
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let cookies = lines.flat_map(|line| line.split(';'));
        let mut parsed = cookies.filter_map(|cookie| tower_cookies::Cookie::parse_encoded(cookie.to_owned()).ok());
        Some(parsed.rfind(|cookie| cookie.name() == "s")?.value().into())
    }),
    ("a reader that decodes nothing", |headers| {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut parsed = lines.flat_map(tower_cookies::Cookie::split_parse).flatten();
        Some(parsed.find(|cookie| cookie.name() == "s")?.value().into())
    }),
    ("a reader that takes the first", |headers| {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut parsed = lines.flat_map(tower_cookies::Cookie::split_parse_encoded).flatten();
        Some(parsed.find(|cookie| cookie.name() == "s")?.value_trimmed().into())
    }),
];

const CREDENTIALS: [Reader; 7] = [
    ("Bearer", |headers| Some(headers.typed_get::<Authorization<Bearer>>()?.token().into())),
    ("Basic", |headers| {
        let basic = headers.typed_get::<Authorization<Basic>>()?;
        Some(format!("{}:{}", basic.username(), basic.password()).into_bytes())
    }),
    ("the first line", |headers| Some(headers.get(header::AUTHORIZATION)?.as_bytes().into())),
    ("the last line", |headers| Some(headers.get_all(header::AUTHORIZATION).iter().next_back()?.as_bytes().into())),
    ("the second word", |headers| {
        Some(headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_whitespace().nth(1)?.into())
    }),
    ("with or without Bearer", |headers| {
        let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        Some(text.strip_prefix("Bearer ").unwrap_or(text).trim().into())
    }),
    ("replaced where it is no text", |headers| {
        let value = headers.get(header::AUTHORIZATION)?.as_bytes();
        Some(String::from_utf8_lossy(value).trim().as_bytes().to_vec())
    }),
];

const PLAIN: [Reader; 4] = [
    ("the first line", |headers| Some(headers.get("x-api-key")?.as_bytes().into())),
    ("the last line", |headers| Some(headers.get_all("x-api-key").iter().next_back()?.as_bytes().into())),
    ("text without blanks", |headers| Some(headers.get("x-api-key")?.to_str().ok()?.trim().into())),
    ("replaced where it is no text", |headers| {
        Some(String::from_utf8_lossy(headers.get("x-api-key")?.as_bytes()).trim().as_bytes().to_vec())
    }),
];

const HOSTS: [Reader; 1] =
    [("the typed header", |headers| Some(headers.typed_get::<Host>()?.hostname().to_ascii_lowercase().into_bytes()))];

/// Lines made of parts that readers treat in their own ways. Half of them are one short value behind a usual
/// beginning, so that many pairs are two spellings of one.
fn lines(beginnings: &'static [&'static [u8]], parts: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let some = |most| prop::collection::vec(prop::sample::select(parts), 0..most).prop_map(|parts| parts.concat());
    let short = (prop::sample::select(beginnings), some(3));
    prop_oneof![
        prop::collection::vec(some(7), 1..3),
        short.prop_map(|(beginning, value)| vec![[beginning, &value].concat()]),
    ]
}

fn cookie_lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    lines(&[b"s=", b"s=", b"s = ", b"x=; s="], COOKIE_PARTS)
}

const COOKIE_PARTS: &[&[u8]] = &[
    b"s=", b"s=", b"s=", b"s = ", b"%73=", b"S=", b"=", b";", b"; ", b"a", b"a", b"%61", b"%41", b"\"", b"\"", b"%22",
    b" ", b"\t", b"%20", b"%", b"%2", b"%ff", b"\xff", b"%C3%BC", b"\\", b"+", b",", b"x=",
];

fn credential_lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    lines(&[b"Bearer ", b"bearer  ", b"Basic ", b"basic\t"], CREDENTIAL_PARTS)
}

const CREDENTIAL_PARTS: &[&[u8]] = &[
    b"Bearer ",
    b"bearer ",
    b"BEARER ",
    b"Bearer\t",
    b"Basic ",
    b"basic ",
    b"Token ",
    b" ",
    b"\t",
    b"YTpi",
    b"YTpi",
    b"YTpiYg==",
    b"YTpiYh==",
    b"YTpiYg",
    b"=",
    b"==",
    b"a",
    b"A",
    b",",
    b"\xff",
    b"\xfe",
    b"\xc2\xa0",
];

fn plain_lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    lines(&[b"a", b" a"], PLAIN_PARTS)
}

const PLAIN_PARTS: &[&[u8]] = &[b"a", b"a", b"A", b" ", b"\t", b",", b"\"", b"%61", b"\xff", b"\xfe", b"\xc2\xa0"];

fn host_lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    lines(&[b"a.example", b"A.example"], HOST_PARTS)
}

const HOST_PARTS: &[&[u8]] = &[b"a.example", b"A.Example", b"b", b":80", b":8080", b"@", b"[::1]", b".", b" "];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(8_000) })]

    #[test]
    fn one_cookie_has_one_key(a in cookie_lines(), b in cookie_lines()) {
        if let (Some(a), Some(b)) = (request(&header::COOKIE, &a), request(&header::COOKIE, &b)) {
            for reader in &COOKIES {
                assert_one_key(reader, &Cookie::new("s"), &a, &b);
                assert_one_key(reader, &Cookie::new("s").hashed(), &a, &b);
            }
        }
    }

    #[test]
    fn one_credential_has_one_key(a in credential_lines(), b in credential_lines()) {
        let name = header::AUTHORIZATION;
        if let (Some(a), Some(b)) = (request(&name, &a), request(&name, &b)) {
            for reader in &CREDENTIALS {
                assert_one_key(reader, &Header::from(name.clone()), &a, &b);
                assert_one_key(reader, &Header::from(name.clone()).hashed(), &a, &b);
            }
        }
    }

    #[test]
    fn one_value_has_one_key(a in plain_lines(), b in plain_lines()) {
        let name = HeaderName::from_static("x-api-key");
        if let (Some(a), Some(b)) = (request(&name, &a), request(&name, &b)) {
            for reader in &PLAIN {
                assert_one_key(reader, &Header::new("x-api-key"), &a, &b);
            }
        }
    }

    #[test]
    fn one_host_has_one_key(a in host_lines(), b in host_lines()) {
        if let (Some(a), Some(b)) = (request(&header::HOST, &a), request(&header::HOST, &b)) {
            for reader in &HOSTS {
                assert_one_key(reader, &Header::new("host"), &a, &b);
            }
        }
    }

    /// The twin: what a jar writes has a key, and other values have other keys. Quotes alone do not count.
    #[test]
    fn a_plain_cookie_has_a_key(a in "[ !#-~\u{e4}\u{20ac}]{1,90}", b in "[ !#-~]{1,9}") {
        let sent = |value: &str| {
            let cookie = tower_cookies::Cookie::new("s", value.to_owned()).encoded().to_string();
            request(&header::COOKIE, &[format!("theme=dark; {cookie}; lang=en").into_bytes()]).unwrap()
        };
        let key_of = |value: &str| key(&Cookie::new("s"), &sent(value));
        prop_assert!(key_of(&a).is_some(), "{a}");
        prop_assert_eq!(a == b, key_of(&a) == key_of(&b));
        let hashed = |value: &str| key(&Cookie::new("s").hashed(), &sent(value));
        prop_assert_eq!(a == b, hashed(&a) == hashed(&b));
    }

    #[test]
    fn a_plain_credential_has_a_key(a in "[A-Za-z0-9._~+/-]{1,90}={0,2}", b in "[A-Za-z0-9._~+/-]{1,3}") {
        for (name, value) in [
            (header::AUTHORIZATION, (|token| format!("Bearer {token}")) as fn(&str) -> String),
            (header::PROXY_AUTHORIZATION, |token| format!("Bearer {token}")),
            (HeaderName::from_static("x-api-key"), str::to_owned),
        ] {
            let key_of = |token: &str| key(&Header::from(name.clone()), &request(&name, &[value(token).into()]).unwrap());
            prop_assert!(key_of(&a).is_some(), "{name}: {a}");
            prop_assert_eq!(a == b, key_of(&a) == key_of(&b));
        }
    }

    #[test]
    fn a_plain_user_has_a_key(a in ("[^:]{0,9}", ".{0,9}"), b in ("[^:]{0,2}", ".{0,2}")) {
        let key_of = |(user, password): &(String, String)| {
            let mut request = Request::new(());
            request.headers_mut().typed_insert(Authorization::basic(user, password));
            key(&Header::new("authorization"), &request)
        };
        prop_assert!(key_of(&a).is_some(), "{a:?}");
        prop_assert_eq!(a == b, key_of(&a) == key_of(&b));
    }
}

/// The attacks that the properties generalise, each through the reader that it deceives.
#[test]
fn one_session_has_one_budget_whatever_its_spelling() {
    let jar = &COOKIES[0];
    let plain = request(&header::COOKIE, &[b"s=sessions".to_vec()]).unwrap();
    for bits in 0..256_u32 {
        // Each of the eight letters is written plainly or in percent-encoding.
        let letter = |(at, byte): (usize, &u8)| match bits >> at & 1 {
            0 => char::from(*byte).to_string(),
            _ => format!("%{byte:02x}"),
        };
        let value: String = b"sessions".iter().enumerate().map(letter).collect();
        let spelled = request(&header::COOKIE, &[format!("s={value}").into_bytes()]).unwrap();
        assert_eq!((jar.1)(spelled.headers()), (jar.1)(plain.headers()));
        assert_eq!(key(&Cookie::new("s"), &spelled), key(&Cookie::new("s"), &plain), "{value}");
    }
}
