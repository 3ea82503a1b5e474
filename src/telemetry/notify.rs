//! Logging a notice.

use std::sync::atomic::Ordering;

use super::log::log_line;
use super::notice::{NOTIFIED, Notice};

/// Tells a notice unless it was told or silenced before.
///
/// `case` is what is known of this one: words of the program, never of a request.
#[cold]
pub(crate) fn notify(notice: Notice, case: Option<&'static str>) {
    if !is_spent(notice) && NOTIFIED.fetch_or(notice.bit(), Ordering::Relaxed) & notice.bit() == 0 {
        let case = case.map(|case| format!(" ({case})")).unwrap_or_default();
        let text = format!("{notice}{case}. Told once; `Notice::{notice:?}.silence()` turns it off");
        log_line(notice.level(), notice.code(), &text);
    }
}

/// Writes a line under a notice's code unless the notice is silenced.
///
/// The caller limits how often: these notices report a state that comes and goes.
#[cfg(feature = "_redis")]
#[cold]
pub(crate) fn report(notice: Notice, text: &str) {
    if !is_spent(notice) {
        log_line(notice.level(), notice.code(), text);
    }
}

fn is_spent(notice: Notice) -> bool {
    NOTIFIED.load(Ordering::Relaxed) & notice.bit() != 0
}
