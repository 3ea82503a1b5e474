//! Logs notices.

use std::sync::atomic::Ordering;

use super::log::log_line;
use super::notice::{NOTIFIED, Notice};

/// Logs a notice unless it was logged or silenced before.
///
/// `case` adds details. It is a text of the program and never contains data of a request.
#[cold]
pub(crate) fn notify(notice: Notice, case: Option<&'static str>) {
    if !is_spent(notice) && NOTIFIED.fetch_or(notice.bit(), Ordering::Relaxed) & notice.bit() == 0 {
        let case = case.map(|case| format!(" ({case})")).unwrap_or_default();
        let text = format!("{notice}{case}. Logged once; `Notice::{notice:?}.silence()` disables it");
        log_line(notice.level(), notice.code(), &text);
    }
}

/// Logs a line under a notice's code unless the notice is silenced.
///
/// The caller limits the frequency, because these notices report a state that changes repeatedly.
#[cfg(feature = "_redis")]
#[cold]
pub(crate) fn report(notice: Notice, text: &str) {
    if !is_spent(notice) {
        log_line(notice.level(), notice.code(), text);
    }
}

/// Whether a notice was logged or silenced.
pub(crate) fn is_spent(notice: Notice) -> bool {
    NOTIFIED.load(Ordering::Relaxed) & notice.bit() != 0
}
