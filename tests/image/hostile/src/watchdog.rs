// SPDX-License-Identifier: GPL-2.0

//! Ends the run if a system call does not end.

use std::cell::Cell;
use std::process;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use crate::operation::Operation;

/// Most threads that are watched.
pub const THREADS_MAX: usize = 16;

/// What a thread does.
struct Watched {
    /// Number of the image.
    image: AtomicU64,
    /// Odd while there is a system call.
    step: AtomicU64,
    operation: AtomicUsize,
}

static ALL: [Watched; THREADS_MAX] = [const {
    Watched {
        image: AtomicU64::new(0),
        step: AtomicU64::new(0),
        operation: AtomicUsize::new(0),
    }
}; _];

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(0) };
}

/// A system call, until it is dropped.
pub struct Step(());

impl Drop for Step {
    fn drop(&mut self) {
        ALL[THREAD.get()].step.fetch_add(1, Relaxed);
    }
}

/// Says that this thread is this one from now on.
pub fn enter(thread: usize) {
    THREAD.set(thread % THREADS_MAX);
}

/// Says which image this thread turns to.
pub fn turn_to(image: u64) {
    ALL[THREAD.get()].image.store(image, Relaxed);
}

/// Says that this thread begins a system call.
pub fn begin(operation: Operation) -> Step {
    let watched = &ALL[THREAD.get()];
    watched.operation.store(operation as usize, Relaxed);
    watched.step.fetch_add(1, Relaxed);
    Step(())
}

/// Starts to watch: no system call may take longer than `patience`.
pub fn start(patience: Duration) {
    thread::spawn(move || {
        let mut before = [0; THREADS_MAX];
        loop {
            for (watched, before) in ALL.iter().zip(&mut before) {
                let step = watched.step.load(Relaxed);
                if step % 2 == 1 && step == *before {
                    println!(
                        "Bail out! image {}: {:?} has not ended within {} seconds",
                        watched.image.load(Relaxed),
                        Operation::ALL[watched.operation.load(Relaxed)],
                        patience.as_secs()
                    );
                    process::exit(1);
                }
                *before = step;
            }
            thread::sleep(patience);
        }
    });
}
