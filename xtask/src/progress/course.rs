// SPDX-License-Identifier: GPL-2.0

//! How far a run of several pieces is: which piece, how many of how many, how long still.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use indicatif::ProgressBar;

use super::screen;
use super::words::about;
use super::words::human;

/// How often the line is brought up to date on a terminal.
const MOVES: Duration = Duration::from_millis(500);

/// How often it is printed elsewhere.
const PRINTED: Duration = Duration::from_secs(60);

/// The run that goes on, if there is one.
static CURRENT: Mutex<Option<Arc<Mutex<State>>>> = Mutex::new(None);

/// A piece of a run.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its name.
    pub name: String,
    /// How long it took the last time.
    pub expected: Option<Duration>,
}

/// A run of several pieces, one after the other, with one line on the screen.
pub struct Course {
    state: Arc<Mutex<State>>,
    ticker: Option<JoinHandle<()>>,
}

struct State {
    pieces: Vec<Piece>,
    current: usize,
    begun: Instant,
    piece_begun: Instant,
    /// What the current piece is doing.
    doing: String,
    said: Instant,
    bar: Option<ProgressBar>,
    ended: bool,
}

impl Course {
    /// Begins a run. From now on, steps have no line of their own.
    pub fn begin(pieces: Vec<Piece>) -> Self {
        let now = Instant::now();
        let state = Arc::new(Mutex::new(State {
            pieces,
            current: 0,
            begun: now,
            piece_begun: now,
            doing: String::new(),
            said: now,
            bar: screen::bar("{spinner} {prefix};"),
            ended: false,
        }));
        *lock(&CURRENT) = Some(Arc::clone(&state));
        let ticking = Arc::clone(&state);
        let ticker = thread::spawn(move || {
            while tick(&mut lock(&ticking)) {
                thread::park_timeout(MOVES);
            }
        });
        Self {
            state,
            ticker: Some(ticker),
        }
    }

    /// The piece of this number begins.
    pub fn piece(&self, number: usize) {
        let mut state = lock(&self.state);
        state.current = number;
        state.piece_begun = Instant::now();
        state.doing.clear();
        let line = format!("xtask: {}", state.line());
        // A line says it once where no line moves.
        let silent = state.bar.is_some();
        state.said = Instant::now();
        drop(state);
        if !silent {
            screen::say(&line);
        }
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        *lock(&CURRENT) = None;
        let mut state = lock(&self.state);
        state.ended = true;
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        drop(state);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            let _ = ticker.join();
        }
    }
}

/// Shows what is being done, if a run of several pieces goes on. Says whether it does.
pub fn show(doing: impl FnOnce() -> String) -> bool {
    let current = lock(&CURRENT).clone();
    if let Some(state) = &current {
        lock(state).doing = doing();
    }
    current.is_some()
}

/// Brings the line up to date. Returns false when the run has ended.
fn tick(state: &mut State) -> bool {
    if let Some(bar) = &state.bar {
        bar.set_prefix(state.line());
        bar.set_message(state.doing.clone());
    } else if !state.ended && state.said.elapsed() >= PRINTED {
        state.said = Instant::now();
        screen::say(&format!("xtask: {}; {}", state.line(), state.doing));
    }
    !state.ended
}

impl State {
    fn line(&self) -> String {
        let name = self.pieces.get(self.current).map(|piece| &piece.name[..]);
        format!(
            "{} of {}, {}: {} so far, {}",
            self.current + 1,
            self.pieces.len(),
            name.unwrap_or_default(),
            human(self.begun.elapsed()),
            left(&self.pieces, self.current, self.piece_begun.elapsed()),
        )
    }
}

/// How long the run goes on from here, in words. The current piece has run for `elapsed`.
fn left(pieces: &[Piece], current: usize, elapsed: Duration) -> String {
    let mut sum = Duration::ZERO;
    let mut unknown = 0;
    for (number, piece) in pieces.iter().enumerate().skip(current) {
        match piece.expected {
            Some(time) if number == current => sum += time.saturating_sub(elapsed),
            Some(time) => sum += time,
            None => unknown += 1,
        }
    }
    match (sum, unknown) {
        (Duration::ZERO, 0) => "longer than the last time".to_owned(),
        (sum, 0) => format!("about {} left", about(sum)),
        (Duration::ZERO, _) => "no estimate yet".to_owned(),
        (sum, some) => format!("about {} left and {some} of unknown time", about(sum)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(expected: &[Option<u64>]) -> Vec<Piece> {
        let piece = |seconds: &Option<u64>| Piece {
            name: "a".to_owned(),
            expected: seconds.map(Duration::from_secs),
        };
        expected.iter().map(piece).collect()
    }

    #[test]
    fn what_is_done_is_not_left() {
        let pieces = pieces(&[Some(600), Some(120), Some(60)]);
        let left = |current, seconds| left(&pieces, current, Duration::from_secs(seconds));
        assert_eq!(left(0, 0), "about 13 min left");
        assert_eq!(left(1, 0), "about 3 min left");
        assert_eq!(left(1, 60), "about 2 min left");
        // It takes longer than the last time.
        assert_eq!(left(1, 1000), "about 1 min left");
        assert_eq!(left(2, 60), "longer than the last time");
    }

    #[test]
    fn what_never_ran_is_said() {
        let first = pieces(&[None]);
        assert_eq!(left(&first, 0, Duration::ZERO), "no estimate yet");
        let second = pieces(&[Some(60), None]);
        assert_eq!(
            left(&second, 0, Duration::ZERO),
            "about 1 min left and 1 of unknown time"
        );
    }
}
