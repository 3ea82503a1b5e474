//! TLS by a real server, with certificates of `openssl`.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::url;
use crate::support::servers::{Flavor, Server};

/// An authority and what it issued, in a folder that is removed on drop.
struct Authority(PathBuf);

impl Authority {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("weir-causes-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let authority = Self(folder);
        authority.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=weir-ca -days 30 \
             -keyout ca.key -out ca.pem",
        );
        authority
    }

    fn openssl(&self, line: &str) {
        let output = Command::new("openssl").args(line.split_whitespace()).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate for a name, that ends after so many days.
    fn issue(&self, name: &str, days: i32) {
        fs::write(self.0.join("ext"), format!("subjectAltName={name}\n")).unwrap();
        self.openssl(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=server -keyout server.key -out \
             server.csr",
        );
        self.openssl(&format!(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile ext -days {days} -out server.pem"
        ));
    }

    fn path(&self, file: &str) -> String {
        Path::new(&self.0).join(file).to_str().unwrap().to_owned()
    }

    /// A server with a port for TLS, which asks for a certificate of the client or not.
    fn serve(&self, auth_clients: &str) -> (Server, String) {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        drop(free);
        let (certificate, key, ca) = (self.path("server.pem"), self.path("server.key"), self.path("ca.pem"));
        let server = Server::start_with(
            Flavor::Debian,
            &[
                "--tls-port",
                &port,
                "--tls-cert-file",
                &certificate,
                "--tls-key-file",
                &key,
                "--tls-ca-cert-file",
                &ca,
                "--tls-auth-clients",
                auth_clients,
            ],
        );
        (server, port)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_certificate_is_not_accepted() {
    let (authority, other) = (Authority::new("own"), Authority::new("other"));
    authority.issue("IP:127.0.0.1", 30);
    let (server, port) = authority.serve("no");
    let of = || url(&format!("rediss://127.0.0.1:{port}"));
    let unknown =
        ["redis-lost", "an authority that this machine does not trust", "SSL_CERT_FILE", "invalid peer certificate"];
    of().logs(&unknown);
    of().env("SSL_CERT_FILE", &other.path("ca.pem")).logs(&unknown);
    of().env("SSL_CERT_FILE", "/nowhere/ca.pem").logs(&["redis-lost", "cannot be read", "SSL_CERT_FILE"]);
    let named = url(&format!("rediss://localhost:{port}")).env("SSL_CERT_FILE", &authority.path("ca.pem"));
    named.logs(&["redis-lost", "for another host name"]);
    drop(server);

    authority.issue("IP:127.0.0.1", -1);
    let (_server, port) = authority.serve("no");
    let expired = url(&format!("rediss://127.0.0.1:{port}")).env("SSL_CERT_FILE", &authority.path("ca.pem"));
    expired.logs(&["redis-lost", "has expired", "clock"]);
}

#[test]
fn the_server_wants_a_certificate_of_the_client() {
    let authority = Authority::new("mutual");
    authority.issue("IP:127.0.0.1", 30);
    let (_server, port) = authority.serve("yes");
    let client = url(&format!("rediss://127.0.0.1:{port}")).env("SSL_CERT_FILE", &authority.path("ca.pem"));
    client.logs(&["redis-lost", "requires a client certificate", "RedisOptions::connection"]);
}

#[test]
fn tls_against_plain() {
    let authority = Authority::new("plain");
    authority.issue("IP:127.0.0.1", 30);
    let (server, port) = authority.serve("no");
    url(&format!("redis://127.0.0.1:{port}")).logs(&["redis-lost", "TLS", "rediss://"]);
    let plain = url(&format!("rediss://{}", server.address())).env("SSL_CERT_FILE", &authority.path("ca.pem"));
    plain.logs(&["redis-lost", "without TLS", "write redis://"]);
}
