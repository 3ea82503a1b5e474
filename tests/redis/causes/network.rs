//! Nobody there, somebody else there, and a network between that carries nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::client::url;
use crate::support::servers::{Flavor, Server};

#[test]
fn nobody_listens() {
    let server = Server::start(Flavor::Debian);
    server.kill();
    url(&server.url()).logs(&["redis-lost", "the connection to Redis was refused", "host and port"]);
    url("unix:///nowhere/redis.sock").logs(&["the Unix socket of Redis does not exist"]);
}

#[test]
fn the_name_cannot_be_resolved() {
    url("redis://no-such-host.invalid").logs(&["redis-lost", "cannot be resolved"]);
}

#[test]
fn the_server_hangs() {
    let server = Server::start(Flavor::Debian);
    server.pause();
    url(&server.url()).logs(&["redis-lost", "accepts connections and does not answer", "SLOWLOG"]);
}

/// A queue of one that is full: the system drops what else would connect, as a firewall does.
#[test]
fn nothing_answers_to_a_connection_attempt() {
    let socket = redis::io::tcp::socket2::Socket::new(
        redis::io::tcp::socket2::Domain::IPV4,
        redis::io::tcp::socket2::Type::STREAM,
        None,
    )
    .unwrap();
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let _queue: Vec<_> = (0..4).map(connect).collect();
    url(&format!("redis://{address}")).logs(&["redis-lost", "no server answers the connection attempt", "firewall"]);
}

#[test]
fn another_service_listens() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // As web servers do with what is no request.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut bytes = [0; 512];
                if stream.read(&mut bytes).is_ok_and(|length| length > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
                }
            });
        }
    });
    url(&format!("redis://{address}")).logs(&["redis-lost", "is not Redis"]);
}

/// What a proxy does whose server is down.
#[test]
fn a_proxy_stands_before_nothing() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(drop));
    url(&format!("redis://{address}")).logs(&["redis-lost", "closed during its setup", "proxy"]);
}
