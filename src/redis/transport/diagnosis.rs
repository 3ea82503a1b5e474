//! A second attempt at an address that fails without a cause, to find out which server listens there.
//!
//! The client stops at the first unexpected byte, and a server that refuses a connection sends the reason first. So
//! this module opens another connection, reads the greeting, sends `PING`, and reads again. It runs on its own thread,
//! once per outage, for at most about two seconds.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use ::redis::{ConnectionAddr, parse_redis_value};
use tokio::sync::oneshot;

use super::cause::{
    CLOSED_MESSAGE, DNS_MESSAGE, NO_REDIS_MESSAGE, NO_ROUTE_MESSAGE, REFUSED_MESSAGE, SLOW_CONNECT_MESSAGE,
};
use super::failure::Failure;
use super::failure_kind::FailureKind;
use super::tls::NO_TLS;

const CONNECT_WITHIN: Duration = Duration::from_millis(800);
/// The time that a server gets to refuse a connection.
const GREETING_WITHIN: Duration = Duration::from_millis(100);
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(500);

const SPEAKS_TLS: &str = "the port uses TLS, and the URL does not; write rediss:// in the URL (feature redis-rustls)";
const SPEAKS_PLAIN: &str = "the port serves Redis without TLS, and the URL asks for TLS; write redis:// in the URL, \
     or the server's tls-port";
const SILENT: &str = "the server accepts connections and does not answer; check whether Redis hangs or is overloaded \
     (SLOWLOG GET, INFO), and whether the port is correct";
const NO_ANSWER: &str = "no server answers the connection attempt; check the URL's host and port, and whether a \
     firewall blocks them";

/// Returns the problem at an address, or `None` if it shows none.
pub(super) async fn diagnose(address: ConnectionAddr) -> Option<Failure> {
    let (tell, told) = oneshot::channel();
    let look = move || drop(tell.send(look(&address)));
    thread::Builder::new().name("tower-weir-diagnosis".into()).spawn(look).ok()?;
    told.await.ok()?
}

fn unreachable(message: &'static str) -> Failure {
    Failure::new(FailureKind::Unreachable, message)
}

fn look(address: &ConnectionAddr) -> Option<Failure> {
    match address {
        ConnectionAddr::Tcp(host, port) => look_at_host(host, *port, false),
        ConnectionAddr::TcpTls { host, port, .. } => look_at_host(host, *port, true),
        // The client's own error shows the cause here.
        _ => None,
    }
}

fn look_at_host(host: &str, port: u16, wants_tls: bool) -> Option<Failure> {
    let Ok(addresses) = (host, port).to_socket_addrs() else { return Some(unreachable(DNS_MESSAGE)) };
    let mut why = DNS_MESSAGE;
    for address in addresses.take(2) {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(mut stream) => return talk(&mut stream, wants_tls),
            Err(error) => why = of_connect(&error),
        }
    }
    Some(unreachable(why))
}

fn of_connect(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => REFUSED_MESSAGE,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => NO_ANSWER,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => NO_ROUTE_MESSAGE,
        _ => SLOW_CONNECT_MESSAGE,
    }
}

fn talk(stream: &mut TcpStream, wants_tls: bool) -> Option<Failure> {
    if let Ok(greeting) = read(stream, GREETING_WITHIN)
        && !greeting.is_empty()
    {
        return judge(&greeting, wants_tls);
    }
    let answer = match stream.write_all(b"PING\r\n").and_then(|()| read(stream, ANSWER_WITHIN)) {
        Ok(answer) => answer,
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            return Some(unreachable(if wants_tls { NO_TLS } else { SILENT }));
        }
        Err(_) => Vec::new(),
    };
    match (answer.is_empty(), wants_tls) {
        // A server with TLS closes the connection after a plain PING.
        (true, true) => None,
        (true, false) => Some(unreachable(CLOSED_MESSAGE)),
        _ => judge(&answer, wants_tls),
    }
}

/// Returns the first bytes, or nothing if the server closed the connection.
fn read(stream: &mut TcpStream, within: Duration) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 2048];
    stream.set_read_timeout(Some(within))?;
    let length = stream.read(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Classifies the server by its first bytes.
fn judge(bytes: &[u8], wants_tls: bool) -> Option<Failure> {
    // The types of a TLS record (RFC 8446, section 5.1): an alert, or a handshake.
    if matches!(bytes.first(), Some(0x15 | 0x16)) {
        return (!wants_tls).then(|| unreachable(SPEAKS_TLS));
    }
    // The greeting may be longer than the bytes that have arrived.
    let line = [bytes, b"\r\n"].concat();
    let Ok(value) = parse_redis_value(&line) else { return Some(unreachable(NO_REDIS_MESSAGE)) };
    match Failure::check(Ok(value)) {
        // A server that requires a password before PING works.
        Err(failure) if failure.turns_all_away() => Some(failure),
        _ => wants_tls.then(|| unreachable(SPEAKS_PLAIN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_identify_the_server() {
        let of = |bytes: &[u8], wants_tls| judge(bytes, wants_tls).map(|failure| failure.to_string());
        let maxclients = of(b"-ERR max number of clients reached\r\n", false).unwrap();
        assert!(maxclients.contains("raise maxclients"), "{maxclients}");
        let denied = of(b"-DENIED Redis is running in protected mode because ..\r\n", false).unwrap();
        assert!(denied.contains("protected mode"), "{denied}");
        assert_eq!(of(b"\x15\x03\x01\x00\x02\x02\x46", false).as_deref(), Some(SPEAKS_TLS));
        assert_eq!(of(b"\x15\x03\x01\x00\x02\x02\x46", true), None);
        assert_eq!(of(b"HTTP/1.1 400 Bad Request\r\n\r\n", false).as_deref(), Some(NO_REDIS_MESSAGE));
        for alive in ["+PONG\r\n", "-NOAUTH Authentication required.\r\n"] {
            assert_eq!(of(alive.as_bytes(), false), None, "{alive}");
            assert_eq!(of(alive.as_bytes(), true).as_deref(), Some(SPEAKS_PLAIN), "{alive}");
        }
    }
}
