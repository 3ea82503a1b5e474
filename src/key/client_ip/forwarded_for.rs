//! The `X-Forwarded-For` header: addresses and commas only.

use super::node;
use super::reverse_elements::{Element, List};

#[derive(Debug)]
pub(super) enum XForwardedFor {}

impl List for XForwardedFor {
    fn sound(line: &[u8]) -> Option<&[u8]> {
        Some(line)
    }

    fn separator(unread: &[u8]) -> Option<usize> {
        unread.iter().rposition(|&byte| byte == b',')
    }

    /// The header has no grammar, so no element is malformed.
    fn read(element: &[u8]) -> Element {
        match node::loose(element) {
            Some(address) => Element::Address(address),
            None if node::is_unix(element) => Element::Unix,
            None => Element::Nothing,
        }
    }
}
