//! Writes log lines, through `tracing` or to standard error.

/// The severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Requests are refused, or the fallback decides them.
    Error,
    /// Something may be wrong.
    Warning,
    /// A logged problem is over.
    Info,
}

/// Writes a line to the log.
#[cfg(feature = "tracing")]
pub(super) fn log_line(level: Level, code: &'static str, text: &str) {
    match level {
        Level::Error => tracing::error!(target: "tower_weir", code, "{text}"),
        Level::Warning => tracing::warn!(target: "tower_weir", code, "{text}"),
        Level::Info => tracing::info!(target: "tower_weir", code, "{text}"),
    }
}

/// Writes a line to the log.
#[cfg(not(feature = "tracing"))]
pub(super) fn log_line(level: Level, code: &'static str, text: &str) {
    use std::io::Write as _;

    let level = match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
    };
    // Standard error may be closed. That must not fail a request, as the panic of `eprintln!` would.
    let _ = writeln!(std::io::stderr(), "tower-weir: {level} [{code}]: {text}");
}

#[cfg(all(test, not(feature = "tracing")))]
mod tests {
    use std::env;
    use std::process::{Command, Stdio};

    /// A notice is logged within a request, or in a drop. Neither may panic if standard error is closed.
    ///
    /// The child process is this test, with standard error connected to a pipe that has no reader.
    #[test]
    fn a_closed_standard_error_causes_no_panic() {
        const CHILD: &str = "TOWER_WEIR_CLOSED_STDERR";
        if env::var_os(CHILD).is_some() {
            (0..10).for_each(|_| super::log_line(super::Level::Error, "code", "text"));
            return;
        }
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "telemetry::log::tests::a_closed_standard_error_causes_no_panic", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stderr.take());
        assert!(child.wait().unwrap().success());
    }
}
