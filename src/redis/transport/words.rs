//! The text of a Redis error, without the parts that a log must not contain.

use std::fmt::Write as _;

use ::redis::RedisError;

/// Useful server messages are shorter than this.
const MOST: usize = 200;

/// Returns the text of an error in printable ASCII, at most 200 characters, or `None` if nothing remains.
///
/// It hides hosts, addresses, paths and key names. These are words with `.`, `/`, `@`, `{`, or `:` before a digit, and
/// text in double quotes. It cuts off the arguments that a server repeats.
pub(super) fn words(error: &RedisError) -> Option<String> {
    let text = error.to_string();
    let text = text.split(", with args").next().unwrap_or_default();
    let mut said = String::new();
    for (at, part) in text.split('"').enumerate() {
        if at % 2 == 1 && is_code(part) {
            let _ = write!(said, "{part} ");
        } else if at % 2 == 1 {
            said.push_str(".. ");
        } else {
            part.split_whitespace().for_each(|word| {
                let _ = write!(said, "{} ", if tells_place(word) { ".." } else { word });
            });
        }
    }
    let said: String = said.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(MOST).collect();
    let said = said.trim().trim_end_matches(['.', ':', ' ']);
    (!said.is_empty()).then(|| said.to_owned())
}

/// Whether this is a server's error code, which the redis crate quotes.
fn is_code(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase())
}

fn tells_place(word: &str) -> bool {
    let inside = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    word.contains(['/', '@', '{', '}'])
        || inside.contains('.')
        || word.as_bytes().windows(2).any(|pair| pair[0] == b':' && (pair[1].is_ascii_digit() || pair[1] == b':'))
}

#[cfg(test)]
mod tests {
    use std::io;

    use ::redis::parse_redis_value;

    use super::*;
    use crate::redis::transport::failure::Failure;

    fn said(line: &str) -> String {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        format!("{:#}", Failure::check(Ok(value)).expect_err(line))
    }

    #[test]
    fn the_text_of_the_server_is_kept() {
        assert!(said("NEWCODE the moon is full").contains("the moon is full"), "{}", said("NEWCODE the moon is full"));
        let noperm = said("NOPERM User weir has no permissions to run the 'zadd' command");
        assert!(noperm.contains("run the 'zadd' command"), "{noperm}");
        let io = RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(words(&io).as_deref(), Some("connection refused"));
    }

    #[test]
    fn addresses_keys_and_arguments_are_removed() {
        let secrets = [
            "ERR unknown command 'EVALSHA', with args beginning with: 'sesame' '1'",
            "ERR no such thing at 10.1.2.3:6379",
            "ERR no such thing at [2001:db8::1]:6379",
            "ERR no such thing at sesame.example.com, go",
            "ERR not valid for name \"sesame\"",
            "ERR key weir:1:{sesame}:api is odd",
            "ERR see /etc/sesame or redis://:sesame@host",
        ];
        for line in secrets {
            let text = said(line);
            for secret in ["sesame", "10.1", "2001", "6379"] {
                assert!(!text.contains(secret), "{line}: {text}");
            }
        }
    }
}
