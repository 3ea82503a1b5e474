//! Builds the examples, and runs them.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const EXAMPLES: [&str; 14] = [
    "client_side",
    "grpc_methods",
    "llm_gateway",
    "login",
    "observability",
    "operations",
    "playground",
    "policy_file",
    "routes",
    "shadow_rollout",
    "tenant_and_global",
    "tiers",
    "upload_quota",
    "weir-replay",
];

/// The features of this build, so that cargo has nothing else to compile.
fn features() -> String {
    macro_rules! enabled {
        ($($name:literal)*) => {
            [$((cfg!(feature = $name), $name)),*]
        };
    }
    let all = enabled!(
        "admin" "axum" "metrics" "serde" "tonic" "tracing"
        "redis-cluster" "redis-rustls" "redis-sentinel" "redis-smol" "redis-tokio"
    );
    all.into_iter().filter(|(is_enabled, _)| *is_enabled).map(|(_, name)| name).collect::<Vec<_>>().join(",")
}

/// The program of an example.
pub(crate) fn program(name: &str) -> &'static PathBuf {
    static BUILT: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    let programs = BUILT.get_or_init(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--profile", "test", "--message-format=json", "--features", &features()]);
        // What `cargo test` sets for this program would make dependencies compile again.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                cargo.env_remove(name);
            }
        }
        let build = cargo.args(EXAMPLES.iter().flat_map(|name| ["--example", name]));
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit()).output().unwrap();
        assert!(built.status.success(), "the examples do not compile");
        let messages = built.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let messages = messages.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
        let program = |message: serde_json::Value| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, message["executable"].as_str()?.into()))
        };
        messages.filter_map(program).collect()
    });
    &programs[name]
}

/// An example that serves requests; it ends with this value.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    /// Such as `127.0.0.1:3000`.
    pub(crate) address: String,
}

impl Server {
    /// Starts an example on a free port.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        Self::start_with(name, arguments, &[])
    }

    /// Starts an example on a free port, with variables of its environment.
    pub(crate) fn start_with(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program(name));
        command.args(arguments).env_remove("REDIS_URL").envs(variables.iter().copied()).env("PORT", "0");
        command.stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        // It ends with the output. Without it, a program that prints much would wait for a reader.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut server = Self { child, lines, address: String::new() };
        let line = server.line_with("Listening on ");
        let rest = line.split_once("Listening on ").unwrap().1.trim_start_matches("http://");
        let is_end = |byte: char| !byte.is_ascii_digit() && byte != '.' && byte != ':';
        rest.split(is_end).next().unwrap().trim_end_matches(['.', ':']).clone_into(&mut server.address);
        server
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of the output with this text.
    pub(crate) fn line_with(&self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("no line with {text:?} within 30 s, but {seen:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended without a line with {text:?}, but {seen:#?}"),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
