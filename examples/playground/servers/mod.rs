//! The Redis of the instances: where it is, the switch, and how often it is called.

mod calls;
mod child;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use self::calls::CallCounter;
use self::child::Child;
use crate::Error;

/// The servers, one for each pair of instances, so that the calls of each pair can be counted.
#[derive(Debug)]
pub(crate) struct Redis {
    servers: Servers,
    status: Mutex<Status>,
}

#[derive(Debug)]
enum Servers {
    /// There is none, for this reason.
    Absent(String),
    /// One that another program runs.
    External(String),
    /// Children of this program.
    Own { children: tokio::sync::Mutex<Vec<Child>>, urls: Vec<String>, counters: Vec<CallCounter> },
}

/// The state of the servers on the page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Status {
    Absent,
    External,
    Starting,
    Running,
    Stopped,
    Failed,
}

impl Redis {
    /// Finds the servers by the variables of the environment.
    ///
    /// # Errors
    ///
    /// Returns an error if no loopback port is free.
    pub(crate) fn find(variables: &HashMap<OsString, OsString>) -> Result<Self, Error> {
        let text = |name: &str| variables.get(&OsString::from(name)).filter(|value| !value.is_empty());
        let (servers, status) = if let Some(url) = text("REDIS_URL") {
            match url.to_str().filter(|url| redis::Client::open(*url).is_ok()) {
                Some(url) => (Servers::External(url.to_owned()), Status::External),
                None => (Servers::Absent("REDIS_URL is no valid URL; write redis://HOST:PORT".into()), Status::Absent),
            }
        } else {
            match program(text("REDIS_SERVER"), text("PATH")) {
                Ok(program) => (Servers::own(&program)?, Status::Starting),
                Err(reason) => (Servers::Absent(reason), Status::Absent),
            }
        };
        Ok(Self { servers, status: Mutex::new(status) })
    }

    /// The URL of each pair; empty if there is no Redis.
    pub(crate) fn urls(&self) -> Vec<&str> {
        match &self.servers {
            Servers::Absent(_) => Vec::new(),
            Servers::External(url) => vec![url, url],
            Servers::Own { urls, .. } => urls.iter().map(String::as_str).collect(),
        }
    }

    pub(crate) fn status(&self) -> Status {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_status(&self, status: Status) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// The calls of scripts per second for each pair, if the servers are our own.
    pub(crate) fn calls_per_second(&self, pair: usize) -> Option<f64> {
        match &self.servers {
            Servers::Own { counters, .. } => counters.get(pair)?.per_second(),
            _ => None,
        }
    }

    /// Starts the servers, and waits until they answer. Returns false if there is no switch.
    pub(crate) async fn start(&self) -> bool {
        let Servers::Own { children, counters, .. } = &self.servers else { return false };
        let mut children = children.lock().await;
        self.set_status(Status::Starting);
        counters.iter().for_each(CallCounter::start);
        for child in children.iter_mut() {
            if let Err(error) = child.start().await {
                eprintln!("{error}");
                return self.end(&mut children, Status::Failed).await;
            }
        }
        self.set_status(Status::Running);
        true
    }

    /// Stops the servers. Returns false if there is no switch.
    pub(crate) async fn stop(&self) -> bool {
        let Servers::Own { children, .. } = &self.servers else { return false };
        let mut children = children.lock().await;
        self.end(&mut children, Status::Stopped).await
    }

    async fn end(&self, children: &mut [Child], status: Status) -> bool {
        for child in children {
            child.stop().await;
        }
        self.set_status(status);
        true
    }
}

impl Servers {
    fn own(program: &std::path::Path) -> Result<Self, Error> {
        let children: Vec<Child> = (0..2).map(|_| Child::new(program)).collect::<Result<_, _>>()?;
        let urls: Vec<String> = children.iter().map(Child::url).collect();
        let counters = urls.iter().map(|url| CallCounter::new(url)).collect::<Result<_, _>>()?;
        Ok(Self::Own { children: tokio::sync::Mutex::new(children), urls, counters })
    }
}

impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.servers {
            Servers::Absent(reason) => write!(f, "No Redis, so the page shows one instance only: {reason}."),
            Servers::External(_) => f.write_str("The instances use the Redis at REDIS_URL."),
            Servers::Own { urls, .. } => {
                write!(f, "The instances use Redis servers of their own: {}.", urls.join(", "))
            }
        }
    }
}

/// The server's program, or the reason why there is none.
fn program(named: Option<&OsString>, path: Option<&OsString>) -> Result<PathBuf, String> {
    if let Some(named) = named {
        let program = PathBuf::from(named);
        return program.is_file().then_some(program).ok_or_else(|| "REDIS_SERVER names no file".into());
    }
    let folders = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>()).unwrap_or_default();
    let programs = folders.iter().map(|folder| folder.join("redis-server"));
    programs.into_iter().find(|program| program.is_file()).ok_or_else(|| "redis-server is not installed".into())
}
