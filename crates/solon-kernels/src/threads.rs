//! A team of threads that share the tasks of one piece of work after another.
//!
//! A decoding step is some four hundred pieces of work of ten to a hundred microseconds. Waking a sleeping thread takes
//! about as long as one of them, so threads that have nothing to do watch for the next piece for a while before they
//! sleep, as OpenMP's do. Each has a run of neighbouring tasks, the same run of the next piece, so that it finds in its
//! cache what it wrote; who is done takes from the end of another's run. Which thread does a task is thus left to chance:
//! tasks write disjoint outputs, and no result depends on it.
//!
//! [`with_threads`] sets the team of what runs inside it; elsewhere one team of all processors serves. A team has one
//! caller at a time: whoever finds it taken, a task that calls a kernel among them, does its tasks itself.

use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread without work watches for more before it sleeps.
const WATCH: Duration = Duration::from_micros(200);

thread_local! {
    static TEAM: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };
    /// Whether this thread is a worker of a team, whose tasks are not split further.
    static WORKER: Cell<bool> = const { Cell::new(false) };
}

static ALL: LazyLock<Arc<Team>> =
    LazyLock::new(|| Arc::new(Team::new(std::thread::available_parallelism().map_or(1, usize::from))));

/// Runs `work` with a team of `count` threads, this one among them, or as many as the system gives.
pub fn with_threads<T>(count: usize, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<Arc<Team>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            TEAM.set(self.0.take());
        }
    }
    let _restore = Restore(TEAM.replace(Some(Arc::new(Team::new(count.max(1))))));
    work()
}

/// Threads of the team that work on this thread is shared with.
pub fn count() -> usize {
    if WORKER.get() { 1 } else { team().workers.len() + 1 }
}

/// Calls `task` once with each number below `tasks`, on any of the team's threads, and returns when all are done.
///
/// # Panics
/// With what a task panicked with.
pub fn for_each(tasks: usize, task: impl Fn(usize) + Sync) {
    if tasks < 2 || WORKER.get() {
        return (0..tasks).for_each(task);
    }
    assert!(u32::try_from(tasks).is_ok(), "{tasks} tasks");
    let team = team();
    match team.caller.try_lock() {
        Ok(_guard) if !team.workers.is_empty() => team.run(tasks, &task),
        Err(std::sync::TryLockError::Poisoned(_)) => team.run(tasks, &task),
        _ => (0..tasks).for_each(task),
    }
}

/// As [`for_each`]; what the tasks return, in their order.
pub fn map<T: Send>(tasks: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let results: Vec<Mutex<Option<T>>> = (0..tasks).map(|_| Mutex::new(None)).collect();
    for_each(tasks, |i| *results[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(task(i)));
    results
        .into_iter()
        .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

fn team() -> Arc<Team> {
    TEAM.with_borrow(Clone::clone).unwrap_or_else(|| ALL.clone())
}

/// A piece of work, as threads see it: `call(data, number of a task)`.
#[derive(Clone, Copy)]
struct Job {
    data: *const (),
    call: unsafe fn(*const (), usize),
}

/// The tasks of one thread's run that nobody has taken: the first in the low half, one past the last in the high half.
/// On a cache line of its own, for only its thread writes it most of the time.
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

/// What the threads of a team share.
///
/// A worker announces itself in `inside` before it looks whether a job is open, and the caller closes the job before it
/// waits until nobody is inside. All four are sequentially consistent, so either the worker sees the job closed, or the
/// caller sees the worker inside; a job is thus never touched after its caller has gone on. Nobody waits for a worker
/// that sleeps.
struct Shared {
    job: UnsafeCell<Job>,
    /// Odd while a job is open; a job is told from the one before by the number.
    round: AtomicUsize,
    /// Workers that may be reading the job.
    inside: AtomicUsize,
    /// One for each thread, the caller's first.
    runs: Vec<Run>,
    stop: AtomicBool,
    /// What a worker's task panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    asleep: Vec<AtomicBool>,
}

// SAFETY: `job` is written by the caller alone, while the round is even and nobody is inside, and read by workers inside
// an odd round; what it points to is a `Sync` closure that lives until the round is over.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    threads: Vec<Thread>,
    caller: Mutex<()>,
}

impl Team {
    fn new(count: usize) -> Self {
        fn nothing(_: *const (), _: usize) {}
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(Job { data: std::ptr::null(), call: nothing }),
            round: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            runs: (0..count).map(|_| Run(AtomicU64::new(0))).collect(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            asleep: (1..count).map(|_| AtomicBool::new(false)).collect(),
        });
        let workers: Vec<JoinHandle<()>> = (0..count - 1)
            .map(|i| {
                let shared = shared.clone();
                let thread = std::thread::Builder::new().name(format!("solon-{}", i + 1));
                thread.spawn(move || work(&shared, i))
            })
            .map_while(Result::ok)
            .collect();
        let threads = workers.iter().map(|worker| worker.thread().clone()).collect();
        Self { shared, workers, threads, caller: Mutex::new(()) }
    }

    /// Shares the tasks with the workers. The caller holds `self.caller`.
    fn run<F: Fn(usize) + Sync>(&self, tasks: usize, task: &F) {
        /// # Safety
        /// `data` must be a live `F`.
        unsafe fn call<F: Fn(usize)>(data: *const (), number: usize) {
            // SAFETY: the caller's promise.
            unsafe { (*data.cast::<F>())(number) }
        }
        let shared = &*self.shared;
        // What a worker left behind in a round whose caller panicked itself.
        *shared.panic.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // SAFETY: the round is even and nobody is inside: the last round's end waited for that.
        unsafe { *shared.job.get() = Job { data: std::ptr::from_ref(task).cast(), call: call::<F> } };
        let count = shared.runs.len();
        for (i, run) in shared.runs.iter().enumerate() {
            run.set(i * tasks / count, (i + 1) * tasks / count);
        }
        shared.round.fetch_add(1, SeqCst);
        /// Ends the round, whatever happens to the caller's own tasks.
        struct Round<'a>(&'a Shared);
        impl Drop for Round<'_> {
            fn drop(&mut self) {
                self.0.runs.iter().for_each(|run| run.set(0, 0));
                self.0.round.fetch_add(1, SeqCst);
                watch(None, || self.0.inside.load(SeqCst) == 0);
            }
        }
        let round = Round(shared);
        for (asleep, thread) in shared.asleep.iter().zip(&self.threads).take(tasks - 1) {
            if asleep.swap(false, SeqCst) {
                thread.unpark();
            }
        }
        take_tasks(shared, 0, task);
        drop(round);
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.threads.iter().for_each(Thread::unpark);
        for worker in self.workers.drain(..) {
            // A worker's panics are caught and told by `run`.
            let _ = worker.join();
        }
    }
}

