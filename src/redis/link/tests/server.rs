//! A server that a test may do anything to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A `redis-server` on a free port, killed on drop.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    more: Vec<String>,
    /// A place of its own for what it writes.
    dir: PathBuf,
}

impl Server {
    pub(super) fn start(more: &[&str]) -> Self {
        let port = free_port();
        let more: Vec<_> = more.iter().map(|&word| word.to_owned()).collect();
        let dir = std::env::temp_dir().join(format!("weir-link-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self { child: launch(port, &dir, &more), port, more, dir }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()));
    }

    pub(super) fn kill(&mut self) {
        drop(self.child.kill());
        self.child.wait().unwrap();
    }

    pub(super) fn start_again(&mut self) {
        self.child = launch(self.port, &self.dir, &self.more);
    }

    /// Asks the server past the code under test.
    pub(super) fn cli(&self, words: &[&str]) -> String {
        talk(self.port, words)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

pub(super) fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // A cluster's bus listens 10000 above.
        if port < 55_000 {
            return port;
        }
    }
}

fn launch(port: u16, dir: &Path, more: &[String]) -> Child {
    let port_text = port.to_string();
    let child = Command::new("redis-server")
        .args(["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .current_dir(dir)
        .args(more)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is in the path");
    wait_for(port);
    child
}

fn wait_for(port: u16) {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "the server does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(super) fn talk(port: u16, words: &[&str]) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    text.push_str("*1\r\n$4\r\nQUIT\r\n");
    socket.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}
