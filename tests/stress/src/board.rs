// SPDX-License-Identifier: GPL-2.0

//! What the threads do now, how often they have done it, and what went wrong.

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

/// More failures than this say nothing new.
const MOST_FAILURES: usize = 20;

/// What a thread may be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Lists a directory.
    List,
    /// Lists a directory from somewhere in it.
    Seek,
    /// Asks for attributes.
    Stat,
    /// Looks for a name that is not there.
    Absent,
    /// Reads a symbolic link.
    Link,
    /// Lists and reads extended attributes.
    Xattr,
    /// Opens a file and reads it.
    Read,
    /// Runs a program.
    Execute,
    /// Maps files and opens them by handle; done by a child.
    Map,
    /// Mounts and unmounts.
    Mount,
    /// Reads a file whose object may be gone.
    Flicker,
    /// Moves objects away and back.
    Move,
    /// Drops caches.
    Drop,
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
        Self::Flicker,
        Self::Move,
        Self::Drop,
        Self::Reload,
    ];
}

/// What all threads of a round have in common.
pub struct Board {
    begun: Instant,
    patience: Duration,
    stop: AtomicBool,
    counts: [AtomicU64; Operation::ALL.len()],
    short_of_memory: AtomicU64,
    desks: Mutex<usize>,
    failures: Mutex<Vec<String>>,
    length: Mutex<Duration>,
}

impl Board {
    /// Nothing has been done yet. An operation that takes longer than
    /// `patience` hangs.
    pub fn new(patience: Duration) -> Self {
        Self {
            begun: Instant::now(),
            patience,
            stop: AtomicBool::new(false),
            counts: [const { AtomicU64::new(0) }; Operation::ALL.len()],
            short_of_memory: AtomicU64::new(0),
            desks: Mutex::new(0),
            failures: Mutex::new(Vec::new()),
            length: Mutex::new(Duration::ZERO),
        }
    }

    /// Lets the threads that `start` adds run for some time.
    pub fn run<'env>(
        &'env self,
        length: Duration,
        start: impl for<'scope> FnOnce(&mut Crew<'scope, 'env>),
    ) {
        thread::scope(|scope| {
            let mut crew = Crew {
                board: self,
                scope,
                states: Vec::new(),
            };
            start(&mut crew);
            let states = crew.states;
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

    /// Ends the program if a thread hangs: nothing would end it otherwise.
    fn watch(&self, state: &State) {
        let since = state.since.load(Relaxed);
        let now = self.now();
        let limit = u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
        if since == 0 || now.saturating_sub(since) < limit {
            return;
        }
        let what = Operation::ALL.get(state.what.load(Relaxed));
        println!("Bail out! {what:?} has not ended for {:?}", self.patience);
        // Where all tasks are, in the kernel's log.
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

    /// How many operations were done.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// How long it took.
    pub fn length(&self) -> Duration {
        *locked(&self.length)
    }

    /// Whether all went well, and anything was done by each thread.
    pub fn verdict(&self) -> Result<()> {
        let failures = locked(&self.failures);
        if !failures.is_empty() {
            bail!("{}", failures.join("\n"));
        }
        Ok(())
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (operation, count) in Operation::ALL.iter().zip(&self.counts) {
            let count = count.load(Relaxed);
            if count > 0 {
                writeln!(f, "{:<10} {count}", format!("{operation:?}"))?;
            }
        }
        let short = self.short_of_memory.load(Relaxed);
        write!(f, "of these short of memory: {short}")
    }
}

/// The threads of a round.
pub struct Crew<'scope, 'env> {
    board: &'env Board,
    scope: &'scope Scope<'scope, 'env>,
    states: Vec<std::sync::Arc<State>>,
}

/// What one thread does.
#[derive(Default)]
struct State {
    /// When it began its operation, by [`Board::now`]; 0 is none.
    since: AtomicU64,
    what: AtomicUsize,
    left: AtomicBool,
}

impl<'env> Crew<'_, 'env> {
    /// Adds a thread. Its work is over when [`Desk::goes_on`] says so.
    pub fn add(&mut self, work: impl FnOnce(&mut Desk<'_>) -> Result<()> + Send + 'env) {
        let board = self.board;
        let state = std::sync::Arc::<State>::default();
        self.states.push(state.clone());
        *locked(&board.desks) += 1;
        self.scope.spawn(move || {
            let mut desk = Desk {
                board,
                state: &state,
                done: 0,
            };
            match work(&mut desk) {
                Ok(()) if desk.done == 0 => board.wrong("a thread did nothing".to_owned()),
                Ok(()) => {}
                Err(error) => board.wrong(format!("a thread gave up: {error:#}")),
            }
            state.since.store(0, Relaxed);
            state.left.store(true, Relaxed);
        });
    }
}

/// A thread's place.
pub struct Desk<'a> {
    board: &'a Board,
    state: &'a State,
    done: u64,
}

impl Desk<'_> {
    /// Whether there is time for one more operation.
    pub fn goes_on(&self) -> bool {
        !self.board.stop.load(Relaxed)
    }

    /// Does one operation. A lack of memory is no failure of it.
    pub fn does(&mut self, what: Operation, operation: impl FnOnce() -> Result<()>) {
        self.state.what.store(what as usize, Relaxed);
        self.state.since.store(self.board.now(), Relaxed);
        let result = operation();
        self.state.since.store(0, Relaxed);
        self.done += 1;
        if let Some(count) = self.board.counts.get(what as usize) {
            count.fetch_add(1, Relaxed);
        }
        match result {
            Err(error) if is_short_of_memory(&error) => {
                self.board.short_of_memory.fetch_add(1, Relaxed);
            }
            Err(error) => self.board.wrong(format!("{what:?}: {error:#}")),
            Ok(()) => {}
        }
    }
}

fn is_short_of_memory(error: &Error) -> bool {
    error.downcast_ref::<Errno>() == Some(&Errno::NOMEM)
}

/// What a lock protects. A thread that panicked ends the program anyway.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
