//! The program `weir-replay`: what it reads, what it decides, and what it reports.

mod arguments;
mod engine;
mod formats;
mod hostile;
mod page;
mod policies;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::programs::program;

/// What a run printed, and how it ended.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    out: String,
    errors: String,
}

/// Runs the program with this standard input.
fn run(arguments: &[&str], input: &[u8]) -> Run {
    let mut command = Command::new(program("weir-replay"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    // A program that rejects its arguments does not read its input.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), errors: text(output.stderr) }
}

/// Runs the program, which must succeed.
fn replay(arguments: &[&str], input: &[u8]) -> Run {
    let run = run(arguments, input);
    assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.errors);
    run
}

impl Run {
    /// The rows of each table whose first column has this name.
    fn tables(&self, name: &str) -> Vec<Vec<Vec<&str>>> {
        let mut tables = Vec::new();
        let mut lines = self.out.lines();
        while let Some(line) = lines.next() {
            if cells(line).first() == Some(&name) && line.contains("refused") {
                tables.push(lines.by_ref().map(cells).take_while(|cells| cells.len() > 1).collect());
            }
        }
        tables
    }

    /// The requests and the refusals of each policy.
    fn policies(&self) -> Vec<(u64, u64)> {
        let number = |cell: &str| cell.replace(',', "").parse().unwrap();
        self.tables("policy")[0].iter().map(|row| (number(row[3]), number(row[4]))).collect()
    }

    /// The refused keys of a policy, with their requests and refusals.
    fn keys(&self, policy: usize) -> Vec<(&str, u64, u64)> {
        let number = |cell: &str| cell.replace(',', "").parse().unwrap();
        let tables = self.tables("key");
        tables[policy].iter().map(|row| (row[0], number(row[1]), number(row[2]))).collect()
    }
}

/// The cells of a line: two blanks are between them.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

/// A file that is removed at the end of a test.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, content: &[u8]) -> Self {
        let file = Self(std::env::temp_dir().join(format!("weir-replay-{}-{name}", std::process::id())));
        std::fs::write(&file.0, content).unwrap();
        file
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A line of JSON at a time in milliseconds since 1970.
fn json(time_ms: u64, client: &str, method: &str, path: &str) -> String {
    let time = time_ms as f64 / 1_000.0;
    format!(
        "{{\"time\":{time:.3},\"client\":\"{client}\",\"method\":\"{method}\",\"path\":\"{path}\",\"status\":200}}\n"
    )
}
