// SPDX-License-Identifier: GPL-2.0

//! Tasks that run at the same time, where one does not keep the machine busy.

use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use anyhow::Result;
use anyhow::anyhow;

use crate::sync::lock;

/// How many processors a machine is taken to have. More tasks at once would need more memory
/// than a small machine has: a guest takes 2 to 4 GiB.
pub const PROCESSORS: u32 = 2;

/// What the threads of a pool share.
struct State {
    /// How many tasks have begun.
    begun: usize,
    /// How many processors no task needs.
    free: u32,
    /// The first error.
    error: Option<anyhow::Error>,
}

/// Runs `run` with the index of each task, in their order. `needs` has how many processors each
/// task keeps busy. A task begins when those before it have begun and leave it as many.
///
/// # Errors
///
/// The first one of `run`: then no other task begins.
pub fn run(needs: &[u32], run: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let state = Mutex::new(State {
        begun: 0,
        free: PROCESSORS,
        error: None,
    });
    let changed = Condvar::new();
    let work = || {
        while let Some(turn) = next(&state, &changed, needs) {
            if let Err(error) = run(turn.index) {
                lock(&state).error.get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..PROCESSORS).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            // A task that panics has left its error.
            let _ = thread.join();
        }
    });
    let error = lock(&state).error.take();
    error.map_or(Ok(()), Err)
}

/// A task that has begun. Its end, whatever it is, lets the next ones begin.
struct Turn<'a> {
    index: usize,
    /// How many processors it keeps busy.
    taken: u32,
    state: &'a Mutex<State>,
    changed: &'a Condvar,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(self.state);
        state.free += self.taken;
        if thread::panicking() {
            let panicked = || anyhow!("a thread of xtask panicked");
            state.error.get_or_insert_with(panicked);
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Waits until the next task may begin. Returns nothing if no task is left to begin.
fn next<'a>(state: &'a Mutex<State>, changed: &'a Condvar, needs: &[u32]) -> Option<Turn<'a>> {
    let mut guard = lock(state);
    loop {
        let index = guard.begun;
        let taken = (*needs.get(index)?).clamp(1, PROCESSORS);
        if guard.error.is_some() {
            return None;
        }
        if taken <= guard.free {
            guard.begun += 1;
            guard.free -= taken;
            return Some(Turn {
                index,
                taken,
                state,
                changed,
            });
        }
        guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;

    use anyhow::bail;

    use super::*;

    #[test]
    fn small_tasks_run_beside_each_other() -> Result<()> {
        // Each waits for the other, so one after the other would never end.
        let barrier = Barrier::new(2);
        run(&[1, 1], |_| {
            barrier.wait();
            Ok(())
        })
    }

    #[test]
    fn a_large_task_runs_alone_and_in_its_turn() -> Result<()> {
        let running = AtomicU32::new(0);
        let order = Mutex::new(Vec::new());
        let needs = [1, PROCESSORS, 1, PROCESSORS, 1, 1];
        run(&needs, |index| {
            let need = needs.get(index).copied().unwrap_or(0);
            let sum = running.fetch_add(need, Ordering::SeqCst) + need;
            if sum > PROCESSORS {
                bail!("{sum} processors are in use");
            }
            lock(&order).push(index);
            thread::yield_now();
            running.fetch_sub(need, Ordering::SeqCst);
            Ok(())
        })?;
        let order = order.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(order.get(..4), Some(&[0, 1, 2, 3][..]));
        assert_eq!(order.len(), needs.len());
        Ok(())
    }

    #[test]
    fn nothing_begins_after_an_error() {
        let begun = AtomicU32::new(0);
        let result = run(&[PROCESSORS; 4], |index| {
            begun.fetch_add(1, Ordering::SeqCst);
            if index == 1 {
                bail!("number {index}");
            }
            Ok(())
        });
        assert_eq!(
            result.map_err(|error| error.to_string()),
            Err("number 1".to_owned())
        );
        assert_eq!(begun.into_inner(), 2);
    }

    #[test]
    fn a_panic_does_not_keep_the_others_waiting() {
        let result = run(&[1, PROCESSORS, PROCESSORS], |index| {
            assert!(index != 0, "of a test: this one is wanted");
            Ok(())
        });
        assert_eq!(
            result.map_err(|error| error.to_string()),
            Err("a thread of xtask panicked".to_owned())
        );
    }

    #[test]
    fn no_tasks_are_no_error() -> Result<()> {
        run(&[], |_| bail!("there is no task"))
    }
}
