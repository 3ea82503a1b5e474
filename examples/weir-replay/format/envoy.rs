//! Envoy's default text format, and Istio's, which has more fields around it.
//!
//! ```text
//! [2016-04-15T20:17:00.310Z] "POST /api HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "curl/8" "cc21" "host" "10.0.2.1:80"
//! ```
//!
//! The client is the last entry of `X-Forwarded-For`, which an Envoy at the edge writes. Without the field, it is the
//! peer, which only Istio's format has.

use super::text::{MAX_NAMED, Parts, Rest};

pub(super) const ENVOY: &[&str] = &["client", "x-forwarded-for", "user-agent", "request-id", "authority", "peer"];

/// The texts in quotes after the request: the four fields from `X-Forwarded-For` on, and the upstream.
const TEXTS: usize = 5;

pub(super) fn split(line: &[u8]) -> Result<Parts<'_>, &'static str> {
    let mut rest = Rest(line);
    let time = rest.bracketed().ok_or("no time in brackets")?;
    let request = rest.quoted().ok_or("no request in quotes")?;
    let status = rest.word().ok_or("no status")?;
    // Words without quotes precede the texts. Istio has one more text among these words.
    let mut texts: [&[u8]; TEXTS] = [b""; TEXTS];
    let (mut found, mut follows_text) = (0, false);
    while found < TEXTS {
        let is_text = rest.0.trim_ascii_start().starts_with(b"\"");
        let item = rest.item().ok_or("fewer than five texts in quotes after the request")?;
        if is_text {
            texts[found] = item;
            found += 1;
        } else if follows_text {
            found = 0;
        }
        follows_text = is_text;
    }
    // Istio goes on with the cluster, two local addresses, and the peer.
    let _cluster_and_local = (rest.word(), rest.word(), rest.word());
    let peer = rest.word().unwrap_or(b"-");
    let [forwarded, user_agent, request_id, authority, _upstream] = texts;
    let client = if forwarded == b"-" { peer } else { forwarded };
    let named: [&[u8]; MAX_NAMED] = [client, forwarded, user_agent, request_id, authority, peer];
    Ok(Parts { time, request, status, named })
}
