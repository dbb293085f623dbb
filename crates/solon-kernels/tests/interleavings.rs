//! Every interleaving of a caller with its workers, up to a number of preemptions, run by loom: `.ci/loom` calls this.
//!
//! loom fails where a thread reads what another may be writing, where nobody can go on, and where an assertion fails.
#![cfg(loom)]

#[path = "../src/threads/handshake.rs"]
mod handshake;

/// The handshake's parts, made of loom's.
mod sync {
    pub use loom::cell::UnsafeCell;
    pub use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub use loom::thread::{Thread, park};
    use std::time::Duration;

    pub fn store_then_load() {
        loom::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    /// Without a clock: a limit is over after the first look.
    pub fn watch(limit: Option<Duration>, done: impl Fn() -> bool) -> bool {
        while !done() {
            if limit.is_some() {
                return false;
            }
            loom::thread::yield_now();
        }
        true
    }
}

use handshake::{Handshake, Panic};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use sync::{AtomicUsize, Thread, UnsafeCell, watch};

/// What the tasks of a round do.
#[derive(Clone, Copy, PartialEq)]
enum Tasks {
    /// Each runs by itself.
    Run,
    /// Each waits for all the others, so there must be a thread for each.
    Meet,
    /// The task of this number panics.
    PanicAt(usize),
}

/// What tasks touch. loom fails where a worker reads `input` while the caller, between rounds, writes it.
struct Work {
    input: UnsafeCell<usize>,
    done: Vec<AtomicUsize>,
}

impl Work {
    /// Runs a thread's share of a round: an error with the round's number where a task panics.
    fn share(
        &self,
        handshake: &Handshake<usize>,
        own: usize,
        round: usize,
        tasks: Tasks,
    ) -> Result<(), Panic> {
        let mut panics = Cell::new(false);
        handshake.take_tasks(own, |number| {
            // SAFETY: inside the round, which is what is tested.
            assert_eq!(self.input.with(|input| unsafe { *input }), round, "a job of another round");
            self.done[number].fetch_add(1, SeqCst);
            if tasks == Tasks::Meet {
                watch(None, || self.done.iter().all(|done| done.load(SeqCst) >= round));
            }
            panics.set(panics.get() || tasks == Tasks::PanicAt(number));
        });
        if *panics.get_mut() { Err(Box::new(round)) } else { Ok(()) }
    }
}

/// Runs `rounds` rounds of `count` tasks. A job is the number of its round.
fn check(workers: usize, rounds: usize, count: usize, tasks: Tasks, preemptions: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let handshake = Arc::new(Handshake::new(workers, 0));
        let done = (0..count).map(|_| AtomicUsize::new(0)).collect();
        let work = Arc::new(Work { input: UnsafeCell::new(0), done });
        let handles: Vec<_> = (0..workers)
            .map(|i| {
                let (handshake, work) = (handshake.clone(), work.clone());
                loom::thread::spawn(move || {
                    handshake.work(i, |round| work.share(&handshake, i + 1, round, tasks));
                })
            })
            .collect();
        let threads: Vec<Thread> = handles.iter().map(|handle| handle.thread().clone()).collect();
        for round in 1..=rounds {
            // SAFETY: no round is open, so no worker reads it.
            work.input.with_mut(|input| unsafe { *input = round });
            // SAFETY: the round is dropped below; one caller.
            let open = unsafe { handshake.open(round, count, &threads) };
            let own = work.share(&handshake, 0, round, tasks);
            drop(open);
            for done in &work.done {
                assert_eq!(done.load(SeqCst), round, "every task runs once a round");
            }
            let panic = handshake.take_panic().map(|panic| *panic.downcast::<usize>().unwrap());
            let by_worker = matches!(tasks, Tasks::PanicAt(_)) && own.is_ok();
            assert_eq!(panic, by_worker.then_some(round), "a worker's panic reaches the caller of its round");
        }
        handshake.stop(&threads);
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
}

#[test]
fn one_worker_takes_part_in_two_rounds() {
    check(1, 2, 2, Tasks::Run, 3);
}

#[test]
fn two_workers_share_the_tasks() {
    check(2, 1, 3, Tasks::Run, 2);
}

#[test]
fn a_worker_that_sleeps_is_woken_for_its_task() {
    check(1, 2, 2, Tasks::Meet, 2);
}

#[test]
fn a_panic_reaches_its_caller_and_the_next_round_is_clean() {
    check(1, 2, 2, Tasks::PanicAt(1), 3);
}
