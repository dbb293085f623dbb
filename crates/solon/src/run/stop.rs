//! Stopping: Ctrl-C or SIGTERM asks for it, and work ends where it can go on later.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Set by Ctrl-C: work stops at the next safe point.
static STOP: AtomicBool = AtomicBool::new(false);

/// How many threads wait for servers.
static WAITING: Mutex<usize> = Mutex::new(0);

/// Told of every change of [`WAITING`].
static CHANGED: Condvar = Condvar::new();

/// The folder of a run that is not kept.
static SCRATCH: Mutex<Option<PathBuf>> = Mutex::new(None);

/// How long replies are waited for after a stop was asked for: those under way would be paid for twice.
const PATIENCE: Duration = Duration::from_secs(5);

/// The run was asked to stop and can go on later.
#[derive(Debug, thiserror::Error)]
#[error("stopped\nhint: the same command goes on where it was")]
pub struct Stopped;

/// Makes Ctrl-C ask for a stop instead of killing the process; a second one kills.
pub fn stop_on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("stopping at the next safe point; press Ctrl-C again to stop at once");
        std::thread::spawn(end_waits);
    })
    .context("cannot catch Ctrl-C")
}

/// Ends the process once it has waited for servers longer than [`PATIENCE`]. What they have answered is recorded.
fn end_waits() {
    let mut waiting = waits();
    loop {
        waiting =
            CHANGED.wait_while(waiting, |waiting| *waiting == 0).unwrap_or_else(PoisonError::into_inner);
        let waited = CHANGED.wait_timeout_while(waiting, PATIENCE, |waiting| *waiting > 0);
        let (still, ended) = waited.unwrap_or_else(PoisonError::into_inner);
        if ended.timed_out() {
            end();
        }
        waiting = still;
    }
}

/// Ends the process while servers are silent.
fn end() -> ! {
    let seconds = PATIENCE.as_secs();
    match SCRATCH.lock().unwrap_or_else(PoisonError::into_inner).take() {
        None => eprintln!("no reply within {seconds} seconds: {Stopped}"),
        Some(folder) => {
            // What cannot be removed lies among the system's temporary files.
            let _ = std::fs::remove_dir_all(folder);
            eprintln!("no reply within {seconds} seconds: stopped");
        }
    }
    std::process::exit(130);
}

/// Does work that waits for servers; a stop ends it soon.
pub fn waiting<T>(work: impl FnOnce() -> T) -> T {
    struct Wait;
    impl Drop for Wait {
        fn drop(&mut self) {
            *waits() -= 1;
            CHANGED.notify_all();
        }
    }
    *waits() += 1;
    CHANGED.notify_all();
    let _wait = Wait;
    work()
}

fn waits() -> MutexGuard<'static, usize> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder that is removed where the process ends for a stop: nothing of the run is to be kept.
pub fn remove_at_stop(folder: &Path) {
    *SCRATCH.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder.to_owned());
}

/// Whether a stop was asked for.
pub fn stop_asked() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// Stops here if a stop was asked for.
pub fn safe_point() -> Result<()> {
    if stop_asked() { Err(Stopped.into()) } else { Ok(()) }
}
