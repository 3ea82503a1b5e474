//! One server.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::process::{Folder, Process};
use super::resp::{Connection, Reply};
use super::{Flavor, PATIENCE, port, wait_until};

/// How long a command of the harness itself may take, unless it is told otherwise.
const CALL: Duration = Duration::from_secs(10);

/// A server on a loopback port, without persistence. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    flavor: Flavor,
    port: u16,
    arguments: Vec<String>,
    process: Mutex<Option<Process>>,
    /// At most one connection that waits for its next use. Calls at the same time open their own.
    idle: Mutex<Option<Connection>>,
    // After the process: that writes in it.
    folder: Folder,
}

impl Server {
    /// Starts a server and waits until it answers.
    pub(crate) fn start(flavor: Flavor) -> Self {
        Self::start_with(flavor, &[])
    }

    /// Starts a server with further arguments, such as `["--maxmemory", "1mb"]`; they win over the harness's.
    pub(crate) fn start_with(flavor: Flavor, arguments: &[&str]) -> Self {
        Self::try_ports(flavor, arguments, |_| Vec::new())
    }

    /// As [`Self::start_with`], with lines for the configuration file that may depend on the port.
    pub(super) fn try_ports(flavor: Flavor, arguments: &[&str], lines: impl Fn(u16) -> Vec<String>) -> Self {
        for _ in 0..20 {
            let port = port::free();
            let folder = Folder::create(port);
            let mut text = configuration(flavor, port);
            text.extend(lines(port));
            fs::write(folder.path().join("server.conf"), text.join("\n") + "\n").unwrap();
            let server = Self {
                flavor,
                port,
                arguments: arguments.iter().map(ToString::to_string).collect(),
                process: Mutex::default(),
                idle: Mutex::default(),
                folder,
            };
            server.launch();
            match server.ready() {
                Ok(()) => return server,
                Err(words) if words.contains("already in use") => {}
                Err(words) => panic!("the server `{flavor}` does not start:\n{words}"),
            }
        }
        panic!("twenty ports were taken by others just before the server `{flavor}` bound them");
    }

