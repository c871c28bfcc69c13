// SPDX-License-Identifier: GPL-2.0

//! The screen: lines that stay, and below them lines that move. What stays is also kept in a
//! file, if there is a transcript.

use std::cell::RefCell;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use console::Term;
use console::strip_ansi_codes;
use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

use crate::sync::lock;

/// The lines that move. There may be several at once.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

thread_local! {
    /// The file of the [`Transcript`] of this thread.
    static TRANSCRIPT: RefCell<Option<Arc<Mutex<File>>>> = const { RefCell::new(None) };
}

/// A file that gets all that this thread says and prints until this is dropped, and the logs of
/// all its steps. A thread has one at a time.
pub struct Transcript(());

/// The transcript of a thread, for another one that works for it.
#[derive(Clone)]
pub struct Shared(Option<Arc<Mutex<File>>>);

impl Transcript {
    /// Begins it with an empty file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn begin(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(path)
            .with_context(|| format!("cannot write the log {}", path.display()))?;
        TRANSCRIPT.set(Some(Arc::new(Mutex::new(file))));
        Ok(Self(()))
    }

    /// That of this thread, if there is one.
    pub fn share() -> Shared {
        Shared(TRANSCRIPT.with_borrow(Clone::clone))
    }
}

impl Shared {
    /// Makes it this thread's, too.
    pub fn join(self) -> Transcript {
        TRANSCRIPT.set(self.0);
        Transcript(())
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        TRANSCRIPT.set(None);
    }
}

/// Writes to the transcript, if there is one.
fn with_transcript(write: impl FnOnce(&mut File)) {
    TRANSCRIPT.with_borrow(|transcript| {
        if let Some(file) = transcript {
            write(&mut lock(file));
        }
    });
}

/// Adds a line to the transcript, if there is one.
fn transcribe(line: &str) {
    with_transcript(|file| {
        let _ = writeln!(file, "{}", strip_ansi_codes(line));
    });
}

/// Adds the log of a step to the transcript, if there is one. The step's own file may be
/// written again by the next run.
pub fn transcribe_log(what: &str, log: &Path) {
    with_transcript(|file| {
        let Ok(bytes) = fs::read(log) else {
            return;
        };
        let _ = writeln!(file, "--- the log of: {what}");
        let _ = file.write_all(&bytes);
        let _ = writeln!(file, "--- the end of: {what}");
    });
}

/// Writes a line to standard output: what a user asked for.
pub fn print(line: &str) {
    BARS.suspend(|| println!("{line}"));
    transcribe(line);
}

/// Writes a line to standard error: what is being done.
pub fn say(line: &str) {
    BARS.suspend(|| eprintln!("{line}"));
    transcribe(line);
}

/// Whether lines can move: whether standard error is a terminal.
pub fn moves() -> bool {
    Term::stderr().is_term()
}

/// A new line that moves, if it can. It begins with what `template` says, and ends with the
/// message.
pub fn bar(template: &str) -> Option<ProgressBar> {
    if !moves() {
        return None;
    }
    let bar = BARS.add(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template(&format!("{template} {{wide_msg:.dim}}")) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    Some(bar)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn each_thread_has_the_transcript_of_its_work() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = |name: &str| dir.path().join(name);
        let suite = |name: &str| -> Result<()> {
            let _transcript = Transcript::begin(&path(name))?;
            let shared = Transcript::share();
            transcribe(&format!("{name} begins"));
            thread::scope(|scope| {
                scope.spawn(|| {
                    let _transcript = shared.join();
                    transcribe(&format!("{name} in a guest"));
                });
                scope.spawn(|| transcribe("of nothing"));
            });
            transcribe(&format!("{name} ends"));
            Ok(())
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| suite("b"));
            suite("a")?;
            other.join().unwrap_or(Ok(()))
        })?;
        transcribe("after the end");
        for name in ["a", "b"] {
            assert_eq!(
                fs::read_to_string(path(name))?,
                format!("{name} begins\n{name} in a guest\n{name} ends\n")
            );
        }
        Ok(())
    }
}
