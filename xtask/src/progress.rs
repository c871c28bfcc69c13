// SPDX-License-Identifier: GPL-2.0

//! Long work: a line on the screen, and all output in a log file.

use std::cell::Cell;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use console::Term;
use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process_group;

use crate::signals;

/// How often progress is printed where standard error is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How often a running child is polled.
const POLL: Duration = Duration::from_millis(50);

/// The progress lines on the terminal: there may be several at once.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

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
        let bar = Term::stderr().is_term().then(|| {
            let bar = BARS.add(ProgressBar::new_spinner());
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(what.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("xtask: {what} (log: {})", log.display());
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
            if self.bar.is_none() || shown.elapsed() > Duration::from_millis(250) {
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

    /// Shows the log's last line: on a terminal at once, else every [`HEARTBEAT`].
    fn show(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message(last_line(&self.log));
        } else if self.said.get().elapsed() > HEARTBEAT {
            self.said.set(Instant::now());
            eprintln!(
                "xtask: {}: {} so far; {}",
                self.what,
                human(self.started.elapsed()),
                last_line(&self.log)
            );
        }
    }

    /// Runs `print`, which prints, with the progress lines out of the way.
    pub fn suspend(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(_) => BARS.suspend(print),
            None => print(),
        }
    }

    /// Ends the work and says how long it took.
    pub fn done(self) {
        let took = human(self.started.elapsed());
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("xtask: {}: done in {took}", self.what);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Runs a short command and returns what it wrote to its standard output.
///
/// # Errors
///
/// When it cannot be started, or fails. The error has its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last lines of a log, for an error message.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all.iter()
        .skip(all.len().saturating_sub(lines))
        .map(|line| format!("  | {}\n", line.trim_end()))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

/// A duration for people to read.
pub fn human(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

fn cannot_start(command: &Command) -> String {
    format!(
        "cannot start {}; `cargo xtask setup` installs what is missing",
        command.get_program().to_string_lossy()
    )
}

fn end_group(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process_group(pid, Signal::TERM);
        }
    }
    let _ = child.wait();
}

/// The last line that is not empty.
fn last_line(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(1000)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        let end = String::from_utf8_lossy(&end).into_owned();
        let line = end.lines().rev().find(|line| !line.trim().is_empty());
        Ok(line.unwrap_or_default().trim().replace('\t', " "))
    };
    read().unwrap_or_default()
}
