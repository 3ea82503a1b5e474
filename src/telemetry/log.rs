//! Lines of the log, through `tracing` or to standard error.

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Requests are refused, or decided by the fallback.
    Error,
    /// Something looks wrong.
    Warning,
    /// Something that was wrong is right again.
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
    // Standard error may be closed. A request must not fail for that, as it would with `eprintln!`.
    let _ = writeln!(std::io::stderr(), "tower-weir: {level} [{code}]: {text}");
}

#[cfg(all(test, not(feature = "tracing")))]
mod tests {
    use std::env;
    use std::process::{Command, Stdio};

    /// A notice is logged within a request, or while a layer is dropped: neither may panic because nobody reads.
    ///
    /// The child process is this very test, with a pipe for its standard error that nobody reads.
    #[test]
    fn a_closed_standard_error_stops_nothing() {
        const CHILD: &str = "TOWER_WEIR_CLOSED_STDERR";
        if env::var_os(CHILD).is_some() {
            (0..10).for_each(|_| super::log_line(super::Level::Error, "code", "text"));
            return;
        }
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "telemetry::log::tests::a_closed_standard_error_stops_nothing", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stderr.take());
        assert!(child.wait().unwrap().success());
    }
}
