//! How one caller hands a job to workers and gets it back: which memory they share, and in which order they touch it.
//!
//! The caller opens a round, wakes who sleeps, does tasks itself, closes the round, and waits until no worker is inside. A
//! worker announces itself in `inside` before it looks whether a round is open, and the caller closes the round before it
//! looks whether anybody is inside. So either the worker sees that the round is closed, or the caller sees the worker: a job
//! is never touched after its caller has gone on, and nobody waits for a worker that sleeps. Likewise a worker says that it
//! is asleep before it looks for a round once more, and the caller opens the round before it looks who is asleep: nobody
//! sleeps through a round that the caller waits for.
//!
//! Both arguments need a store that is seen before the load that follows it, which sequential consistency gives.
//!
//! Cells, atomics and threads come from `super::sync`: std's in this crate, loom's in `tests/interleavings.rs`, which compiles
//! this very file and runs it in every interleaving.

use super::sync::{
    AtomicBool, AtomicU64, AtomicUsize, Mutex, Thread, UnsafeCell, park, store_then_load, watch,
};
use std::any::Any;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// How long a worker without work watches for more before it sleeps.
const WATCH: Duration = Duration::from_micros(200);

/// What a task panicked with.
pub(super) type Panic = Box<dyn Any + Send>;

/// Tasks of one thread's run that nobody has taken: the first in the low half, one past the last in the high half. On a cache
/// line of its own, because mostly its own thread writes it.
#[repr(align(128))]
struct Run(AtomicU64);

impl Run {
    fn set(&self, first: usize, end: usize) {
        self.0.store((end as u64) << 32 | first as u64, SeqCst);
    }

    /// Takes the first task, as the run's own thread does, or the last.
    fn take(&self, first: bool) -> Option<usize> {
        let halves = |run: u64| (run & 0xffff_ffff, run >> 32);
        let taken = self.0.fetch_update(SeqCst, SeqCst, |run| match (halves(run), first) {
            ((from, end), _) if from >= end => None,
            (_, true) => Some(run + 1),
            (_, false) => Some(run - (1 << 32)),
        });
        let (from, end) = halves(taken.ok()?);
        Some(if first { from } else { end - 1 } as usize)
    }
}

/// What the threads of a team share. `J` is a job as workers see it.
pub(super) struct Handshake<J: Copy> {
    job: UnsafeCell<J>,
    /// Odd while a round is open; a round is told from the one before by the number.
    round: AtomicUsize,
    /// Workers that may be reading the job.
    inside: AtomicUsize,
    /// One for each thread, the caller's first.
    runs: Vec<Run>,
    stop: AtomicBool,
    /// What a worker's task panicked with.
    panic: Mutex<Option<Panic>>,
    /// Workers that sleep, or are about to.
    pub(super) asleep: Vec<AtomicBool>,
}

// SAFETY: `job` is written by the caller alone, while no round is open and nobody is inside, and read by workers inside an
// open round; a job may be sent to other threads, as whoever opens a round promises.
unsafe impl<J: Copy> Send for Handshake<J> {}
// SAFETY: as above.
unsafe impl<J: Copy> Sync for Handshake<J> {}

/// An open round, of which the caller takes part. Dropping it closes the round and waits until no worker is inside, whatever
/// happened to the caller's own tasks.
pub(super) struct Round<'a, J: Copy>(&'a Handshake<J>);

impl<J: Copy> Handshake<J> {
    /// A handshake of one caller and `workers` workers; `idle` is never run.
    pub(super) fn new(workers: usize, idle: J) -> Self {
        Self {
            job: UnsafeCell::new(idle),
            round: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            runs: (0..workers + 1).map(|_| Run(AtomicU64::new(0))).collect(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            asleep: (0..workers).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Opens a round of `tasks` tasks of `job`, and wakes as many of `workers` as it has work for.
    ///
    /// # Safety
    /// One caller at a time, after it has dropped its last round. The job may be run by other threads until the round is
    /// dropped, and the round must be dropped.
    pub(super) unsafe fn open(&self, job: J, tasks: usize, workers: &[Thread]) -> Round<'_, J> {
        // What a worker left behind in a round whose caller panicked itself.
        *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // SAFETY: no round is open and nobody is inside: the last round's end waited for that.
        self.job.with_mut(|place| unsafe { *place = job });
        let count = self.runs.len();
        for (i, run) in self.runs.iter().enumerate() {
            run.set(i * tasks / count, (i + 1) * tasks / count);
        }
        self.round.fetch_add(1, SeqCst);
        store_then_load();
        for (asleep, worker) in self.asleep.iter().zip(workers).take(tasks - 1) {
            if asleep.swap(false, SeqCst) {
                worker.unpark();
            }
        }
        Round(self)
    }

    /// Does the tasks of run `own` and then what is left of the others.
    pub(super) fn take_tasks(&self, own: usize, task: impl Fn(usize)) {
        let runs = &self.runs;
        while let Some(number) = runs[own].take(true) {
            task(number);
        }
        for other in (1..runs.len()).map(|i| &runs[(own + i) % runs.len()]) {
            while let Some(number) = other.take(false) {
                task(number);
            }
        }
    }

    /// What worker `number` (from 0) does until [`Handshake::stop`]: runs each job it sees once.
    pub(super) fn work(&self, number: usize, run: impl Fn(J) -> Result<(), Panic>) {
        let mut seen = 0;
        loop {
            let more = || {
                let round = self.round.load(SeqCst);
                (round % 2 == 1 && round != seen) || self.stop.load(SeqCst)
            };
            while !watch(Some(WATCH), more) {
                self.asleep[number].store(true, SeqCst);
                store_then_load();
                // Looked at once more: a caller that opened a round before it could see this thread asleep wakes nobody.
                while self.asleep[number].load(SeqCst) && !more() {
                    park();
                }
                self.asleep[number].store(false, SeqCst);
            }
            if self.stop.load(SeqCst) {
                return;
            }
            self.inside.fetch_add(1, SeqCst);
            store_then_load();
            seen = self.round.load(SeqCst);
            if seen % 2 == 1 {
                // SAFETY: inside an open round: the job is not written until this thread has left.
                let job = self.job.with(|job| unsafe { *job });
                if let Err(panic) = run(job) {
                    *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                }
            }
            self.inside.fetch_sub(1, SeqCst);
        }
    }

    /// Lets every worker return.
    pub(super) fn stop(&self, workers: &[Thread]) {
        self.stop.store(true, SeqCst);
        workers.iter().for_each(Thread::unpark);
    }

    /// What a worker's task panicked with in the last round.
    pub(super) fn take_panic(&self) -> Option<Panic> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<J: Copy> Drop for Round<'_, J> {
    fn drop(&mut self) {
        self.0.runs.iter().for_each(|run| run.set(0, 0));
        self.0.round.fetch_add(1, SeqCst);
        store_then_load();
        watch(None, || self.0.inside.load(SeqCst) == 0);
    }
}
