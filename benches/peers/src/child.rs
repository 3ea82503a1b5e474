//! Measures in a process of its own: this program again, with a flag and the name of the case.

use std::process::{Child, Command, ExitCode, Stdio};
use std::{env, fs};

use crate::report::Failure;

pub const FLAG: &str = "--child";

/// The name of a case, and the function that measures it in the child process.
pub type Case = (&'static str, fn() -> Vec<f64>);

/// A case that runs in a child process.
pub struct Running {
    case: String,
    process: Child,
}

/// Starts a case in a child process, with variables of the environment.
pub fn start(case: &str, variables: &[(&str, String)]) -> Result<Running, Failure> {
    let mut command = Command::new(env::current_exe()?);
    command.args([FLAG, case]).envs(variables.iter().map(|(name, value)| (name, value)));
    let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    Ok(Running { case: case.into(), process })
}

impl Running {
    /// Waits for the end of the process; returns its figures.
    pub fn figures(self) -> Result<Vec<f64>, Failure> {
        let output = self.process.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("{}: {}", self.case, String::from_utf8_lossy(&output.stderr)).into());
        }
        let text = String::from_utf8(output.stdout)?;
        Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }
}

/// Runs a case in a child process; returns its figures.
pub fn measure(case: &str) -> Result<Vec<f64>, Failure> {
    start(case, &[])?.figures()
}

/// What the child process does.
pub fn run(wanted: &str, cases: impl IntoIterator<Item = &'static Case>) -> ExitCode {
    match cases.into_iter().find(|(name, _)| *name == wanted) {
        Some((_, case)) => {
            case().iter().for_each(|figure| println!("{figure}"));
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("there is no case {wanted:?}");
            ExitCode::FAILURE
        }
    }
}

/// The resident set in bytes, by Linux's /proc; 0 without it.
pub fn resident_bytes() -> f64 {
    status("VmRSS:")
}

/// The largest resident set so far.
pub fn peak_resident_bytes() -> f64 {
    status("VmHWM:")
}

fn status(field: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1_024.0
}
