//! What the formats of plain text share: words, and texts in quotes.

/// The rest of a line.
#[derive(Clone, Copy)]
pub(super) struct Rest<'a>(pub(super) &'a [u8]);

impl<'a> Rest<'a> {
    /// The bytes up to the next blank.
    pub(super) fn word(&mut self) -> Option<&'a [u8]> {
        let text = self.0.trim_ascii_start();
        // Most words are so short that a loop is faster than `memchr`.
        let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
        self.0 = &text[end..];
        (end > 0).then(|| &text[..end])
    }

    /// The bytes between two quotes, without the quotes. A backslash takes the next byte with it.
    pub(super) fn quoted(&mut self) -> Option<&'a [u8]> {
        let text = self.0.trim_ascii_start().strip_prefix(b"\"")?;
        let mut from = 0;
        loop {
            let at = from + memchr::memchr2(b'"', b'\\', &text[from..])?;
            if text[at] == b'"' {
                self.0 = &text[at + 1..];
                return Some(&text[..at]);
            }
            // A backslash at the end of the line has no next byte.
            from = (at + 2).min(text.len());
        }
    }

    /// A text in quotes, or else a word.
    pub(super) fn item(&mut self) -> Option<&'a [u8]> {
        if self.0.trim_ascii_start().starts_with(b"\"") { self.quoted() } else { self.word() }
    }

    /// The bytes between brackets, without the brackets.
    pub(super) fn bracketed(&mut self) -> Option<&'a [u8]> {
        let text = self.0.trim_ascii_start().strip_prefix(b"[")?;
        let end = memchr::memchr(b']', text)?;
        self.0 = &text[end + 1..];
        Some(&text[..end])
    }
}

/// The most named fields of a format of plain text.
pub(super) const MAX_NAMED: usize = 6;

/// The parts of a line that all formats of plain text have. Named fields that a line lacks are empty.
pub(super) struct Parts<'a> {
    pub(super) time: &'a [u8],
    pub(super) request: &'a [u8],
    pub(super) status: &'a [u8],
    pub(super) named: [&'a [u8]; MAX_NAMED],
}
