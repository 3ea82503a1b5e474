//! The one header that is read, and what is found in it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::cidr::Proxies;
use super::forwarded::Forwarded;
use super::forwarded_for::XForwardedFor;
use super::node;
use super::reverse_elements::{Element, List, ReverseElements};
use crate::error::{ConfigError, shortened};
use crate::key::missing_key::MissingKey;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED: HeaderName = http::header::FORWARDED;
/// The headers in which proxies commonly name their client.
const COMMON: [HeaderName; 3] = [X_FORWARDED_FOR, FORWARDED, HeaderName::from_static("x-real-ip")];

/// Where the address of a client behind proxies stands.
#[derive(Clone, Debug)]
pub(super) enum Source {
    XForwardedFor,
    Forwarded,
    /// One address in a header of this name.
    Single(HeaderName),
    /// One address with a port, IPv6 without brackets.
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

    /// Whether a request has this header, or a common one that has the same purpose.
    ///
    /// A proxy writes one of them for each client. Without any, the request is the proxy's own.
    pub(super) fn is_forwarded(&self, headers: &HeaderMap) -> bool {
        let is_declared = match self {
            Self::XForwardedFor | Self::Forwarded => false,
            Self::Single(name) | Self::Viewer(name) => headers.contains_key(name),
        };
        is_declared || COMMON.iter().any(|name| headers.contains_key(name))
    }

    /// The first address from the right that is no proxy's; the leftmost where all are.
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
            // Counting goes on over what has no address, but not over what no proxy wrote: a client that opens a
            // quote, where a later proxy closes it with an escaped one, would move the border of the elements.
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
    // A proxy that adds its line to the client's own does not overwrite it.
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
        // No proxy writes it, and no client may make the service look broken to whoever counts its 5xx.
        Element::Unreadable => Err(MissingKey::client_fault("a quote in the Forwarded header does not end")),
    }
}

const MISSING: MissingKey = MissingKey::proxy_header("the trusted proxies sent no address for the client");
const UNIX: MissingKey = MissingKey::proxy_header(
    "the entry that counts is `unix:`, the Unix socket of a proxy: add \"unix:\" to the list of `behind`, and let the \
     proxy on that socket take the client's address from its own peer, as nginx does with `set_real_ip_from unix:`",
);
const UNUSABLE: MissingKey = MissingKey::proxy_header("what the trusted proxies sent is no address");
