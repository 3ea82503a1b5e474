//! A second look at an address that fails without a cause: what is it that listens there?
//!
//! The client gives up on the first unexpected byte, and a server that turns a connection away says why before the
//! client speaks. So this opens one more connection, reads what the server says by itself, sends `PING`, and reads
//! again. It runs on a thread of its own, once for each outage, with an end after about two seconds.

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
/// How long a server may take to turn a connection away.
const GREETING_WITHIN: Duration = Duration::from_millis(100);
pub(super) const ANSWER_WITHIN: Duration = Duration::from_millis(500);

const SPEAKS_TLS: &str = "the port speaks TLS, and the URL does not; write rediss:// in it (feature redis-rustls)";
const SPEAKS_PLAIN: &str = "the port speaks Redis without TLS, and the URL asks for TLS; write redis:// in it, or the \
     server's tls-port";
const SILENT: &str = "what listens there takes connections and answers nothing; see whether Redis hangs or is overloaded \
     (SLOWLOG GET, INFO), and whether the port is right";
const NO_ANSWER: &str = "nothing answers to a connection attempt; see the URL's host and port, and whether a firewall is \
     between";

/// What is wrong at an address; `None` if nothing is to be seen.
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
        // Its errors are exact.
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
        // What speaks TLS hangs up on a bare PING.
        (true, true) => None,
        (true, false) => Some(unreachable(CLOSED_MESSAGE)),
        _ => judge(&answer, wants_tls),
    }
}

/// The first bytes that come; none where the other side hung up.
fn read(stream: &mut TcpStream, within: Duration) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 2048];
    stream.set_read_timeout(Some(within))?;
    let length = stream.read(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// What the first bytes tell of the server.
fn judge(bytes: &[u8], wants_tls: bool) -> Option<Failure> {
    // An alert, or a handshake: the types of a TLS record (RFC 8446, section 5.1).
    if matches!(bytes.first(), Some(0x15 | 0x16)) {
        return (!wants_tls).then(|| unreachable(SPEAKS_TLS));
    }
    // A greeting may be longer than what has come of it.
    let line = [bytes, b"\r\n"].concat();
    let Ok(value) = parse_redis_value(&line) else { return Some(unreachable(NO_REDIS_MESSAGE)) };
    match Failure::check(Ok(value)) {
        // A server that wants a password before a PING is there.
        Err(failure) if failure.turns_all_away() => Some(failure),
        _ => wants_tls.then(|| unreachable(SPEAKS_PLAIN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_listens() {
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
