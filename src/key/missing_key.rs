use std::error::Error;
use std::fmt;

/// The reason why a request has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingKey {
    what: &'static str,
    fault: Fault,
}

/// Who caused a missing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Client,
    Server,
    PeerAddress,
    ProxyHeader,
}

impl MissingKey {
    /// The client should have sent the key. The response to a refused request is 400.
    #[must_use]
    pub const fn client_fault(what: &'static str) -> Self {
        Self { what, fault: Fault::Client }
    }

    /// The service should have provided the key. The response to a refused request is 500.
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

    /// A trusted proxy forwarded a request without a usable client address.
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
