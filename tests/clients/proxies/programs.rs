//! Real proxies for the tests: nginx and HAProxy, each in a folder of its own, on a free loopback port.
//!
//! `tests/run.sh` finds or installs the programs. A proxy is gone when its value is dropped or the test process ends.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::servers::{self, Folder, Process};

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    _process: Process,
    // After the process, which writes in it.
    folder: Folder,
}

impl Proxy {
    /// Starts nginx. `servers` gets the port to listen on and a folder for sockets, and returns what stands in
    /// nginx's `http` block, such as `upstream` and `server` blocks.
    pub(crate) fn nginx(servers: impl Fn(u16, &Path) -> String) -> Self {
        Self::start("nginx", |port, folder| {
            let path = folder.display();
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|name| format!("{name}_temp_path {path}/{name};"))
                .join(" ");
            // One process, so that ending it leaves none behind. Uploads pass whatever their size.
            let text = format!(
                "daemon off; master_process off; user root; pid {path}/pid; error_log {path}/error.log;\n\
                 events {{ worker_connections 256; }}\n\
                 http {{ access_log {path}/access.log; client_max_body_size 0; {temporary}\n{}\n}}\n",
                servers(port, folder)
            );
            fs::write(folder.join("nginx.conf"), text).unwrap();
            let mut command = Command::new(program("nginx"));
            command.args(["-e", "stderr", "-p"]).arg(folder).args(["-c", "nginx.conf"]);
            command
        })
    }

    /// Starts HAProxy. `sections` gets the port to listen on, and returns the sections after `global` and `defaults`.
    pub(crate) fn haproxy(sections: impl Fn(u16) -> String) -> Self {
        Self::start("haproxy", |port, folder| {
            let text = format!(
                "global\n  maxconn 256\n\
                 defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n{}\n",
                sections(port)
            );
            fs::write(folder.join("haproxy.cfg"), text).unwrap();
            let mut command = Command::new(program("haproxy"));
            command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
            command
        })
    }

    fn start(name: &str, command: impl Fn(u16, &Path) -> Command) -> Self {
        for _ in 0..20 {
            let port = servers::free_port();
            let folder = Folder::create(port);
            let mut process = Process::spawn(&mut command(port, folder.path()), folder.path());
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let mut has_ended = false;
            servers::wait_until(&format!("{name} listens"), || {
                has_ended = process.has_ended();
                has_ended || std::net::TcpStream::connect(address).is_ok()
            });
            if !has_ended {
                return Self { address, _process: process, folder };
            }
            let words = folder.last_words();
            assert!(words.contains("Address already in use"), "{name} does not start:\n{words}");
        }
        panic!("other programs took twenty ports just before {name} bound them");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The lines of a log file that contain `text`.
    pub(crate) fn logged(&self, file: &str, text: &str) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

/// A program, also where only root has its folder in the path.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing; tests/run.sh installs it"))
}
