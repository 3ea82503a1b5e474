//! Reads a list from the right.

use std::marker::PhantomData;
use std::net::IpAddr;

/// How a header writes its list.
pub(super) trait List {
    /// The part of a line that can be read from the right, or `None` if the line is unreadable.
    fn sound(line: &[u8]) -> Option<&[u8]>;

    /// The position of the last separator, or `None` if there is only one element.
    fn separator(unread: &[u8]) -> Option<usize>;

    fn read(element: &[u8]) -> Element;
}

/// One element of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// An address in canonical form, never IPv4-mapped.
    Address(IpAddr),
    /// The Unix socket of a proxy, which has no address.
    Unix,
    /// An element without an address: empty, `unknown` or obfuscated. It counts and is never skipped.
    Nothing,
    /// An element that no proxy writes. The rest of the list cannot be trusted.
    Malformed,
    /// A line with an unterminated quote, which a client opened.
    Unreadable,
}

/// The elements of a list from the right: from the last line to the first, and from the end of each line.
///
/// Except for [`List::sound`], a byte is read only when the iterator reaches its element.
pub(super) struct ReverseElements<'a, L, I> {
    lines: I,
    /// The unread rest of the current line, to the left of the last separator found.
    unread: Option<&'a [u8]>,
    list: PhantomData<L>,
}

impl<'a, L: List, I: DoubleEndedIterator<Item = &'a [u8]>> ReverseElements<'a, L, I> {
    pub(super) fn new(lines: I) -> Self {
        Self { lines, unread: None, list: PhantomData }
    }
}

impl<'a, L: List, I: DoubleEndedIterator<Item = &'a [u8]>> Iterator for ReverseElements<'a, L, I> {
    type Item = Element;

    fn next(&mut self) -> Option<Element> {
        let unread = match self.unread.take() {
            Some(unread) => unread,
            None => match L::sound(self.lines.next_back()?) {
                Some(line) => line,
                None => return Some(Element::Unreadable),
            },
        };
        let element = match L::separator(unread) {
            Some(at) => {
                self.unread = Some(&unread[..at]);
                &unread[at + 1..]
            }
            None => unread,
        };
        Some(L::read(element))
    }
}

#[cfg(test)]
mod tests {
    use super::super::forwarded::Forwarded;
    use super::super::forwarded_for::XForwardedFor;
    use super::*;

    const MIB: usize = 1 << 20;

    /// Reads `n` elements. Returns them and the unread rest of the current line.
    fn walk<'a, L: List>(lines: &[&'a [u8]], n: usize) -> (Vec<Element>, Option<&'a [u8]>) {
        let mut walk = ReverseElements::<L, _>::new(lines.iter().copied());
        (walk.by_ref().take(n).collect(), walk.unread)
    }

    fn ip(text: &str) -> Element {
        Element::Address(text.parse().unwrap())
    }

    #[test]
    fn the_walk_looks_only_at_what_it_was_asked_for() {
        for junk in ["6.6.6.6, ", "x", "\"", ","] {
            let junk = junk.repeat(MIB / junk.len());
            let line = format!("{junk},203.0.113.9, 10.0.0.7");
            for n in 1..=2 {
                let (elements, unread) = walk::<XForwardedFor>(&[b"never", line.as_bytes()], n);
                assert_eq!(elements, [ip("10.0.0.7"), ip("203.0.113.9")][..n]);
                let left = if n == 1 { junk.len() + ",203.0.113.9".len() } else { junk.len() };
                assert_eq!(unread.map(<[u8]>::len), Some(left));
            }
        }
    }

    #[test]
    fn an_earlier_line_is_read_only_after_the_later_ones() {
        let early = format!("for=\"{}", "x".repeat(MIB));
        let lines = [early.as_bytes(), b"for=203.0.113.9, for=10.0.0.7"];
        let (elements, unread) = walk::<Forwarded>(&lines, 1);
        assert_eq!((elements, unread), (vec![ip("10.0.0.7")], Some(&b"for=203.0.113.9"[..])));
        let (elements, unread) = walk::<Forwarded>(&lines, 9);
        assert_eq!((elements, unread), (vec![ip("10.0.0.7"), ip("203.0.113.9"), Element::Unreadable], None));
    }

    #[test]
    fn empty_elements_and_lines_are_counted() {
        let lines: [&[u8]; 3] = [b",", b"", b"192.0.2.1,,"];
        let nothing = Element::Nothing;
        assert_eq!(walk::<XForwardedFor>(&lines, 9).0, [nothing, nothing, ip("192.0.2.1"), nothing, nothing, nothing]);
    }
}