/// Does the tasks of run `own` and then what is left of the others.
fn take_tasks(shared: &Shared, own: usize, task: impl Fn(usize)) {
    let runs = &shared.runs;
    while let Some(number) = runs[own].take(true) {
        task(number);
    }
    for other in (1..runs.len()).map(|i| &runs[(own + i) % runs.len()]) {
        while let Some(number) = other.take(false) {
            task(number);
        }
    }
}

/// Waits for `done`, and says whether it came before `limit` was over.
fn watch(limit: Option<Duration>, done: impl Fn() -> bool) -> bool {
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

/// What a worker does for its life.
fn work(shared: &Shared, number: usize) {
    WORKER.set(true);
    let mut seen = 0;
    loop {
        let more = || {
            let round = shared.round.load(SeqCst);
            (round % 2 == 1 && round != seen) || shared.stop.load(SeqCst)
        };
        while !watch(Some(WATCH), more) {
            shared.asleep[number].store(true, SeqCst);
            // Looked at once more: a caller that opened a round before it could see this thread asleep wakes nobody.
            while shared.asleep[number].load(SeqCst) && !more() {
                std::thread::park();
            }
            shared.asleep[number].store(false, SeqCst);
        }
        if shared.stop.load(SeqCst) {
            return;
        }
        shared.inside.fetch_add(1, SeqCst);
        seen = shared.round.load(SeqCst);
        if seen % 2 == 1 {
            // SAFETY: inside an odd round: the job is not written, and its closure lives, until this thread has left.
            let job = unsafe { *shared.job.get() };
            // SAFETY: as above.
            let tasks =
                AssertUnwindSafe(|| take_tasks(shared, number + 1, |i| unsafe { (job.call)(job.data, i) }));
            if let Err(panic) = catch_unwind(tasks) {
                *shared.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
        }
        shared.inside.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_piece_after_piece() {
        for threads in [1, 2, 5] {
            with_threads(threads, || {
                assert_eq!(count(), threads);
                for tasks in (0..300).chain([10_000]) {
                    let runs: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    for_each(tasks, |i| {
                        runs[i].fetch_add(1, SeqCst);
                    });
                    assert!(
                        runs.iter().all(|runs| runs.load(SeqCst) == 1),
                        "{tasks} tasks, {threads} threads"
                    );
                }
            });
        }
    }

    #[test]
    fn results_come_in_the_order_of_tasks() {
        let squares = with_threads(3, || map(1000, |i| i * i));
        assert!(squares.iter().enumerate().all(|(i, square)| *square == i * i));
    }

    #[test]
    fn a_sleeping_team_wakes_up() {
        with_threads(3, || {
            for _ in 0..3 {
                let asleep = || team().shared.asleep.iter().all(|asleep| asleep.load(SeqCst));
                assert!(watch(Some(Duration::from_secs(60)), asleep), "workers without work go to sleep");
                let (first, second) = (AtomicBool::new(false), AtomicBool::new(false));
                // Each waits for the other, so both run at a time, on two threads.
                let met = |mine: &AtomicBool, other: &AtomicBool| {
                    mine.store(true, SeqCst);
                    watch(Some(Duration::from_secs(60)), || other.load(SeqCst))
                };
                for_each(2, |i| {
                    assert!(if i == 0 { met(&first, &second) } else { met(&second, &first) });
                });
            }
        });
    }

    #[test]
    fn tasks_may_call_kernels_themselves() {
        let sums = with_threads(2, || map(8, |i| map(8, |j| i * j).iter().sum::<usize>()));
        assert_eq!(sums, (0..8).map(|i| 28 * i).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_in_a_task_is_the_callers_and_the_team_goes_on() {
        with_threads(2, || {
            let all = catch_unwind(AssertUnwindSafe(|| for_each(100, |i| panic!("task {i}"))));
            assert!(all.is_err());
            for broken in [0, 7, 99] {
                let run = || for_each(100, |i| assert!(i != broken, "task {i}"));
                let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("the task's panic");
                assert_eq!(panic.downcast_ref::<String>(), Some(&format!("task {broken}")));
                assert_eq!(map(50, |i| i).len(), 50);
            }
        });
    }

    #[test]
    fn callers_from_several_threads_do_not_mix() {
        std::thread::scope(|scope| {
            for caller in 0..4 {
                scope.spawn(move || {
                    for _ in 0..200 {
                        assert!(
                            map(17, |i| caller * 100 + i).into_iter().eq((0..17).map(|i| caller * 100 + i))
                        );
                    }
                });
            }
        });
    }
}
