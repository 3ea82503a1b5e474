//! The cells of one line of a table.

use crate::error::{ConfigError, shortened};

/// What is between two cells, at least.
pub(crate) const BLANKS: &str = "  ";

/// The words that begin a line, or an indented line, of another kind.
const KEYWORDS: [&str; 14] = [
    "at-limit",
    "ban",
    "cost",
    "deny",
    "enabled",
    "exempt",
    "limit",
    "meter",
    "methods",
    "on-missing-key",
    "on-store-error",
    "permit-ttl",
    "settle",
    "top-keys",
];

/// A cell of a line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    /// A cell in quotes is never a keyword.
    pub(super) is_quoted: bool,
}

impl Cell {
    /// Whether the cell is this word.
    pub(super) fn is(&self, word: &str) -> bool {
        !self.is_quoted && self.text == word
    }
}

/// The text of a cell, with quotes if they are needed.
pub(crate) fn cell(text: &str) -> String {
    let is_odd = |char: char| char == '"' || char.is_control() || (char.is_whitespace() && char != ' ');
    let is_plain = !text.is_empty() && !text.contains(BLANKS) && text.trim() == text && !text.contains(is_odd);
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// The text of a line's first cell, with quotes if it would begin a line of another kind.
pub(crate) fn first_cell(text: &str) -> String {
    if KEYWORDS.contains(&text) || text.starts_with('#') { quoted(text) } else { cell(text) }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            ' ' => quoted.push(' '),
            // `char::escape_unicode` writes `\u{..}`.
            _ if char.is_control() || char.is_whitespace() => quoted.extend(char.escape_unicode()),
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// Splits a line at two or more blanks, and at tabs.
///
/// # Errors
///
/// Returns [`ConfigError::InvalidRow`] for a quoted cell without an end, and for text after its end.
pub(super) fn split(line: &str) -> Result<Vec<Cell>, ConfigError> {
    let invalid = || ConfigError::InvalidRow(shortened(line.trim()));
    let mut cells = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(inner) => unquoted(inner).ok_or_else(invalid)?,
            None => {
                let end = rest.find(BLANKS).into_iter().chain(rest.find('\t')).min().unwrap_or(rest.len());
                (Cell { text: rest[..end].trim_end().to_owned(), is_quoted: false }, &rest[end..])
            }
        };
        if !(after.is_empty() || after.starts_with(BLANKS) || after.trim_start_matches(' ').starts_with('\t')) {
            return Err(invalid());
        }
        cells.push(cell);
        rest = after.trim_start();
    }
    Ok(cells)
}

/// Reads up to the closing quote; returns what follows it.
fn unquoted(text: &str) -> Option<(Cell, &str)> {
    let mut found = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((Cell { text: found, is_quoted: true }, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                char @ ('"' | '\\') => found.push(char),
                'u' => {
                    let code = chars.as_str().strip_prefix('{')?.split_once('}')?.0;
                    found.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
                    // The braces too.
                    chars.nth(code.chars().count() + 1);
                }
                _ => return None,
            },
            char => found.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cells_are_read_back(
            cells in prop::collection::vec("( |a|\"|\\\\|\t|\n|\u{a0}|#|cost|\\PC){0,6}", 1..6),
            gap in "  |   |\t| \t|\t ",
        ) {
            let texts: Vec<String> = cells.iter().enumerate().map(|(at, text)| match at {
                0 => first_cell(text),
                _ => cell(text),
            }).collect();
            let line = texts.join(&gap);
            let read = split(&line).unwrap();
            prop_assert_eq!(read.iter().map(|cell| &cell.text).collect::<Vec<_>>(), cells.iter().collect::<Vec<_>>());
            prop_assert!(KEYWORDS.iter().all(|word| !read[0].is(word)), "{}", line);
            prop_assert!(!line.starts_with('#') && line.lines().count() <= 1, "{}", line);
        }

        #[test]
        fn no_line_panics(line in "( |\"|\\\\|u|\\{|\\}|[0-9]|\t|\\PC){0,20}") {
            let _ = split(&line);
        }
    }

    #[test]
    fn only_odd_texts_are_quoted() {
        for text in
            ["client", "POST /login", "header x-tenant + method", "10/s, 5/h", "it's", "(code)", "cost /a", "a#"]
        {
            assert_eq!((first_cell(text), cell(text)), (text.to_owned(), text.to_owned()));
        }
        assert_eq!((first_cell("cost"), cell("cost")), ("\"cost\"".to_owned(), "cost".to_owned()));
        assert_eq!(first_cell("#1"), "\"#1\"");
        assert_eq!(cell("a  \"b\\\n"), r#""a  \"b\\\u{a}""#);
        assert_eq!(cell(""), "\"\"");
    }

    #[test]
    fn a_quote_must_end_before_the_next_cell() {
        for line in [
            "\"a",
            "a  \"b",
            "\"a\\\"",
            "\"a\"b",
            "\"a\" b",
            "\"\\x\"",
            "\"\\u{110000}\"",
            "\"\\u{}\"",
            "\"\\u{d800}\"",
        ] {
            assert!(matches!(split(line), Err(ConfigError::InvalidRow(_))), "{line}");
        }
        assert_eq!(split("  ").unwrap(), []);
    }
}
