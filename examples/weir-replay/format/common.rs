//! The common and the combined format of nginx and Apache.
//!
//! ```text
//! 203.0.113.9 - ann [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 2326
//! 203.0.113.9 - ann [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 2326 "http://from/" "curl/8" "198.51.100.7"
//! ```
//!
//! A virtual host may stand before the client. The last field is that of nginx's default format.

use super::text::{MAX_NAMED, Parts, Rest};

/// The fields of both formats; the first is the client.
pub(super) const COMMON: &[&str] = &["client", "user"];
pub(super) const COMBINED: &[&str] = &["client", "user", "referer", "user-agent", "x-forwarded-for"];

/// Splits a line. Only the combined format has what follows the size.
pub(super) fn split(line: &[u8], is_combined: bool) -> Result<Parts<'_>, &'static str> {
    // The name of a user is what a client sent. It may contain blanks and brackets, but servers escape quotes in it.
    let end = end_of_time(line).ok_or("no time in brackets before a request in quotes")?;
    let start = memchr::memrchr(b'[', &line[..end]).ok_or("no time in brackets")?;
    let (mut head, time, mut rest) = (Rest(&line[..start]), &line[start + 1..end], Rest(&line[end + 1..]));
    let mut client = head.word().ok_or("no client")?;
    // `host client ident user`: only a host precedes two words and the user.
    let mut second = Rest(head.0);
    if let Some(word) = second.word()
        && word != b"-"
        && Rest(second.0).word().is_some()
        && is_address(word)
    {
        (client, head) = (word, second);
    }
    let _ident = head.word().ok_or("no user")?;
    let user = head.0.trim_ascii();
    let request = rest.quoted().ok_or("no request in quotes")?;
    let status = rest.word().ok_or("no status")?;
    let mut named: [&[u8]; MAX_NAMED] = [b""; MAX_NAMED];
    (named[0], named[1]) = (client, user);
    if is_combined {
        let _size = rest.word();
        named[2] = rest.quoted().ok_or("no referer in quotes")?;
        named[3] = rest.quoted().ok_or("no user agent in quotes")?;
        named[4] = rest.quoted().unwrap_or_default();
    }
    Ok(Parts { time, request, status, named })
}

/// The place of the bracket before the first quote that is not escaped.
fn end_of_time(line: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'"', line).find_map(|quote| line[..quote].ends_with(b"] ").then(|| quote - 2))
}

fn is_address(word: &[u8]) -> bool {
    std::str::from_utf8(word).is_ok_and(|word| word.parse::<std::net::IpAddr>().is_ok())
}
