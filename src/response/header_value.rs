//! Creates header values of texts and numbers, with at most one allocation unless a text is very long.
//!
//! `format!` allocates more often, and takes more than twice the time.

use http::HeaderValue;

/// The most digits of a number.
const DIGITS: usize = 20;

/// Joins each text with the number after it. Returns `None` if a text is not valid in a header.
pub(super) fn line<const N: usize>(parts: [(&str, u64); N]) -> Option<HeaderValue> {
    let (mut short, mut long) = ([0; 128], Vec::new());
    let mut at = parts.iter().map(|(text, _)| text.len() + DIGITS).sum();
    let line = short.get_mut(..at).unwrap_or_else(|| {
        long.resize(at, 0);
        &mut long
    });
    // From the end, because the last digit is known first.
    for (text, mut n) in parts.into_iter().rev() {
        loop {
            at -= 1;
            line[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        let end = at;
        at -= text.len();
        line[at..end].copy_from_slice(text.as_bytes());
    }
    HeaderValue::from_bytes(&line[at..]).ok()
}

/// Creates a header value of one number. Numbers of up to an hour in seconds need no allocation.
pub(super) fn number(n: u64) -> HeaderValue {
    let small = usize::try_from(n).ok().filter(|n| *n < COUNT).and_then(|n| {
        let width = 1 + usize::from(n > 9) + usize::from(n > 99) + usize::from(n > 999);
        let end = (n + 1) * WIDTH;
        SMALL.get(end - width..end)
    });
    match small {
        Some(text) => HeaderValue::from_static(text),
        // Converting a number takes two allocations.
        None => line([("", n)]).unwrap_or_else(|| HeaderValue::from(n)),
    }
}

/// The numbers in [`SMALL`]. A wait of an hour, rounded up, is one of them.
const COUNT: usize = 3_700;
/// The digits of each.
const WIDTH: usize = 4;

/// The small numbers in decimal, with leading zeros.
static SMALL: &str = {
    static TEXT: [u8; COUNT * WIDTH] = {
        let mut all = [b'0'; COUNT * WIDTH];
        let mut at = 0;
        while at < all.len() {
            let power = 10_usize.pow((WIDTH - 1 - at % WIDTH) as u32);
            all[at] += (at / WIDTH / power % 10) as u8;
            at += 1;
        }
        all
    };
    match str::from_utf8(&TEXT) {
        Ok(text) => text,
        Err(_) => "",
    }
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        let near = (0..20).map(|e| 10_u64.pow(e)).flat_map(|n| [n - 1, n, n + 1]);
        for n in (0..5_000).chain(near).chain([u64::MAX]) {
            assert_eq!(number(n), n.to_string());
        }
    }

    #[test]
    fn an_invalid_text_gives_no_header_value() {
        assert!(line([("a\n", 1)]).is_none());
    }

    proptest! {
        #[test]
        fn a_line_is_its_parts(a in "[ -~]{0,200}", b in "[ -~]{0,200}", m: u64, n: u64) {
            prop_assert_eq!(line([(a.as_str(), m), (b.as_str(), n)]).unwrap(), format!("{a}{m}{b}{n}"));
        }
    }
}
