//! What ends the asking of all questions: the caller's wish, or a failure of which every question would die.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::RemoteError;

/// How often a wait looks whether the caller wishes to stop.
pub(crate) const GLANCE: Duration = Duration::from_millis(100);

/// The end of one asking, which all its threads share.
pub(crate) struct Halt<'a> {
    stop: &'a (dyn Fn() -> bool + Sync),
    error: Mutex<Option<RemoteError>>,
    told: Condvar,
}

impl<'a> Halt<'a> {
    /// Ends when the caller says so.
    pub fn new(stop: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { stop, error: Mutex::new(None), told: Condvar::new() }
    }

    /// Whether the end has come.
    pub fn is_over(&self) -> bool {
        (self.stop)() || self.error.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Ends it for this reason, if it has not ended for another.
    pub fn for_all(&self, error: RemoteError) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.told.notify_all();
    }

    /// Waits, but not beyond the end of the asking; returns whether that has come.
    pub fn wait(&self, longest: Duration) -> bool {
        let end = Instant::now() + longest;
        while !self.is_over() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
            // A lock that a panic poisoned is no reason to wait.
            if self.told.wait_timeout_while(error, left.min(GLANCE), |error| error.is_none()).is_err() {
                return true;
            }
        }
        true
    }

    /// Why it ended, if not by the caller's wish.
    pub fn into_error(self) -> Option<RemoteError> {
        self.error.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
