//! What the handshake is made of: std's, with loom's names where those differ.

pub(super) use std::sync::Mutex;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
pub(super) use std::thread::{Thread, park};
use std::time::{Duration, Instant};

/// A cell that is entered through closures, as loom's is.
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Where a store must be seen before the load that follows it. Sequentially consistent accesses promise that by themselves;
/// loom takes them for acquire and release, and needs a fence here.
pub(super) fn store_then_load() {}

/// Waits for `done`, and says whether it came before `limit` was over.
pub(super) fn watch(limit: Option<Duration>, done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        match limit {
            Some(limit) if start.elapsed() > limit => return false,
            Some(_) => {}
            // Whom we wait for may need this processor.
            None => std::thread::yield_now(),
        }
    }
}
