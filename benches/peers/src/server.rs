//! A Redis server for one run, and its statistics.

use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo};

use crate::report::Failure;

/// More than the tasks that ask at the same time.
const BUFFER: usize = 512;

/// Killed when dropped.
pub struct Server {
    binary: String,
    process: Child,
    port: u16,
}

/// What the server counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub scripts: u64,
    pub script_micros: u64,
    /// All commands, with those that scripts make.
    pub commands: u64,
}

impl Server {
    pub const ABSENT: &str = "no redis-server is in the PATH; name one in REDIS_SERVER";

    /// The program that `REDIS_SERVER` names, otherwise `redis-server` if the `PATH` has it.
    pub fn binary() -> Option<String> {
        let name = "redis-server";
        let is_in_path =
            || env::split_paths(&env::var_os("PATH")?).any(|folder| folder.join(name).is_file()).then_some(());
        env::var("REDIS_SERVER").ok().or_else(|| is_in_path().map(|()| name.into()))
    }

    pub async fn start(binary: &str) -> Result<Self, Failure> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let server = Self { binary: binary.into(), process: spawn(binary, port)?, port };
        server.answers().await?;
        Ok(server)
    }

    /// Ends the server at once (SIGKILL), with all connections and all data.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts the server again on its port, after `kill`. It answers a little later.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.process = spawn(&self.binary, self.port)?;
        Ok(())
    }

    /// Waits until the server answers.
    pub async fn answers(&self) -> Result<(), Failure> {
        for _ in 0..200 {
            if self.ask(&["PING"]).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Err(format!("{} does not answer", self.binary).into())
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn client(&self) -> Result<Client, Failure> {
        let info = self.url().into_connection_info()?;
        Ok(Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))?)
    }

    pub async fn connect(&self) -> Result<MultiplexedConnection, Failure> {
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(BUFFER);
        Ok(self.client()?.get_multiplexed_async_connection_with_config(&config).await?)
    }

    pub async fn manager(&self) -> Result<ConnectionManager, Failure> {
        let config = ConnectionManagerConfig::new().set_response_timeout(None).set_pipeline_buffer_size(BUFFER);
        Ok(ConnectionManager::new_with_config(self.client()?, config).await?)
    }

    /// Sends a command over a connection of its own.
    async fn ask(&self, words: &[&str]) -> Result<String, Failure> {
        let mut command = redis::Cmd::new();
        command.arg(words);
        Ok(command.query_async(&mut self.connect().await?).await?)
    }

    pub async fn flush(&self) -> Result<(), Failure> {
        self.ask(&["FLUSHALL"]).await.map(drop)
    }

    pub async fn version(&self) -> Result<String, Failure> {
        let info = self.ask(&["INFO", "server"]).await?;
        let field = |name| info.lines().find_map(|line| line.strip_prefix(name));
        Ok(match field("valkey_version:") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", field("redis_version:").unwrap_or("of an unknown version")),
        })
    }

    pub async fn reset_stats(&self) -> Result<(), Failure> {
        self.ask(&["CONFIG", "RESETSTAT"]).await.map(drop)
    }

    /// What was counted since the last reset.
    pub async fn stats(&self) -> Result<Stats, Failure> {
        let info = self.ask(&["INFO", "commandstats"]).await?;
        let mut stats = Stats::default();
        for line in info.lines().filter_map(|line| line.strip_prefix("cmdstat_")) {
            let (name, fields) = line.split_once(':').unwrap_or_default();
            let field = |prefix| fields.split(',').find_map(|field| field.strip_prefix(prefix)?.parse().ok());
            let calls = field("calls=").unwrap_or(0);
            // Our own, and those with which clients begin.
            if ["config", "info", "client", "hello"].iter().any(|own| name.starts_with(own)) {
                continue;
            }
            stats.commands += calls;
            if name.starts_with("eval") {
                stats.scripts += calls;
                stats.script_micros += field("usec=").unwrap_or(0);
            }
        }
        Ok(stats)
    }
}

fn spawn(binary: &str, port: u16) -> Result<Child, Failure> {
    let mut command = Command::new(binary);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    Ok(process.map_err(|error| format!("{binary} does not start: {error}; name another one in REDIS_SERVER"))?)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
