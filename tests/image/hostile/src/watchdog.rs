// SPDX-License-Identifier: GPL-2.0

//! Ends the program if a system call hangs.

use std::cell::Cell;
use std::process;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use crate::operation::Operation;

/// Largest number of threads.
pub const THREADS_MAX: usize = 16;

/// What a thread does now.
struct Watched {
    /// Number of the image.
    image: AtomicU64,
    /// Odd during a system call.
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

/// A system call, which ends when this is dropped.
pub struct Step(());

impl Drop for Step {
    fn drop(&mut self) {
        ALL[THREAD.get()].step.fetch_add(1, Relaxed);
    }
}

/// Sets the number of this thread.
pub fn enter(thread: usize) {
    THREAD.set(thread % THREADS_MAX);
}

/// Sets the number of the image that this thread uses.
pub fn set_image(image: u64) {
    ALL[THREAD.get()].image.store(image, Relaxed);
}

/// Begins a system call of this thread.
pub fn begin(operation: Operation) -> Step {
    let watched = &ALL[THREAD.get()];
    watched.operation.store(operation as usize, Relaxed);
    watched.step.fetch_add(1, Relaxed);
    Step(())
}

/// Starts the watchdog: it ends the program if a system call takes longer than `timeout`.
pub fn start(timeout: Duration) {
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
                        timeout.as_secs()
                    );
                    process::exit(1);
                }
                *before = step;
            }
            thread::sleep(timeout);
        }
    });
}
