// SPDX-License-Identifier: GPL-2.0

//! Long work: a line on the screen, and all output in a log file.

use std::cell::Cell;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use indicatif::ProgressBar;

use super::command::cannot_start;
use super::command::end_group;
use super::course;
use super::screen;
use super::words::human;
use super::words::last_line;
use super::words::tail;
use crate::signals;

/// How often progress is printed where standard error is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How often a running child is polled.
const POLL: Duration = Duration::from_millis(50);

/// A piece of work with a progress line and a log.
pub struct Step {
    what: String,
    log: PathBuf,
    started: Instant,
    said: Cell<Instant>,
    bar: Option<ProgressBar>,
}

impl Step {
    /// Begins the work, with an empty log file.
    ///
    /// # Errors
    ///
    /// When the log cannot be written.
    pub fn begin(what: impl Into<String>, log: &Path) -> Result<Self> {
        let what = what.into();
        File::create(log).with_context(|| format!("cannot write the log {}", log.display()))?;
        // In a run of several pieces, one line tells of all.
        let doing = || what.clone();
        let bar = if course::show(doing) {
            None
        } else {
            screen::bar("{spinner} {prefix} {elapsed}")
        };
        if let Some(bar) = &bar {
            bar.set_prefix(what.clone());
        }
        if !screen::moves() {
            screen::say(&format!("xtask: {what} (log: {})", log.display()));
        }
        Ok(Self {
            what,
            log: log.to_path_buf(),
            started: Instant::now(),
            said: Cell::new(Instant::now()),
            bar,
        })
    }

    /// Runs a command with its output in the log, whose last line is shown.
    ///
    /// # Errors
    ///
    /// When it cannot be started, fails, or the user interrupts. The error has the end of
    /// the log.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        let status = self.status(command)?;
        if status.success() {
            return Ok(());
        }
        bail!(
            "{} failed: {} ended with {status}\n{}\nThe whole log: {}",
            self.what,
            command.get_program().to_string_lossy(),
            tail(&self.log, 25),
            self.log.display()
        );
    }

    /// As [`run`](Self::run), but a failure of the command is no error.
    ///
    /// # Errors
    ///
    /// When it cannot be started or the user interrupts.
    pub fn status(&self, command: &mut Command) -> Result<ExitStatus> {
        let mut log = OpenOptions::new().append(true).open(&self.log)?;
        writeln!(log, "+ {command:?}")?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // In a group of its own, so that one signal reaches all of make's children.
            .process_group(0)
            .spawn()
            .with_context(|| cannot_start(command))?;
        self.watch(&mut child)
    }

    fn watch(&self, child: &mut Child) -> Result<ExitStatus> {
        let mut shown = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if signals::interrupted() {
                end_group(child);
                bail!("interrupted during: {}", self.what);
            }
            if shown.elapsed() > Duration::from_millis(250) {
                shown = Instant::now();
                self.show();
            }
            thread::sleep(POLL);
        }
    }

    /// Adds to the log, whose last line is shown.
    pub fn note(&self, bytes: &[u8]) {
        if let Ok(mut log) = OpenOptions::new().append(true).open(&self.log) {
            let _ = log.write_all(bytes);
        }
        self.show();
    }

    /// Shows the log's last line: on a terminal at once, else now and then.
    fn show(&self) {
        if course::show(|| format!("{}: {}", self.what, last_line(&self.log))) {
            return;
        }
        if let Some(bar) = &self.bar {
            bar.set_message(last_line(&self.log));
        } else if self.said.get().elapsed() > HEARTBEAT {
            self.said.set(Instant::now());
            screen::say(&format!(
                "xtask: {}: {} so far; {}",
                self.what,
                human(self.started.elapsed()),
                last_line(&self.log)
            ));
        }
    }

    /// Ends the work and says how long it took.
    pub fn done(self) {
        let took = human(self.started.elapsed());
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        screen::say(&format!("xtask: {}: done in {took}", self.what));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        screen::transcribe_log(&self.what, &self.log);
    }
}
