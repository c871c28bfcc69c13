// SPDX-License-Identifier: GPL-2.0

//! How far a run of several pieces is: which pieces, how many of how many, how long still.

use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use indicatif::ProgressBar;

use super::screen;
use super::words::about;
use super::words::human;
use crate::sync::lock;

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
    /// Which share of the machine it needs: 1 for all of it, 2 for half of it.
    pub divisor: u32,
    /// How far it is.
    pub stage: Stage,
}

/// How far a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not begun.
    Todo,
    /// It began then, and runs.
    Running(Instant),
    /// It has ended.
    Done,
}

/// A run of several pieces, with one line on the screen.
pub struct Course {
    state: Arc<Mutex<State>>,
    ticker: Option<JoinHandle<()>>,
}

struct State {
    pieces: Vec<Piece>,
    begun: Instant,
    /// What one of the running pieces is doing.
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
            begun: now,
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
    pub fn piece_begins(&self, number: usize) {
        let mut state = lock(&self.state);
        state.set(number, Stage::Running(Instant::now()));
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

    /// The piece of this number has ended.
    pub fn piece_ends(&self, number: usize) {
        lock(&self.state).set(number, Stage::Done);
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
    fn set(&mut self, number: usize, stage: Stage) {
        if let Some(piece) = self.pieces.get_mut(number) {
            piece.stage = stage;
        }
    }

    fn line(&self) -> String {
        format!(
            "{}: {} so far, {}",
            where_it_is(&self.pieces),
            human(self.begun.elapsed()),
            left(&self.pieces),
        )
    }
}

/// How many pieces have begun, of how many, and which ones run.
fn where_it_is(pieces: &[Piece]) -> String {
    let begun = pieces.iter().filter(|piece| piece.stage != Stage::Todo);
    let running = pieces
        .iter()
        .filter(|piece| matches!(piece.stage, Stage::Running(_)));
    let names: Vec<String> = running.map(|piece| short(&piece.name)).collect();
    format!(
        "{} of {}, {}",
        begun.count(),
        pieces.len(),
        names.join(" and ")
    )
}

/// The beginning of a name, which may list dozens of programs.
fn short(name: &str) -> String {
    const LONGEST: usize = 50;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", name.get(..end).unwrap_or(name)),
        None => name.to_owned(),
    }
}

/// How long the run goes on from here, in words.
fn left(pieces: &[Piece]) -> String {
    // What keeps the whole machine busy, and what cannot end before the last piece does.
    let mut sum = Duration::ZERO;
    let mut longest = Duration::ZERO;
    let mut unknown = 0;
    for piece in pieces {
        let elapsed = match piece.stage {
            Stage::Todo => Duration::ZERO,
            Stage::Running(since) => since.elapsed(),
            Stage::Done => continue,
        };
        match piece.expected {
            Some(time) => {
                let rest = time.saturating_sub(elapsed);
                sum += rest / piece.divisor.max(1);
                longest = longest.max(rest);
            }
            None => unknown += 1,
        }
    }
    let sum = sum.max(longest);
    match (sum, unknown) {
        (Duration::ZERO, 0) => "longer than the last time".to_owned(),
        (sum, 0) => format!("about {} left", about(sum)),
        (Duration::ZERO, _) => "no estimate yet".to_owned(),
        (sum, some) => format!("about {} left and {some} of unknown time", about(sum)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(name: &str, seconds: Option<u64>, divisor: u32, stage: Stage) -> Piece {
        Piece {
            name: name.to_owned(),
            expected: seconds.map(Duration::from_secs),
            divisor,
            stage,
        }
    }

    /// Running since some seconds ago.
    fn running(seconds: u64) -> Result<Stage, &'static str> {
        let since = Instant::now().checked_sub(Duration::from_secs(seconds));
        since.map(Stage::Running).ok_or("the machine is too young")
    }

    #[test]
    fn what_is_done_is_not_left() -> Result<(), &'static str> {
        let pieces = |first, second, third| {
            [
                piece("a", Some(600), 1, first),
                piece("b", Some(120), 1, second),
                piece("c", Some(60), 1, third),
            ]
        };
        let (todo, done) = (Stage::Todo, Stage::Done);
        assert_eq!(left(&pieces(todo, todo, todo)), "about 13 min left");
        assert_eq!(left(&pieces(done, todo, todo)), "about 3 min left");
        assert_eq!(left(&pieces(done, running(61)?, todo)), "about 2 min left");
        assert_eq!(left(&pieces(done, done, todo)), "about 1 min left");
        assert_eq!(
            left(&pieces(done, done, running(61)?)),
            "longer than the last time"
        );
        Ok(())
    }

    #[test]
    fn two_at_once_take_half_as_long() {
        let half = |seconds| piece("a", Some(seconds), 2, Stage::Todo);
        assert_eq!(left(&[half(600), half(600)]), "about 10 min left");
        // But not less than one of them alone.
        assert_eq!(left(&[half(1200), half(60)]), "about 20 min left");
    }

    #[test]
    fn what_never_ran_is_said() {
        let unknown = piece("a", None, 1, Stage::Todo);
        assert_eq!(left(std::slice::from_ref(&unknown)), "no estimate yet");
        assert_eq!(
            left(&[piece("a", Some(60), 1, Stage::Todo), unknown]),
            "about 1 min left and 1 of unknown time"
        );
    }

    #[test]
    fn all_that_run_are_named() -> Result<(), &'static str> {
        let pieces = [
            piece("a", None, 1, Stage::Done),
            piece("b", None, 1, running(0)?),
            piece("c", None, 1, running(0)?),
            piece("d", None, 1, Stage::Todo),
        ];
        assert_eq!(where_it_is(&pieces), "3 of 4, b and c");
        let many = piece(&"name,".repeat(100), None, 1, running(0)?);
        let line = format!("1 of 1, {}...", "name,".repeat(10));
        assert_eq!(where_it_is(&[many]), line);
        Ok(())
    }
}