    pub(crate) fn flavor(&self) -> Flavor {
        self.flavor
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `redis://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Ends the server at once (SIGKILL); connections to its port are refused from then on.
    pub(crate) fn kill(&self) {
        *lock(&self.idle) = None;
        *lock(&self.process) = None;
    }

    /// Starts the server anew on its port and in its folder, and waits until it answers. Its data is lost, unless
    /// it was started with `--appendonly yes`; so are its scripts and what `CONFIG SET` changed.
    pub(crate) fn restart(&self) {
        self.kill();
        self.launch();
        if let Err(words) = self.ready() {
            panic!("the server `{}` does not start again:\n{words}", self.flavor);
        }
    }

    /// Whether the process is there, paused or not.
    pub(crate) fn is_running(&self) -> bool {
        lock(&self.process).as_mut().is_some_and(|process| !process.has_ended())
    }

    /// Stops the process in its tracks (SIGSTOP): the system still accepts connections, nobody answers.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets a paused process go on; it answers what came in meanwhile.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    /// Runs a command and gives its reply as `redis-cli` prints it through a pipe.
    ///
    /// # Panics
    ///
    /// When the reply is an error, or none comes within 10 s.
    pub(crate) fn cli(&self, command: &[&str]) -> String {
        self.try_cli(command).unwrap_or_else(|error| panic!("{command:?} on the server `{}`: {error}", self.flavor))
    }

    /// As [`Self::cli`], with an error reply or the failure to get one as `Err`.
    pub(crate) fn try_cli(&self, command: &[&str]) -> Result<String, String> {
        match self.call(command) {
            Ok(Reply::Error(error)) => Err(error),
            Ok(reply) => Ok(reply.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Runs a command. Calls at the same time have connections of their own, so that one may end what the other
    /// waits for.
    pub(crate) fn call<A: AsRef<[u8]>>(&self, command: &[A]) -> io::Result<Reply> {
        let idle = lock(&self.idle).take().filter(Connection::is_idle);
        let mut connection = idle.map_or_else(|| self.connect(CALL), Ok)?;
        let reply = connection.call(command)?;
        *lock(&self.idle) = Some(connection);
        Ok(reply)
    }

    /// A connection of one's own, for `MONITOR`, `MULTI` and the like. It authenticates with the password that
    /// the server was started with.
    pub(crate) fn connect(&self, timeout: Duration) -> io::Result<Connection> {
        let mut connection = Connection::open(self.port, timeout)?;
        let mut arguments = self.arguments.iter().skip_while(|argument| *argument != "--requirepass").skip(1);
        if let Some(password) = arguments.next() {
            connection.call(&["AUTH", password])?;
        }
        Ok(connection)
    }

    /// The lines `name:value` of a section of `INFO`.
    pub(crate) fn info(&self, section: &str) -> BTreeMap<String, String> {
        let text = self.cli(&["INFO", section]);
        let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()));
        text.lines().filter_map(pair).collect()
    }

    /// How often each command was called since the start or [`Self::reset_stats`], by its name in lower case;
    /// from 7.0 on subcommands are apart, as `config|set`. Commands that scripts call count too.
    pub(crate) fn commandstats(&self) -> BTreeMap<String, u64> {
        let calls = |value: &str| value.strip_prefix("calls=")?.split(',').next()?.parse().ok();
        let entry =
            |(name, value): (&String, &String)| Some((name.strip_prefix("cmdstat_")?.to_owned(), calls(value)?));
        self.info("commandstats").iter().filter_map(entry).collect()
    }

    /// Sets the counters of [`Self::commandstats`] to zero.
    pub(crate) fn reset_stats(&self) {
        self.cli(&["CONFIG", "RESETSTAT"]);
    }

    /// Makes this server a replica and waits until it has everything that its master has.
    pub(crate) fn replica_of(&self, master: &Server) {
        self.cli(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
        wait_until("the replica's link to its master is up", || {
            self.info("replication").get("master_link_status").is_some_and(|status| status == "up")
        });
        self.catch_up(master);
    }

    /// Waits until this replica has applied what its master has written until now.
    pub(crate) fn catch_up(&self, master: &Server) {
        let offset = |server: &Server, name| server.info("replication").get(name)?.parse::<u64>().ok();
        let goal = offset(master, "master_repl_offset");
        wait_until("the replica has what its master has", || offset(self, "slave_repl_offset") >= goal);
    }

    /// Makes a replica a master, as a failover does. The old master, if it is alive, knows nothing of it.
    pub(crate) fn promote(&self) {
        self.cli(&["REPLICAOF", "NO", "ONE"]);
        assert_eq!(self.info("replication").get("role").map(String::as_str), Some("master"));
    }

    fn launch(&self) {
        let mut command = Command::new(self.flavor.binary());
        command.arg(self.folder.path().join("server.conf")).args(&self.arguments).current_dir(self.folder.path());
        *lock(&self.process) = Some(Process::spawn(&mut command, self.folder.path()));
    }

    /// Waits for the answer of this very process; the error is what it wrote before it gave up.
    fn ready(&self) -> Result<(), String> {
        let id = lock(&self.process).as_ref().map(Process::id).unwrap_or_default();
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            // The answer may be another process's, which has the port that ours did not get.
            let info = self.try_cli(&["INFO", "server"]).unwrap_or_default();
            if info.contains(&format!("process_id:{id}\r")) && self.try_cli(&["PING"]).is_ok_and(|pong| pong == "PONG")
            {
                return Ok(());
            }
            if lock(&self.process).as_mut().is_none_or(Process::has_ended) {
                return Err(self.folder.last_words());
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        Err(format!("it does not answer within {PATIENCE:?}\n{}", self.folder.last_words()))
    }

    fn signal(&self, name: &str) {
        lock(&self.process).as_ref().expect("the server runs").signal(name);
    }
}

/// One file for all versions.
fn configuration(flavor: Flavor, port: u16) -> Vec<String> {
    let mut lines = vec![
        format!("port {port}"),
        "bind 127.0.0.1".to_owned(),
        "save \"\"".to_owned(),
        "appendonly no".to_owned(),
        "databases 16".to_owned(),
        // Five seconds otherwise, in which it waits for further replicas.
        "repl-diskless-sync-delay 0".to_owned(),
    ];
    // Older ones take DEBUG from anyone and do not know the setting.
    if flavor.version() >= (7, 0, 0) {
        lines.push("enable-debug-command yes".to_owned());
    }
    lines
}

/// A test that panicked elsewhere is no reason to leave a server running.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
