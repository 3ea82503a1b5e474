use std::error::Error;
use std::fmt;

/// A request has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingKey {
    what: &'static str,
    fault: Fault,
}

/// Whose mistake a missing key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Client,
    Server,
    PeerAddress,
    ProxyHeader,
}

impl MissingKey {
    /// The client should have sent it; where it is refused, the answer is 400.
    #[must_use]
    pub const fn client_fault(what: &'static str) -> Self {
        Self { what, fault: Fault::Client }
    }

    /// The service should have provided it; where it is refused, the answer is 500.
    #[must_use]
    pub const fn server_fault(what: &'static str) -> Self {
        Self { what, fault: Fault::Server }
    }

    pub(crate) const fn peer_address() -> Self {
        Self { what: "no peer address in the request's extensions", fault: Fault::PeerAddress }
    }

    pub(crate) fn what(self) -> &'static str {
        self.what
    }

    /// A trusted proxy passed on a request without a usable address of the client.
    pub(crate) const fn proxy_header(what: &'static str) -> Self {
        Self { what, fault: Fault::ProxyHeader }
    }

    pub(crate) fn fault(self) -> Fault {
        self.fault
    }
}

impl fmt::Display for MissingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl Error for MissingKey {}
