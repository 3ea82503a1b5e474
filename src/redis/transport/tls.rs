//! TLS through rustls.

use std::io;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{AlertDescription, CertificateError};

/// Ensures that rustls has a cryptographic provider. With none, or with two to choose from, rustls panics.
///
/// A provider that the application installed stays. If only one is compiled in, rustls makes the same choice.
pub(super) fn prepare() {
    if CryptoProvider::get_default().is_none() {
        // An error means that the application installed one first.
        drop(ring::default_provider().install_default());
    }
}

const UNKNOWN_ISSUER: &str = "the certificate of Redis comes from an authority that this machine does not trust; set \
     SSL_CERT_FILE to its PEM file, or install ca-certificates";
const EXPIRED: &str =
    "the certificate of Redis has expired, or is not valid yet; renew it, or check this machine's clock";
const OTHER_NAME: &str = "the certificate of Redis is for another host name; write in the URL the name that the \
     certificate contains";
const BAD_CERTIFICATE: &str = "the certificate of Redis is not valid; check the text of the error";
const CLIENT_CERTIFICATE: &str = "Redis requires a client certificate, which a URL cannot contain; pass a connection \
     that has one to `RedisOptions::connection`, or set tls-auth-clients no";
const NO_HANDSHAKE: &str = "Redis and tower-weir have no common TLS version or cipher; check the server's \
     tls-protocols and tls-ciphers, and whether it requires a client certificate";
const NO_ROOTS: &str = "the trusted certificates of this machine cannot be read; check SSL_CERT_FILE and SSL_CERT_DIR";
pub(super) const NO_TLS: &str = "the server may not use TLS on this port; write redis:// in the URL, or check \
     tls-port";

/// Returns the TLS problem behind an I/O error, if there is one.
pub(super) fn cause(error: &io::Error) -> Option<&'static str> {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage, PeerIncompatible};

    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        InvalidCertificate(error) => match error {
            // The second error occurs if an authority has the same name but another key.
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

/// Returns the same for an error that only its text identifies: each connect reads the root certificates again.
pub(super) fn cause_of_text(text: &str) -> Option<&'static str> {
    ["certificate", "certs", "PEM", "pem"].iter().any(|word| text.contains(word)).then_some(NO_ROOTS)
}
