//! The kinds of server and where their binaries are.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kind of server that the tests run against.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Flavor {
    /// What the machine calls `redis-server`, in most cases the distribution's.
    Debian,
    Redis62,
    Redis8,
    Valkey9,
}

impl Flavor {
    pub(crate) const ALL: [Self; 4] = [Self::Debian, Self::Redis62, Self::Redis8, Self::Valkey9];

    /// The flavors that this machine has, `Debian` first.
    ///
    /// # Panics
    ///
    /// When `Debian` is missing, or any of them where `WEIR_REDIS_ALL` is set, as it is in CI.
    pub(crate) fn available() -> Vec<Self> {
        let is_wanted = |flavor: &Self| *flavor == Self::Debian || std::env::var_os("WEIR_REDIS_ALL").is_some();
        Self::ALL
            .into_iter()
            .filter(|flavor| is_wanted(flavor) || flavor.find().is_some())
            .inspect(|f| f.check())
            .collect()
    }

    /// The folder's name in the cache.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Redis62 => "redis62",
            Self::Redis8 => "redis8",
            Self::Valkey9 => "valkey9",
        }
    }

    /// The server's binary.
    ///
    /// # Panics
    ///
    /// When it is missing; the message says how to get it.
    pub(crate) fn binary(self) -> PathBuf {
        self.find().unwrap_or_else(|| {
            let folder = cache().join(self.name());
            panic!(
                "no redis-server for the flavor `{self}` in {}; run ./tests/run.sh once, which installs it",
                folder.display()
            )
        })
    }

    /// Major, minor and patch, as the binary says.
    pub(crate) fn version(self) -> (u32, u32, u32) {
        let output = Command::new(self.binary()).arg("--version").output().expect("the server's binary runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
        let mut parts = version.unwrap_or_default().split('.').map(|part| part.parse().ok());
        match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor), Some(patch)) => (major, minor, patch),
            _ => panic!("`--version` of the flavor `{self}` is not understood: {text}"),
        }
    }

    fn check(self) {
        let _ = self.binary();
    }

    fn find(self) -> Option<PathBuf> {
        let cached = cache().join(self.name()).join("redis-server");
        if cached.exists() {
            return Some(cached);
        }
        let path = std::env::var_os("PATH").filter(|_| self == Self::Debian)?;
        std::env::split_paths(&path).map(|folder| folder.join("redis-server")).find(|file| file.is_file())
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// As an absolute path, since servers run in folders of their own.
fn cache() -> PathBuf {
    match std::env::var_os("WEIR_REDIS_SERVERS") {
        Some(folder) if folder != OsStr::new("") => std::path::absolute(folder).unwrap(),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/redis-servers"),
    }
}
