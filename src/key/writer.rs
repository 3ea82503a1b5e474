//! The bytes of a key, and what can be written to them.

use std::fmt;

/// A value that can be a key, or a part of one.
///
/// Implement it by writing the parts of which your type is made.
///
/// # Equal keys
///
/// CardinalitySketch of different types are different keys, except for these, which are one key if their values are equal:
///
/// - text: `str`, `String`, [`Method`](http::Method) and [`HeaderName`](http::HeaderName) by their names,
/// - bytes: `[u8]`, `[u8; N]`, `Vec<u8>`, [`Bytes`](bytes::Bytes), [`HeaderValue`](http::HeaderValue),
/// - unsigned integers up to 64 bits, with their `NonZero` forms,
/// - all signed integers, with their `NonZero` forms,
/// - `u128` and `NonZeroU128`,
/// - an address and an `IpAddr` that holds it,
/// - a value and a reference, `Box`, `Rc`, `Arc` or `Cow` to it.
///
/// A type of your own is the sequence of what it writes.
///
/// # Addresses
///
/// An `IpAddr` is the whole address. The owner of an IPv6 network can take a new address, and so a new budget, for
/// each request. To key by client, use [`ClientIp`](crate::ClientIp), or the address that
/// [`ClientIp::network`](crate::ClientIp::network) returns. A `SocketAddr` is no key, since each connection has
/// another port.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a rate limit key",
    label = "not a `Key`",
    note = "implement `Key` for a type of your own by writing its parts: `out.write(&self.id)`",
    note = "a `SocketAddr` is no key, since each connection has another port: use `ClientIp` as the key, \
            `ClientIp::network(&req)` in a closure, or `.ip()` for the whole address"
)]
pub trait Key {
    /// Writes the value.
    fn write_to(&self, out: &mut KeyWriter);
}

/// Key bytes up to this many are written without allocating.
const INLINE: usize = 64;

/// Collects the bytes of a key.
///
/// Each value is written with its type and, if that varies, its length. Different values, and different sequences
/// of values, therefore never give the same bytes. [`Key`] lists the types whose equal values are one key.
pub struct KeyWriter {
    inline: [u8; INLINE],
    len: usize,
    /// Holds everything once the inline part is full.
    spilled: Vec<u8>,
}

impl KeyWriter {
    /// Creates an empty writer; it allocates only for keys above 64 bytes.
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

    /// Ends one part among several, which may have written any number of values.
    pub(super) fn end(&mut self) {
        self.tagged(Tag::End, &[]);
    }

    /// Writes what stands for a missing key, and for nothing else.
    pub(crate) fn missing(&mut self) {
        self.tagged(Tag::Missing, &[]);
    }

    /// The bytes written so far.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        if self.spilled.is_empty() { &self.inline[..self.len] } else { &self.spilled }
    }

    pub(super) fn tagged(&mut self, tag: Tag, bytes: &[u8]) {
        self.raw(&[tag as u8]);
        self.raw(bytes);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(room) = self.inline.get_mut(self.len..end).filter(|_| self.spilled.is_empty()) {
            room.copy_from_slice(bytes);
            self.len = end;
            return;
        }
        if self.spilled.is_empty() {
            self.spilled.extend_from_slice(&self.inline[..self.len]);
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
    /// Keys may be secret: only the length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyWriter").field("len", &self.as_bytes().len()).finish_non_exhaustive()
    }
}

/// The first byte of a value. Every kind has a fixed length, states its own or ends with `End`, so no value is the
/// beginning of another.
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
    /// A value follows, and `End`.
    Some,
    End,
    Missing,
    /// Eight bytes of length follow.
    Bytes,
    Unsigned128,
    Char,
    Unit,
    /// CardinalitySketch follow, each with `End` behind it; the next byte is their number.
    Tuple,
}
