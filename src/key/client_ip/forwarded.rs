//! The `Forwarded` header (RFC 7239): pairs and quotes.
//!
//! Whether a comma near the end of a line is quoted depends on the beginning of the line. So each line is scanned once
//! from the left for its quotes, and then read from the right as far as necessary. Without the scan, a client could
//! open a quote and move the borders of the elements that the proxies append.

use super::node;
use super::reverse_elements::{Element, List};

#[derive(Debug)]
pub(super) enum Forwarded {}

impl List for Forwarded {
    /// Returns `None` if a quote is unterminated.
    ///
    /// A quote that opens after a backslash is ambiguous, because it looks escaped when read from the right. The line
    /// is cut there. No legal element has a backslash outside quotes, so the element at the cut is malformed, whether
    /// whole or not. The walk therefore never reads the part to its left.
    fn sound(line: &[u8]) -> Option<&[u8]> {
        let (mut at, mut start) = (0, 0);
        while let Some(opening) = find(line, at, |byte| byte == b'"') {
            if line[..opening].ends_with(b"\\") {
                start = opening;
            }
            at = end_of_quote(line, opening + 1)?;
        }
        Some(&line[start..])
    }

    fn separator(unread: &[u8]) -> Option<usize> {
        let mut end = unread.len();
        loop {
            let at = unread[..end].iter().rposition(|&byte| matches!(byte, b',' | b'"'))?;
            if unread[at] == b',' {
                return Some(at);
            }
            // The quote closes, because every quote of a sound line does. Continue before its opening quote.
            end = start_of_quote(unread, at)?;
        }
    }

    fn read(element: &[u8]) -> Element {
        match pairs(element) {
            None => Element::Malformed,
            Some(None) => Element::Nothing,
            Some(Some(node)) => node.read(),
        }
    }
}

fn find(bytes: &[u8], from: usize, is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    bytes[from..].iter().position(|&byte| is_wanted(byte)).map(|at| from + at)
}

/// The position after the quote that ends a quoted string whose content begins at `at`.
fn end_of_quote(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = find(bytes, at, |byte| matches!(byte, b'"' | b'\\'))?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
        if at > bytes.len() {
            return None;
        }
    }
}

/// The position of the quote that begins the quoted string which ends at `closing`.
fn start_of_quote(bytes: &[u8], closing: usize) -> Option<usize> {
    let mut end = closing;
    loop {
        let at = bytes[..end].iter().rposition(|&byte| byte == b'"')?;
        let backslashes = bytes[..at].iter().rev().take_while(|&&byte| byte == b'\\').count();
        if backslashes % 2 == 0 {
            return Some(at);
        }
        end = at - backslashes;
    }
}

/// The value of `for`, as the header contains it.
#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a [u8],
    is_quoted: bool,
}

impl Node<'_> {
    fn read(self) -> Element {
        // This is longer than any address with a port.
        let mut room = [0; 96];
        let Some(node) = self.unescaped(&mut room) else { return Element::Nothing };
        match node::forwarded(node) {
            Some(address) => Element::Address(address),
            None if node::is_unix(node) => Element::Unix,
            None => Element::Nothing,
        }
    }

    fn unescaped<'a>(&'a self, room: &'a mut [u8; 96]) -> Option<&'a [u8]> {
        if !self.is_quoted {
            return Some(self.value);
        }
        let (mut len, mut bytes) = (0, self.value.iter());
        while let Some(&byte) = bytes.next() {
            *room.get_mut(len)? = if byte == b'\\' { *bytes.next()? } else { byte };
            len += 1;
        }
        Some(&room[..len])
    }
}

/// The node of an element, if the element has one. Returns `None` if the element is malformed.
fn pairs(element: &[u8]) -> Option<Option<Node<'_>>> {
    let mut node = None;
    let mut rest = node::trim(element);
    while !rest.is_empty() {
        // The grammar allows an empty pair and a semicolon at the end.
        if let Some(next) = rest.strip_prefix(b";") {
            rest = node::trim(next);
            continue;
        }
        let (name, after) = token(rest)?;
        let (value, after) = value(after.strip_prefix(b"=")?)?;
        if name.eq_ignore_ascii_case(b"for") && node.replace(value).is_some() {
            return None;
        }
        rest = node::trim(after);
        if !(rest.is_empty() || rest.starts_with(b";")) {
            return None;
        }
    }
    Some(node)
}

/// A value and the rest after it.
///
/// Common proxy configurations copy values unchanged: `for=2001:db8::7`, `host=example.com:8080`, or an empty one. So
/// a value without quotes may contain any bytes except whitespace and separators. A quote or a backslash in it is the
/// rest of a quoted string with moved borders.
fn value(bytes: &[u8]) -> Option<(Node<'_>, &[u8])> {
    if bytes.starts_with(b"\"") {
        let end = end_of_quote(bytes, 1)?;
        return Some((Node { value: &bytes[1..end - 1], is_quoted: true }, &bytes[end..]));
    }
    let is_border = |byte| matches!(byte, b';' | b' ' | b'\t' | b'"' | b'\\');
    let (value, rest) = bytes.split_at(find(bytes, 0, is_border).unwrap_or(bytes.len()));
    Some((Node { value, is_quoted: false }, rest))
}

