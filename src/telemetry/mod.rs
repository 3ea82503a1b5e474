//! What the crate tells its operator: each notice once in a process, with the cause and the fix.
//!
//! Through `tracing` with that feature, and to standard error without it. No key ever appears, and no address.
//! Whoever finds something counts and judges for itself; here it is said, or not.

#[cfg(feature = "middleware")]
mod discards;
mod notice;

use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(feature = "middleware")]
pub(crate) use self::discards::Discards;
pub use self::notice::Notice;

/// The notices that were told or silenced, a bit for each.
static SPENT: AtomicU32 = AtomicU32::new(0);

/// Tells a notice unless it was told or silenced before.
///
/// `case` is what is known of this one: words of the program, never of a request.
#[cold]
pub(crate) fn notify(notice: Notice, case: Option<&'static str>) {
    if !is_spent(notice) && SPENT.fetch_or(notice.bit(), Ordering::Relaxed) & notice.bit() == 0 {
        let case = case.map(|case| format!(" ({case})")).unwrap_or_default();
        let text = format!("{notice}{case}. Told once; `Notice::{notice:?}.silence()` turns it off");
        tell(notice.level(), notice.code(), &text);
    }
}

/// Writes a line under a notice's code unless the notice is silenced.
///
/// The caller limits how often: these notices report a state that comes and goes.
#[cfg(feature = "_redis")]
#[cold]
pub(crate) fn report(notice: Notice, text: &str) {
    if !is_spent(notice) {
        tell(notice.level(), notice.code(), text);
    }
}

fn is_spent(notice: Notice) -> bool {
    SPENT.load(Ordering::Relaxed) & notice.bit() != 0
}

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
fn tell(level: Level, code: &'static str, text: &str) {
    match level {
        Level::Error => tracing::error!(target: "tower_weir", code, "{text}"),
        Level::Warning => tracing::warn!(target: "tower_weir", code, "{text}"),
        Level::Info => tracing::info!(target: "tower_weir", code, "{text}"),
    }
}

/// Writes a line to the log.
#[cfg(not(feature = "tracing"))]
fn tell(level: Level, code: &'static str, text: &str) {
    use std::io::Write as _;

    let level = match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
    };
    // Standard error may be closed. A request must not fail for that, as it would with `eprintln!`.
    let _ = writeln!(std::io::stderr(), "tower-weir: {level} [{code}]: {text}");
}
