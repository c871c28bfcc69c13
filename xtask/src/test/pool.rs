// SPDX-License-Identifier: GPL-2.0

//! Tasks that run at the same time, where one does not keep the machine busy.

use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;

use anyhow::Result;
use anyhow::anyhow;

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
        while let Some((index, taken)) = next(&state, &changed, needs) {
            let result = run(index);
            let mut state = lock(&state);
            state.free += taken;
            if let Err(error) = result {
                state.error.get_or_insert(error);
            }
            drop(state);
            changed.notify_all();
        }
    };
    let panicked = thread::scope(|scope| {
        let threads: Vec<_> = (0..PROCESSORS).map(|_| scope.spawn(work)).collect();
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        ended.iter().any(|end| end.is_err())
    });
    let error = lock(&state).error.take();
    match error {
        Some(error) => Err(error),
        None if panicked => Err(anyhow!("a thread of xtask panicked")),
        None => Ok(()),
    }
}

/// Waits until the next task may begin. Returns its index and how many processors it got, or
/// nothing if no task is left to begin.
fn next(state: &Mutex<State>, changed: &Condvar, needs: &[u32]) -> Option<(usize, u32)> {
    let mut state = lock(state);
    loop {
        let index = state.begun;
        let need = (*needs.get(index)?).clamp(1, PROCESSORS);
        if state.error.is_some() {
            return None;
        }
        if need <= state.free {
            state.begun += 1;
            state.free -= need;
            return Some((index, need));
        }
        state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
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
            order
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(index);
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
    fn no_tasks_are_no_error() -> Result<()> {
        run(&[], |_| bail!("there is no task"))
    }
}
