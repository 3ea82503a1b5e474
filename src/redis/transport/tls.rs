//! TLS through rustls.

use std::io;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{AlertDescription, CertificateError};

/// Sees to it that rustls has a cryptographic provider: without one, or with two to choose from, it panics.
///
/// What the application has installed stays. This is what rustls does by itself where only one is compiled in.
pub(super) fn prepare() {
    if CryptoProvider::get_default().is_none() {
        // An error says that the application was faster.
        drop(ring::default_provider().install_default());
    }
}

const UNKNOWN_ISSUER: &str = "the certificate of Redis comes from an authority that this machine does not trust; set \
     SSL_CERT_FILE to the PEM file of that authority, or install ca-certificates";
const EXPIRED: &str =
    "the certificate of Redis has expired, or is not valid yet; renew it, and see this machine's clock";
const OTHER_NAME: &str = "the certificate of Redis is for another host name; write in the URL the name that it was issued \
     for";
const BAD_CERTIFICATE: &str = "the certificate of Redis is not accepted; see its own words";
const CLIENT_CERTIFICATE: &str = "Redis wants a certificate of the client, which a URL cannot give; pass a connection that \
     has one to `RedisOptions::connection`, or set tls-auth-clients no";
const NO_HANDSHAKE: &str = "Redis and tower-weir agree on no TLS; see tls-protocols and the ciphers of the server, and \
     whether it wants a client certificate (tls-auth-clients)";
const NO_ROOTS: &str = "the trusted certificates of this machine cannot be read; see SSL_CERT_FILE and SSL_CERT_DIR";
pub(super) const NO_TLS: &str = "the server may not speak TLS at this port; write redis:// in the URL, or see tls-port";

/// What is wrong with TLS, if that is what an I/O error says.
pub(super) fn cause(error: &io::Error) -> Option<&'static str> {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage, PeerIncompatible};

    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        InvalidCertificate(error) => match error {
            // The latter by an authority of the same name with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => UNKNOWN_ISSUER,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => EXPIRED,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => EXPIRED,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => OTHER_NAME,
            _ => BAD_CERTIFICATE,
        },
        AlertReceived(AlertDescription::CertificateRequired) => CLIENT_CERTIFICATE,
        InvalidMessage(_) => NO_TLS,
        AlertReceived(_) | PeerIncompatible(_) => NO_HANDSHAKE,
        _ => return None,
    })
}

/// The same of an error that is known by its text alone: the roots are read anew at each connect.
pub(super) fn cause_of_text(text: &str) -> Option<&'static str> {
    ["certificate", "certs", "PEM", "pem"].iter().any(|word| text.contains(word)).then_some(NO_ROOTS)
}
