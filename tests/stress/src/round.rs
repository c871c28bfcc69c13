// SPDX-License-Identifier: GPL-2.0

//! A round of the test: runs its threads, counts their operations, collects their
//! failures, and ends the program if a thread hangs.

use std::fmt;
use std::fs;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::thread::Scope;
use std::time::Duration;
use std::time::Instant;

use anyhow::Error;
use anyhow::Result;
use anyhow::bail;
use rustix::io::Errno;

/// Number of failures that are reported.
const MOST_FAILURES: usize = 20;

/// An operation of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Lists a directory.
    List,
    /// Lists a directory from somewhere in it.
    Seek,
    /// Gets attributes.
    Stat,
    /// Looks up an absent name.
    Absent,
    /// Reads a symbolic link.
    Link,
    /// Lists and reads extended attributes.
    Xattr,
    /// Opens a file and reads it.
    Read,
    /// Runs a program.
    Execute,
    /// Maps a file, or opens it by its handle, in the child process.
    Map,
    /// Mounts and unmounts.
    Mount,
    /// Reads a file whose object may be missing.
    ReadMissing,
    /// Moves a directory of objects away or back.
    MoveObjects,
    /// Drops caches.
    DropCaches,
    /// Unloads and loads the module.
    Reload,
}

impl Operation {
    const ALL: [Self; 14] = [
        Self::List,
        Self::Seek,
        Self::Stat,
        Self::Absent,
        Self::Link,
        Self::Xattr,
        Self::Read,
        Self::Execute,
        Self::Map,
        Self::Mount,
        Self::ReadMissing,
        Self::MoveObjects,
        Self::DropCaches,
        Self::Reload,
    ];
}

/// The state that all threads of a round share.
pub struct Round {
    begun: Instant,
    timeout: Duration,
    stop: AtomicBool,
    counts: [AtomicU64; Operation::ALL.len()],
    short_of_memory: AtomicU64,
    failures: Mutex<Vec<String>>,
    length: Mutex<Duration>,
}

impl Round {
    /// Begins a round. An operation that takes longer than `timeout` hangs.
    pub fn new(timeout: Duration) -> Self {
        Self {
            begun: Instant::now(),
            timeout,
            stop: AtomicBool::new(false),
            counts: [const { AtomicU64::new(0) }; Operation::ALL.len()],
            short_of_memory: AtomicU64::new(0),
            failures: Mutex::new(Vec::new()),
            length: Mutex::new(Duration::ZERO),
        }
    }

    /// Runs the threads that `start` adds, for this length of time.
    pub fn run<'env>(
        &'env self,
        length: Duration,
        start: impl for<'scope> FnOnce(&mut Tasks<'scope, 'env>),
    ) {
        thread::scope(|scope| {
            let mut tasks = Tasks {
                round: self,
                scope,
                states: Vec::new(),
            };
            start(&mut tasks);
            let states = tasks.states;
            while !states.iter().all(|state| state.left.load(Relaxed)) {
                thread::sleep(Duration::from_millis(100));
                if self.begun.elapsed() > length {
                    self.stop.store(true, Relaxed);
                }
                for state in &states {
                    self.watch(state);
                }
            }
        });
        *locked(&self.length) = self.begun.elapsed();
    }

    /// Ends the program if a thread hangs: join() would wait forever.
    fn watch(&self, state: &State) {
        let since = state.since.load(Relaxed);
        let now = self.now();
        let limit = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        if since == 0 || now.saturating_sub(since) < limit {
            return;
        }
        let what = Operation::ALL.get(state.what.load(Relaxed));
        println!("Bail out! {what:?} has not ended for {:?}", self.timeout);
        // Log the stacks of all tasks.
        let _ = fs::write("/proc/sysrq-trigger", "t");
        std::process::exit(1);
    }

    /// Milliseconds since the beginning, never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn wrong(&self, text: String) {
        let mut failures = locked(&self.failures);
        if failures.len() < MOST_FAILURES {
            failures.push(text);
        }
    }

    /// Number of operations that were performed.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// How long the round took.
    pub fn length(&self) -> Duration {
        *locked(&self.length)
    }

    /// Fails if an operation failed, or if a thread performed none.
    pub fn verdict(&self) -> Result<()> {
        let failures = locked(&self.failures);
        if !failures.is_empty() {
            bail!("{}", failures.join("\n"));
        }
        Ok(())
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (operation, count) in Operation::ALL.iter().zip(&self.counts) {
            let count = count.load(Relaxed);
            if count > 0 {
                writeln!(f, "{:<12} {count}", format!("{operation:?}"))?;
            }
        }
        let short = self.short_of_memory.load(Relaxed);
        write!(f, "{short} of them failed with ENOMEM")
    }
}

/// The threads of a round.
pub struct Tasks<'scope, 'env> {
    round: &'env Round,
    scope: &'scope Scope<'scope, 'env>,
    states: Vec<std::sync::Arc<State>>,
}

/// What a thread does now.
#[derive(Default)]
struct State {
    /// When the operation began, by [`Round::now`]; 0 between operations.
    since: AtomicU64,
    what: AtomicUsize,
    left: AtomicBool,
}

impl<'env> Tasks<'_, 'env> {
    /// Adds a thread. `work` returns when [`Task::has_time`] returns false.
    pub fn add(&mut self, work: impl FnOnce(&mut Task<'_>) -> Result<()> + Send + 'env) {
        let round = self.round;
        let state = std::sync::Arc::<State>::default();
        self.states.push(state.clone());
        self.scope.spawn(move || {
            let mut task = Task {
                round,
                state: &state,
                done: 0,
            };
            match work(&mut task) {
                Ok(()) if task.done == 0 => round.wrong("a thread did nothing".to_owned()),
                Ok(()) => {}
                Err(error) => round.wrong(format!("a thread gave up: {error:#}")),
            }
            state.since.store(0, Relaxed);
            state.left.store(true, Relaxed);
        });
    }
}

/// A thread of a round.
pub struct Task<'a> {
    round: &'a Round,
    state: &'a State,
    done: u64,
}

impl Task<'_> {
    /// Whether there is time for one more operation.
    pub fn has_time(&self) -> bool {
        !self.round.stop.load(Relaxed)
    }

    /// Performs an operation and counts it. ENOMEM is not a failure.
    pub fn perform(&mut self, what: Operation, operation: impl FnOnce() -> Result<()>) {
        self.state.what.store(what as usize, Relaxed);
        self.state.since.store(self.round.now(), Relaxed);
        let result = operation();
        self.state.since.store(0, Relaxed);
        self.done += 1;
        if let Some(count) = self.round.counts.get(what as usize) {
            count.fetch_add(1, Relaxed);
        }
        match result {
            Err(error) if is_short_of_memory(&error) => {
                self.round.short_of_memory.fetch_add(1, Relaxed);
            }
            Err(error) => self.round.wrong(format!("{what:?}: {error:#}")),
            Ok(()) => {}
        }
    }
}

fn is_short_of_memory(error: &Error) -> bool {
    error.downcast_ref::<Errno>() == Some(&Errno::NOMEM)
}

/// Locks a mutex, also after a thread has panicked: the panic ends the program anyway.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
