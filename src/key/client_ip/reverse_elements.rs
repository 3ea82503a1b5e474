//! The walk over a list, from the right.

use std::marker::PhantomData;
use std::net::IpAddr;

/// How a header writes its list.
pub(super) trait List {
    /// The part of a line that can be walked from the right; nothing where the line cannot be read at all.
    fn sound(line: &[u8]) -> Option<&[u8]>;

    /// Where the last separator stands; nothing where there is but one element.
    fn separator(unread: &[u8]) -> Option<usize>;

    fn read(element: &[u8]) -> Element;
}

/// What stands in one place of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// In canonical form: never IPv4-mapped.
    Address(IpAddr),
    /// The Unix socket of a proxy, which has no address.
    Unix,
    /// Nothing that is an address: empty, `unknown`, obfuscated. It is counted and never skipped.
    Nothing,
    /// What no proxy writes: the list cannot be trusted from here on.
    Malformed,
    /// A whole line in which a quote does not end: some client opened it.
    Unreadable,
}

/// The elements of a list from the right: from the last line to the first, and from the end of each.
///
/// A byte is looked at only when the walk comes to its element, [`List::sound`] apart.
pub(super) struct ReverseElements<'a, L, I> {
    lines: I,
    /// What is left of the line under way, to the left of its last separator that was seen.
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

    /// Walks `n` elements; the elements, and what was never looked at of the line under way.
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
    fn an_earlier_line_is_looked_at_only_when_the_later_ones_are_over() {
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
