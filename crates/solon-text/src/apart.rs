//! Work on what a stranger wrote, on a thread with a stack that is deep enough for it, and given up where it does not end.
//!
//! Contract: [`within`] gives what the work gives, or says that it did not end, or that it panicked. Values in Jinja can be nested two
//! million deep before the fuel is used up, and are printed, compared and freed by recursion, which no ordinary stack has room for: the
//! process would be killed. And two lists that hold one list twice, sixty times over, take longer to compare than anyone will wait,
//! which is no step that costs fuel.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes of address space, of which only what is used takes memory. One level of nesting takes about 450 bytes when it is printed. Where
/// the system has no room for the first (`ulimit -v`, strict overcommit), the second has room for all but templates that mean harm.
const STACKS: [usize; 2] = [2 << 30, 256 << 20];

type Job = Box<dyn FnOnce() + Send>;

/// The thread, if there is one that is not busy for ever. There is one for all: a start takes longer than most of the work.
static THREAD: Mutex<Option<Sender<Job>>> = Mutex::new(None);

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum NoResult {
    /// The work did not end in time. It is left to itself.
    NoEnd,
    /// It panicked.
    Panic,
    /// There is no room for the thread.
    NoThread(io::Error),
}

/// Does the work, which may take so many seconds. A stopped process does not use them up: each is waited for by itself.
pub(crate) fn within<T: Send + 'static>(
    seconds: u32,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NoResult> {
    let (give, taken) = mpsc::channel();
    let job: Job = Box::new(move || drop(give.send(work())));
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    let sent = match thread.take() {
        None => Err(job),
        // The thread may have ended with a panic.
        Some(jobs) => jobs.send(job).map(|()| jobs).map_err(|failed| failed.0),
    };
    let jobs = match sent {
        Ok(jobs) => jobs,
        Err(job) => {
            let jobs = start(STACKS).map_err(NoResult::NoThread)?;
            // Were the thread gone already, nothing would come back, as after a panic.
            drop(jobs.send(job));
            jobs
        }
    };
    for _ in 0..seconds {
        match taken.recv_timeout(Duration::from_secs(1)) {
            Ok(result) => {
                *thread = Some(jobs);
                return Ok(result);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(NoResult::Panic),
        }
    }
    Err(NoResult::NoEnd)
}

/// A new thread with the first of the stacks that the system has room for, and how to give it work.
fn start([first, second]: [usize; 2]) -> io::Result<Sender<Job>> {
    let spawn = |stack: usize| {
        let (jobs, received) = mpsc::channel::<Job>();
        let thread = thread::Builder::new().name("chat template".to_owned()).stack_size(stack);
        thread.spawn(move || received.into_iter().for_each(|job| job())).map(|_| jobs)
    };
    spawn(first).or_else(|_| spawn(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_or_panics_is_said_and_what_follows_is_done() {
        assert_eq!(within(9, || 1).ok(), Some(1));
        let (_never, forever) = mpsc::channel::<()>();
        let stuck = within(1, move || forever.recv().is_ok());
        assert!(matches!(stuck, Err(NoResult::NoEnd)), "{stuck:?}");
        assert_eq!(within(9, || 2).ok(), Some(2));
        let panicked = within(9, || panic!("on purpose"));
        assert!(matches!(panicked, Err(NoResult::Panic)), "{panicked:?}");
        assert_eq!(within(9, || 3).ok(), Some(3));
    }

    #[test]
    fn where_there_is_no_room_for_the_first_stack_the_second_is_taken() {
        let jobs = start([1 << 60, 1 << 20]).expect("a thread");
        let (give, taken) = mpsc::channel();
        jobs.send(Box::new(move || give.send(1).expect("somebody who waits"))).expect("a thread that waits");
        assert_eq!(taken.recv(), Ok(1));
    }

    #[test]
    fn recursion_has_room() {
        fn deep(levels: u32) -> u32 {
            // More than a level of minijinja's takes.
            let frame = std::hint::black_box([levels; 128]);
            if levels == 0 { 0 } else { deep(levels - 1).wrapping_add(frame[7]) }
        }
        assert!(within(60, || deep(200_000)).is_ok());
    }
}
