//! A child process in a folder of its own; both are gone when the value is dropped or the test process ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Waits for the end of its input, which comes with the end of the test process whatever ended it (a signal, an
/// abort, a value in a `static` that is never dropped), then kills the server and removes its folder.
const GUARD: &str = r#"trap '' HUP INT TERM; read -r _; kill -s KILL "$1"; rm -rf "$2""#;

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guard: Child,
}

impl Process {
    /// Runs the command with its output in `folder/output`.
    pub(crate) fn spawn(command: &mut Command, folder: &Path) -> Self {
        let output = File::options().create(true).append(true).open(folder.join("output")).unwrap();
        let errors = output.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().expect("the server starts");
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard", &child.id().to_string()]).arg(folder);
        let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child, guard: guard.expect("sh starts") }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends `STOP` or `CONT`. The shell's own `kill`, since small systems have no other.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "signal", name, &id]).status();
        assert!(status.expect("sh starts").success(), "kill -s {name} {id}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The guard first: once the child is waited for, its number may stand for another process.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A new folder, removed on drop.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn create(port: u16) -> Self {
        let path = std::env::temp_dir().join(format!("weir-servers-{}-{port}", std::process::id()));
        // What another process of that number may have left.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The last lines of what the server wrote, for the message of a failure.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(self.0.join("output")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
