//! The windows that new keys share while the table is full of other keys.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::fingerprint::Fingerprint;
use crate::engine::Window;
use crate::telemetry::{self, Notice, TableWatch};

/// The number of shared windows. A key always uses the same one, whichever other keys use it.
const WINDOWS: usize = 1024;

/// A fixed number of windows, allocated when the first key needs one.
///
/// A caller that inserts a key and a caller that charges it here both lock the key's shared window first. They lock it
/// before the key's own lock. So no key can be charged here and start afresh there at once.
pub(super) struct Overflow(RwLock<Option<Windows>>);

type Windows = Box<[Mutex<Window>]>;

impl Overflow {
    pub(super) const fn new() -> Self {
        Self(RwLock::new(None))
    }

    fn windows(&self) -> RwLockReadGuard<'_, Option<Windows>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace<R>(&self, with: impl FnOnce(&mut Option<Windows>) -> R) -> R {
        with(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `act` with the shared window of a key, while no other caller can charge or insert that key.
    pub(super) fn hold<R>(&self, print: Fingerprint, act: impl FnOnce(Option<&mut Window>) -> R) -> R {
        match &*self.windows() {
            Some(windows) => act(Some(&mut lock(windows, print))),
            None => act(None),
        }
    }

    /// Does the same for a key that needs a window.
    pub(super) fn charge<R>(
        &self,
        print: Fingerprint,
        now: u64,
        watch: &TableWatch,
        act: impl FnOnce(&mut Window) -> R,
    ) -> R {
        loop {
            if let Some(windows) = &*self.windows() {
                return act(&mut lock(windows, print));
            }
            let began = self.replace(|windows| {
                let began = windows.is_none();
                windows.get_or_insert_with(|| (0..WINDOWS).map(|_| Mutex::new(Window::new(now))).collect());
                began
            });
            if began {
                watch.overflow_began();
            }
            telemetry::notify(Notice::KeysFull, None);
        }
    }

    pub(super) fn clear(&self, watch: &TableWatch) {
        if self.replace(Option::take).is_some() {
            watch.overflow_ended();
        }
    }

    /// Frees the windows if all of them are idle.
    pub(super) fn tidy(&self, is_idle: impl Fn(&Window) -> bool, watch: &TableWatch) {
        if self.windows().is_none() {
            return;
        }
        let ended = self.replace(|shared| {
            let is_idle =
                |window: &mut Mutex<Window>| is_idle(window.get_mut().unwrap_or_else(PoisonError::into_inner));
            let ends = shared.as_deref_mut().is_some_and(|windows| windows.iter_mut().all(is_idle));
            if ends {
                *shared = None;
            }
            ends
        });
        if ended {
            watch.overflow_ended();
        }
    }

    /// Whether a caller holds the window of a key.
    #[cfg(test)]
    pub(super) fn is_held(&self, print: Fingerprint) -> bool {
        let windows = self.windows();
        windows.as_ref().is_some_and(|windows| windows[print.low as usize % WINDOWS].try_lock().is_err())
    }

    pub(super) fn is_unused(&self) -> bool {
        self.windows().is_none()
    }
}

/// Locks the window of a key; the bits that select it do not select the key's shard.
fn lock(windows: &[Mutex<Window>], print: Fingerprint) -> MutexGuard<'_, Window> {
    windows[print.low as usize % WINDOWS].lock().unwrap_or_else(PoisonError::into_inner)
}