/// A token (RFC 9110 section 5.6.2), and the rest after it.
fn token(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let len = bytes.iter().take_while(|byte| is_legal(byte)).count();
    (len > 0).then(|| bytes.split_at(len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reverse_elements::ReverseElements;
    use super::*;

    /// The elements of a line in the order of a reader from the left. Returns `None` if a quote is unterminated.
    fn naive(line: &[u8]) -> Option<Vec<&[u8]>> {
        let (mut elements, mut start, mut is_quoted, mut at) = (Vec::new(), 0, false, 0);
        while at < line.len() {
            match line[at] {
                b'"' => is_quoted = !is_quoted,
                b'\\' if is_quoted => at += 1,
                b',' if !is_quoted => {
                    elements.push(&line[start..at]);
                    start = at + 1;
                }
                _ => {}
            }
            at += 1;
        }
        elements.push(&line[start..]);
        (!is_quoted).then_some(elements)
    }

    fn walk(line: &[u8]) -> Vec<Element> {
        ReverseElements::<Forwarded, _>::new(std::iter::once(line)).collect()
    }

    fn assert_as_from_the_left(line: &[u8]) {
        let want = match naive(line) {
            None => vec![Element::Unreadable],
            Some(elements) => elements.into_iter().rev().map(Forwarded::read).collect(),
        };
        // A reader stops at a malformed element, so the rest is unspecified.
        let till = want.iter().position(|element| *element == Element::Malformed).map_or(want.len(), |at| at + 1);
        let got = walk(line);
        assert_eq!(got.get(..till), Some(&want[..till]), "{:?}", String::from_utf8_lossy(line));
        assert!(till < want.len() || got.len() == want.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_walk_finds_the_elements_of_a_reader_from_the_left(line in r#"[",;\\=x ]{0,24}"#) {
            assert_as_from_the_left(line.as_bytes());
        }

        #[test]
        fn the_walk_finds_legal_elements(
            line in prop::collection::vec(
                prop::sample::select(vec![
                    "for=192.0.2.7", "for=2001:db8::7", "for=unix:", "FOR=\"[2001:db8::7]:4711\"", "host=\"a\\\"b,c\"", "x=\"\\\\\"", "x=\"\"", ",", ",", ";",
                    " ", "\"", "\\", "for=_x", "proto=https",
                ]),
                0..12,
            )
        ) {
            assert_as_from_the_left(line.concat().as_bytes());
        }

        #[test]
        fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..64)) {
            walk(&line);
            Forwarded::read(&line);
        }
    }

    #[test]
    fn an_element_is_read_by_its_grammar() {
        use Element::{Malformed, Nothing, Unix};

        const V6: Element =
            Element::Address(std::net::IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)));
        let seven = Element::Address("192.0.2.7".parse().unwrap());
        for (element, want) in [
            ("for=192.0.2.7", seven),
            (" \tfor=192.0.2.7 ", seven),
            (";; ;for=192.0.2.7 ; proto=https;", seven),
            ("ext=!#$%&'*+-.^_`|~;for=192.0.2.7", seven),
            ("for=\"\\1\\9\\2.0.2.7\"", seven),
            ("for=\"192.0.2.7:_x\"", seven),
            ("for=\"[::ffff:192.0.2.7]\"", seven),
            ("", Nothing),
            (" ; ", Nothing),
            ("proto=https", Nothing),
            ("for=unknown", Nothing),
            ("for=\"\"", Nothing),
            ("for=192.0.2.007", Nothing),
            ("for=\"192.0.2.7 \"", Nothing),
            ("for=[2001:db8::7]:4711;proto=https", V6),
            ("for=2001:db8::7;proto=https;host=example.com:8080", V6),
            ("for=\"2001:db8::7\"", V6),
            ("FOR=2001:db8:0:0:0:0:0:7:4711", V6),
            ("by=;for=192.0.2.7:80;host=", seven),
            ("for=unix:", Unix),
            ("for=\"unix:\";proto=http", Unix),
            ("for=unix", Nothing),
            ("for=", Nothing),
            ("for", Malformed),
            ("for=192.0.2.7\"\"", Malformed),
            ("for=192.0.2.7;host=a\\", Malformed),
            ("for=192.0.2.7;host=a\"b\"", Malformed),
            ("=192.0.2.7", Malformed),
            ("for =192.0.2.7", Malformed),
            ("for= 192.0.2.7", Malformed),
            ("for=192.0.2.7 proto=https", Malformed),
            ("for=\"192.0.2.7\"proto=https", Malformed),
            ("for=\"192.0.2.7\"\"\"", Malformed),
            ("for=a;FOR=192.0.2.7", Malformed),
            ("for=\"192.0.2.7", Malformed),
            ("for=\"192.0.2.7\\\"", Malformed),
            ("for=\"192.0.2.7\\", Malformed),
        ] {
            assert_eq!(Forwarded::read(element.as_bytes()), want, "{element}");
        }
        let long = format!("for=\"{}\"", "\\1".repeat(1_000));
        assert_eq!(Forwarded::read(long.as_bytes()), Nothing);
    }
}
