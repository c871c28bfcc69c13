// SPDX-License-Identifier: GPL-2.0

//! One run of the guest, from QEMU's start to the verdict.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use command_fds::CommandFdExt;
use command_fds::FdMapping;
use signal_hook::consts::SIGWINCH;

use super::accel;
use super::args;
use super::channel::Ending;
use super::complaint;
use super::config::Job;
use super::config::VmConfig;
use super::outcome::Failure;
use super::outcome::Outcome;
use super::ports;
use super::ports::Event;
use super::ports::Stream;
use super::share;
use super::terminal;
use crate::context::Context;
use crate::signals;

/// Boots the guest, runs its job and tells how that ended.
///
/// `output` is given the job's output as it comes.
///
/// # Errors
///
/// When the run could not even begin: a file is missing or QEMU does not start.
/// All that goes wrong later is in the [`Outcome`].
pub fn run(
    context: &Context,
    config: &VmConfig,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Outcome> {
    let accel = accel::choose(context, config)?;
    let dir = context.cache.run_dir()?;
    let console = context.cache.numbered_log(&config.log_name)?;
    let mark = random_mark(dir.path());

    let share = dir.path().join("share");
    fs::create_dir(&share)?;
    let init = context.repo.join("scripts/guest-init");
    share::fill(&share, config, &init, &mark)?;

    let shell = matches!(config.job, Job::Shell(_));
    let raw = shell.then(terminal::RawMode::enter).transpose()?;

    let ports: &[&str] = if shell {
        &["control", "terminal"]
    } else {
        &["control", "stdout", "stderr", "stdin"]
    };
    let (ours, theirs): (Vec<_>, Vec<_>) = ports
        .iter()
        .map(|_| UnixStream::pair())
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    let child = start(config, accel, dir.path(), &share, &console, ports, theirs)?;
    let mut guest = Guest::connect(child, ports, ours, config, &mark)?;
    let end = guest.attend(config, output);
    drop(raw);

    let qemu_said = fs::read_to_string(dir.path().join("qemu.log")).unwrap_or_default();
    let result = guest.verdict(end, &console, qemu_said.trim());
    Ok(Outcome { result, console })
}

fn start(
    config: &VmConfig,
    accel: accel::Choice,
    dir: &Path,
    share: &Path,
    console: &Path,
    ports: &[&str],
    theirs: Vec<UnixStream>,
) -> Result<Child> {
    const FIRST_FD: i32 = 10;
    let fds: Vec<(&str, i32)> = ports.iter().copied().zip(FIRST_FD..).collect();
    // setpriv makes QEMU die with us, even if we are killed without a chance
    // to stop it.
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
        .args(args::qemu(config, accel, share, console, &fds))
        // Where snapshot=on keeps what the guest writes.
        .env("TMPDIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(dir.join("qemu.log"))?)
        .process_group(0);
    let mappings = theirs
        .into_iter()
        .zip(FIRST_FD..)
        .map(|(stream, child_fd)| FdMapping {
            parent_fd: OwnedFd::from(stream),
            child_fd,
        })
        .collect();
    qemu.fd_mappings(mappings)?;
    qemu.spawn().context(
        "cannot start QEMU; `cargo xtask setup` installs it (setpriv comes with util-linux)",
    )
}

/// How the attending ended, when not by the guest itself.
enum Stopped {
    Interrupted,
    TimedOut(Duration),
    NotBooted(Duration),
    NotPoweredOff,
}

/// A running guest and what it has said so far.
struct Guest {
    child: Child,
    events: mpsc::Receiver<Event>,
    control: UnixStream,
    resized: Arc<AtomicBool>,
    stdout: Ending,
    stderr: Ending,
    ready: bool,
    status: Option<u8>,
    excuse: Option<String>,
    dismissed: bool,
}

impl Guest {
    fn connect(
        child: Child,
        ports: &[&str],
        ours: Vec<UnixStream>,
        config: &VmConfig,
        mark: &str,
    ) -> Result<Self> {
        let (send, events) = mpsc::channel();
        let mut control = None;
        for (&port, stream) in ports.iter().zip(ours) {
            match port {
                "control" => {
                    control = Some(stream.try_clone()?);
                    ports::listen(stream, send.clone());
                }
                "stdout" => ports::pump(stream, Stream::Stdout, send.clone()),
                "stderr" => ports::pump(stream, Stream::Stderr, send.clone()),
                "stdin" if config.stdin => ports::give_stdin(stream),
                "terminal" => {
                    ports::give_keys(stream.try_clone()?, send.clone());
                    ports::pump(stream, Stream::Terminal, send.clone());
                }
                _ => {}
            }
        }
        let resized = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGWINCH, resized.clone())?;
        let shell = matches!(config.job, Job::Shell(_));
        let ending = || {
            let mut ending = Ending::new(mark);
            if shell {
                // A terminal has no end of its own: the status is enough.
                ending.feed(mark.as_bytes());
            }
            ending
        };
        Ok(Self {
            child,
            events,
            control: control.context("no control channel")?,
            resized,
            stdout: ending(),
            stderr: ending(),
            ready: false,
            status: None,
            excuse: None,
            dismissed: false,
        })
    }

    /// Passes output on until QEMU is gone, by itself or because time is up.
    fn attend(
        &mut self,
        config: &VmConfig,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Option<Stopped> {
        let mut since = Instant::now();
        let mut stopped = None;
        loop {
            let was_ready = self.ready;
            let was_dismissed = self.dismissed;
            match self.events.recv_timeout(Duration::from_millis(100)) {
                Ok(Event::Output(stream, bytes)) => self.pass_on(stream, &bytes, output),
                Ok(Event::Control(line)) => self.hear(&line),
                Ok(Event::Escape) => stopped = Some(Stopped::Interrupted),
                Err(RecvTimeoutError::Timeout) => {}
                // All readers are done: QEMU has closed its ends.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.dismiss_when_done();
            if self.ready != was_ready || self.dismissed != was_dismissed {
                since = Instant::now();
            }
            if self.resized.swap(false, Ordering::Relaxed) {
                if let Some((rows, columns)) = terminal::size() {
                    let _ = writeln!(self.control, "size {rows} {columns}");
                }
            }
            stopped = stopped
                .or_else(|| signals::interrupted().then_some(Stopped::Interrupted))
                .or_else(|| self.overdue(config, since.elapsed()));
            if stopped.is_some() {
                break;
            }
        }
        if stopped.is_some() {
            let _ = self.child.kill();
            while let Ok(event) = self.events.recv() {
                if let Event::Output(stream, bytes) = event {
                    self.pass_on(stream, &bytes, output);
                }
            }
        }
        let _ = self.child.wait();
        for (stream, rest) in [
            (Stream::Stdout, self.stdout.rest()),
            (Stream::Stderr, self.stderr.rest()),
        ] {
            if !rest.is_empty() {
                output(stream, &rest);
            }
        }
        stopped
    }

    fn pass_on(&mut self, stream: Stream, bytes: &[u8], output: &mut dyn FnMut(Stream, &[u8])) {
        let clean = match stream {
            Stream::Stdout => self.stdout.feed(bytes),
            Stream::Stderr => self.stderr.feed(bytes),
            Stream::Terminal => bytes.to_vec(),
        };
        if !clean.is_empty() {
            output(stream, &clean);
        }
    }

    /// A line from the guest's init.
    fn hear(&mut self, line: &str) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("ready", _) => self.ready = true,
            ("status", number) => self.status = number.trim().parse().ok(),
            ("failed", why) => self.excuse = Some(why.to_owned()),
            _ => {}
        }
    }

    /// Tells the guest that nothing of what it said was lost on the way.
    fn dismiss_when_done(&mut self) {
        let done = self.status.is_some() && self.stdout.ended() && self.stderr.ended();
        if (done || self.excuse.is_some()) && !self.dismissed {
            self.dismissed = true;
            let _ = writeln!(self.control, "off");
        }
    }

    fn overdue(&self, config: &VmConfig, waited: Duration) -> Option<Stopped> {
        if self.dismissed {
            let most = config.boot_timeout / 2;
            (waited > most).then_some(Stopped::NotPoweredOff)
        } else if self.ready {
            let most = config.timeout?;
            (waited > most).then_some(Stopped::TimedOut(most))
        } else {
            let most = config.boot_timeout;
            (waited > most).then_some(Stopped::NotBooted(most))
        }
    }

    fn verdict(self, end: Option<Stopped>, console: &Path, qemu: &str) -> Result<u8, Failure> {
        if matches!(end, Some(Stopped::Interrupted)) {
            return Err(Failure::Interrupted);
        }
        match complaint::find(console) {
            Some(Failure::Complained(line, _)) => {
                return Err(Failure::Complained(line, self.status));
            }
            Some(failure) => return Err(failure),
            None => {}
        }
        if let Some(why) = self.excuse.clone() {
            return Err(Failure::NotPrepared(why));
        }
        match (end, self.status) {
            (Some(Stopped::TimedOut(time)), _) => Err(Failure::TimedOut(time)),
            (Some(Stopped::NotBooted(time)), _) => Err(Failure::NotBooted(time)),
            (Some(Stopped::NotPoweredOff), status) => {
                Err(Failure::NotPoweredOff(status.unwrap_or_default()))
            }
            (_, Some(status)) if self.dismissed => Ok(status),
            _ if !self.ready && !qemu.is_empty() => Err(Failure::Qemu(qemu.to_owned())),
            _ => Err(Failure::Vanished),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A mark that no output contains by chance.
fn random_mark(seed: &Path) -> String {
    use std::hash::BuildHasher;
    let word = || std::collections::hash_map::RandomState::new().hash_one(seed);
    format!("\u{1}end-{:016x}{:016x}", word(), word())
}
