//! The one header that is read, and the address in it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::forwarded::Forwarded;
use super::forwarded_for::XForwardedFor;
use super::node;
use super::proxies::Proxies;
use super::reverse_elements::{Element, List, ReverseElements};
use crate::error::{ConfigError, shortened};
use crate::key::missing_key::MissingKey;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED: HeaderName = http::header::FORWARDED;
/// The headers in which proxies commonly send their client's address.
const COMMON: [HeaderName; 3] = [X_FORWARDED_FOR, FORWARDED, HeaderName::from_static("x-real-ip")];

/// The header with the address of a client behind proxies.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    XForwardedFor,
    Forwarded,
    /// A header of this name with one address.
    Single(HeaderName),
    /// A header of this name with one address and a port, and IPv6 without brackets.
    Viewer(HeaderName),
}

impl Source {
    pub(super) fn named(name: &str) -> Result<Self, ConfigError> {
        let name = HeaderName::try_from(name).map_err(|_| ConfigError::InvalidHeaderName(shortened(name)))?;
        Ok(match name.as_str() {
            "x-forwarded-for" => Self::XForwardedFor,
            "forwarded" => Self::Forwarded,
            "cloudfront-viewer-address" => Self::Viewer(name),
            _ => Self::Single(name),
        })
    }

    /// The name of the header.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::Single(name) | Self::Viewer(name) => name.as_str(),
        }
    }

    /// Whether a request has this header, or a common one with the same purpose.
    ///
    /// A proxy writes one of them for each client. Without any of them, the request comes from the proxy itself.
    pub(super) fn is_forwarded(&self, headers: &HeaderMap) -> bool {
        let is_declared = match self {
            Self::XForwardedFor | Self::Forwarded => false,
            Self::Single(name) | Self::Viewer(name) => headers.contains_key(name),
        };
        is_declared || COMMON.iter().any(|name| headers.contains_key(name))
    }

    /// The first address from the right that belongs to no proxy, or the leftmost one if all belong to proxies.
    pub(super) fn first_untrusted(&self, headers: &HeaderMap, proxies: &Proxies) -> Result<IpAddr, MissingKey> {
        match self {
            Self::XForwardedFor => first_untrusted(list::<XForwardedFor>(headers, &X_FORWARDED_FOR), proxies),
            Self::Forwarded => first_untrusted(list::<Forwarded>(headers, &FORWARDED), proxies),
            Self::Single(name) => single(headers, name, node::loose),
            Self::Viewer(name) => single(headers, name, node::viewer),
        }
    }

    /// The `n`th address from the right.
    pub(super) fn nth(&self, headers: &HeaderMap, n: usize) -> Result<IpAddr, MissingKey> {
        match self {
            Self::XForwardedFor => nth(list::<XForwardedFor>(headers, &X_FORWARDED_FOR), n),
            Self::Forwarded => nth(list::<Forwarded>(headers, &FORWARDED), n),
            Self::Single(name) => single(headers, name, node::loose),
            Self::Viewer(name) => single(headers, name, node::viewer),
        }
    }
}

fn list<'a, L: List>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Element> + use<'a, L> {
    ReverseElements::<L, _>::new(headers.get_all(name).into_iter().map(HeaderValue::as_bytes))
}

fn first_untrusted(walk: impl Iterator<Item = Element>, proxies: &Proxies) -> Result<IpAddr, MissingKey> {
    let mut leftmost = Err(MISSING);
    for element in walk {
        leftmost = address(element);
        match element {
            Element::Address(ip) if proxies.contains(ip) => {}
            Element::Unix if proxies.is_unix_trusted() => {}
            _ => break,
        }
    }
    leftmost
}

fn nth(walk: impl Iterator<Item = Element>, n: usize) -> Result<IpAddr, MissingKey> {
    for (at, element) in (1..).zip(walk) {
        match element {
            // Entries without an address count, but a malformed entry ends the count. A client can open a quote that a
            // later proxy closes with an escaped one, which moves the borders of the elements.
            Element::Malformed | Element::Unreadable => return address(element),
            element if at == n => return address(element),
            _ => {}
        }
    }
    Err(MISSING)
}

fn single(
    headers: &HeaderMap,
    name: &HeaderName,
    read: impl Fn(&[u8]) -> Option<IpAddr>,
) -> Result<IpAddr, MissingKey> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next().ok_or(MISSING)?;
    // A proxy that adds its line to the client's line does not overwrite it.
    if lines.next().is_some() {
        return Err(UNUSABLE);
    }
    let line = line.as_bytes();
    read(line).ok_or(if node::is_unix(line) { UNIX } else { UNUSABLE })
}

fn address(element: Element) -> Result<IpAddr, MissingKey> {
    match element {
        Element::Address(ip) => Ok(ip),
        Element::Unix => Err(UNIX),
        Element::Nothing | Element::Malformed => Err(UNUSABLE),
        // No proxy writes this. A 5xx response would let clients make the service look broken in its metrics.
        Element::Unreadable => Err(MissingKey::client_fault("the Forwarded header has an unterminated quote")),
    }
}

const MISSING: MissingKey = MissingKey::proxy_header("the trusted proxies sent no client address");
const UNIX: MissingKey = MissingKey::proxy_header(
    "the relevant entry is `unix:`, the Unix socket of a proxy. Add \"unix:\" to the list of `behind`. Let the proxy \
     on that socket take the client's address from its own peer, as nginx does with `set_real_ip_from unix:`",
);
const UNUSABLE: MissingKey = MissingKey::proxy_header("the trusted proxies sent an invalid client address");
