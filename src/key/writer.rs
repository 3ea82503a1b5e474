//! The bytes of a key, and the values that can be written to them.

use std::fmt;

/// A value that can be a key, or a part of one.
///
/// Implement it by writing the parts of your type.
///
/// # Equal keys
///
/// Values of different types are different keys. The exceptions are these groups, in which equal values are one key:
///
/// - text: `str`, `String`, and the names of a [`Method`](http::Method) and a [`HeaderName`](http::HeaderName),
/// - bytes: `[u8]`, `[u8; N]`, `Vec<u8>`, [`Bytes`](bytes::Bytes), [`HeaderValue`](http::HeaderValue),
/// - unsigned integers up to 64 bits, with their `NonZero` forms,
/// - all signed integers, with their `NonZero` forms,
/// - `u128` and `NonZeroU128`,
/// - an address and an `IpAddr` that contains it,
/// - a value and a reference, `Box`, `Rc`, `Arc` or `Cow` of it.
///
/// A type of your own is equal to the sequence of the values that it writes.
///
/// # Addresses
///
/// An `IpAddr` is the whole address. The owner of an IPv6 network can use a new address, and so a new budget, for each
/// request. To limit by client, use [`ClientIp`](crate::ClientIp), or the address that
/// [`ClientIp::network`](crate::ClientIp::network) returns. `SocketAddr` does not implement `Key`, because each
/// connection has another port.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a rate limit key",
    label = "not a `Key`",
    note = "implement `Key` for a type of your own by writing its parts: `out.write(&self.id)`",
    note = "a `SocketAddr` is not a key, because each connection has another port; use `ClientIp`, \
            `ClientIp::network(&req)` in a closure, or `.ip()` for the whole address"
)]
pub trait Key {
    /// Writes the value.
    fn write_to(&self, out: &mut KeyWriter);
}

/// The maximum number of key bytes that need no allocation.
const INLINE: usize = 64;

/// Collects the bytes of a key.
///
/// Each value is written with its type and, if it varies, its length. So different values, and different sequences of
/// values, never give the same bytes. [`Key`] lists the types whose equal values are one key.
pub struct KeyWriter {
    inline: [u8; INLINE],
    /// The number of inline bytes, or [`SPILLED`].
    len: usize,
    /// Contains all bytes once they exceed the inline part.
    spilled: Vec<u8>,
}

/// The length of a key that is not inline.
const SPILLED: usize = INLINE + 1;

impl KeyWriter {
    /// Creates an empty writer. It allocates only for keys longer than 64 bytes.
    #[must_use]
    #[inline]
    pub fn new() -> Self {
        Self { inline: [0; INLINE], len: 0, spilled: Vec::new() }
    }

    /// Writes a value.
    #[inline]
    pub fn write<K: Key + ?Sized>(&mut self, value: &K) {
        value.write_to(self);
    }

    /// Ends one of several parts. A part may consist of any number of values.
    pub(super) fn end(&mut self) {
        self.tagged(Tag::End, []);
    }

    /// Writes the marker of a missing key, which equals no other value.
    pub(crate) fn missing(&mut self) {
        self.tagged(Tag::Missing, []);
    }

    /// The bytes written so far.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.inline.get(..self.len).unwrap_or(&self.spilled)
    }

    #[inline]
    pub(super) fn tagged<const N: usize>(&mut self, tag: Tag, bytes: [u8; N]) {
        self.raw(&[tag as u8]);
        self.raw(&bytes);
    }

    #[inline]
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        match self.inline.get_mut(self.len..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len = end;
            }
            None => self.spill(bytes),
        }
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        if self.len != SPILLED {
            self.spilled.extend_from_slice(&self.inline[..self.len]);
            self.len = SPILLED;
        }
        self.spilled.extend_from_slice(bytes);
    }
}

impl Default for KeyWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for KeyWriter {
    /// Shows only the length, because keys may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyWriter").field("len", &self.as_bytes().len()).finish_non_exhaustive()
    }
}

/// The first byte of a value. Every kind has a fixed length, contains its length, or ends with `End`. So no value is a
/// prefix of another one.
#[repr(u8)]
#[derive(Clone, Copy)]
pub(super) enum Tag {
    /// Eight bytes of length follow.
    Text = 1,
    V4,
    V6,
    Unsigned64 = 5,
    Signed128,
    Bool,
    None,
    /// A value follows, and then `End`.
    Some,
    End,
    Missing,
    /// Eight bytes of length follow.
    Bytes,
    Unsigned128,
    Char,
    Unit,
    /// Parts follow, each with `End` after it. The next byte is their number.
    Tuple,
}
