//! A Redis server that ends with this program.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Error;

/// Runs the server, and kills it at the end of the standard input. That comes with the end of this program, also if
/// the program is killed. The server must not read from a terminal, and Ctrl-C must not end the shell first.
const GUARD: &str = r#"trap '' HUP INT TERM; "$@" </dev/null & server=$!; read -r _; kill -s KILL $server; wait"#;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ports that systems do not use for outgoing connections. A client that dials such a port while the server is down
/// could otherwise reach itself.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

#[derive(Debug)]
pub(crate) struct Child {
    program: PathBuf,
    port: u16,
    guard: Option<std::process::Child>,
}

impl Child {
    /// Chooses a port, and starts nothing.
    pub(crate) fn new(program: &Path) -> Result<Self, Error> {
        let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let port = (0..100).map(|_| fastrand::u16(PORTS)).find(is_free).ok_or("no loopback port is free for Redis")?;
        Ok(Self { program: program.to_owned(), port, guard: None })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts the server, and waits until it answers.
    pub(crate) async fn start(&mut self) -> Result<(), Error> {
        if self.guard.is_some() {
            return Ok(());
        }
        let port = self.port.to_string();
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard"]).arg(&self.program);
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = command.spawn().map_err(|error| format!("cannot start a shell for redis-server: {error}"))?;
        self.guard = Some(guard);
        let answers = async {
            while !answers(&self.url()).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let answered = tokio::time::timeout(PATIENCE, answers).await;
        answered.map_err(|_| format!("redis-server does not answer on port {port}").into())
    }

    /// Kills the server.
    pub(crate) async fn stop(&mut self) {
        let Some(mut guard) = self.guard.take() else { return };
        drop(guard.stdin.take());
        let _ = tokio::task::spawn_blocking(move || guard.wait()).await;
    }
}

async fn answers(url: &str) -> bool {
    let ping = async {
        let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<String>(&mut connection).await
    };
    ping.await.is_ok()
}
