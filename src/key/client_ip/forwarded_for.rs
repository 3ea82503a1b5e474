//! `X-Forwarded-For`: addresses, commas and nothing else.

use super::node;
use super::walk::{Element, List};

#[derive(Debug)]
pub(super) enum XForwardedFor {}

impl List for XForwardedFor {
    fn sound(line: &[u8]) -> Option<&[u8]> {
        Some(line)
    }

    fn separator(unread: &[u8]) -> Option<usize> {
        unread.iter().rposition(|&byte| byte == b',')
    }

    /// There is no grammar to violate: what is no address is nothing.
    fn read(element: &[u8]) -> Element {
        node::loose(element).map_or(Element::Nothing, Element::Address)
    }
}
