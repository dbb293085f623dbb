//! A team of threads that share the tasks of one piece of work after another.
//!
//! A decoding step is some four hundred pieces of work of ten to a hundred microseconds. Waking a sleeping thread takes
//! about as long as one of them. So a thread without work watches for the next piece for a while before it sleeps, as
//! OpenMP's do. Each thread has a run of neighbouring tasks, and the same run in the next piece, so it finds in its cache
//! what it wrote. A thread that is done takes tasks from the end of another's run. Which thread does a task is therefore
//! left to chance, but tasks write disjoint outputs, so no result depends on it.
//!
//! [`with_threads`] sets the team for what runs inside it; elsewhere one team of all processors serves. A team has one
//! caller at a time. A caller that finds it taken (such as a task that calls a kernel) does its tasks itself.
//!
//! `handshake.rs` is the protocol between the threads.

mod handshake;
mod sync;

use handshake::Handshake;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};

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

// SAFETY: what a job points to is a `Sync` closure.
unsafe impl Send for Job {}

struct Team {
    shared: Arc<Handshake<Job>>,
    workers: Vec<JoinHandle<()>>,
    threads: Vec<Thread>,
    caller: Mutex<()>,
}

impl Team {
    fn new(count: usize) -> Self {
        fn nothing(_: *const (), _: usize) {}
        let idle = Job { data: std::ptr::null(), call: nothing };
        let shared = Arc::new(Handshake::new(count - 1, idle));
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
        let job = Job { data: std::ptr::from_ref(task).cast(), call: call::<F> };
        // SAFETY: the lock makes this the one caller, the closure is `Sync`, and the round is dropped before this call returns
        // it, also where a task of this thread panics.
        let round = unsafe { self.shared.open(job, tasks, &self.threads) };
        self.shared.take_tasks(0, task);
        drop(round);
        if let Some(panic) = self.shared.take_panic() {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop(&self.threads);
        for worker in self.workers.drain(..) {
            // A worker's panics are caught and told by `run`.
            let _ = worker.join();
        }
    }
}

/// What a worker does for its life.
fn work(shared: &Handshake<Job>, number: usize) {
    WORKER.set(true);
    shared.work(number, |job| {
        // SAFETY: the round is open until this thread has left it, and so long the job's closure lives.
        let task = |i| unsafe { (job.call)(job.data, i) };
        catch_unwind(AssertUnwindSafe(|| shared.take_tasks(number + 1, task)))
    });
}

#[cfg(test)]
mod tests {
    use super::sync::watch;
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

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
