// SPDX-License-Identifier: GPL-2.0

//! A running guest: what it says, how long it may take, and how it ended.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use signal_hook::consts::SIGWINCH;

use super::channel::Ending;
use super::complaint;
use super::config::Job;
use super::config::VmConfig;
use super::outcome::Failure;
use super::ports;
use super::ports::Event;
use super::ports::Stream;
use super::terminal;
use crate::signals;

/// Why xtask stopped the guest.
pub enum Stopped {
    /// The user asked for it.
    Interrupted,
    /// The job took longer than this.
    TimedOut(Duration),
    /// The guest did not run the job within this time.
    NotBooted(Duration),
    /// The initramfs has given up: the console's line.
    Refused(String),
    /// The job has ended, and the guest did not power off.
    NotPoweredOff,
}

/// A running guest and what it has said so far. QEMU is killed when this is dropped.
pub struct Session {
    child: Child,
    events: mpsc::Receiver<Event>,
    control: UnixStream,
    resized: Arc<AtomicBool>,
    stdout: Ending,
    stderr: Ending,
    /// The guest has booted.
    ready: bool,
    /// The job's exit status.
    status: Option<u8>,
    /// Why the guest could not prepare itself.
    not_prepared: Option<String>,
    /// The guest was told to power off.
    powering_off: bool,
}

impl Session {
    /// Starts the threads that read the guest's channels. `ports` are their names, `ours`
    /// the streams, and `mark` ends the job's output.
    ///
    /// # Errors
    ///
    /// When a stream cannot be duplicated, or SIGWINCH cannot be handled.
    pub fn connect(
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
                // A terminal's output has no mark: the status is enough.
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
            not_prepared: None,
            powering_off: false,
        })
    }

    /// Passes output on until QEMU has ended, or is killed because the time is over.
    pub fn attend(
        &mut self,
        config: &VmConfig,
        console: &Path,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Option<Stopped> {
        let mut since = Instant::now();
        let mut stopped = None;
        loop {
            let was_ready = self.ready;
            let was_powering_off = self.powering_off;
            match self.events.recv_timeout(Duration::from_millis(100)) {
                Ok(Event::Output(stream, bytes)) => self.pass_on(stream, &bytes, output),
                Ok(Event::Control(line)) => self.take_line(&line),
                Ok(Event::Escape) => stopped = Some(Stopped::Interrupted),
                Err(RecvTimeoutError::Timeout) => {}
                // All threads have ended: QEMU has closed its ends.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.power_off_when_done();
            if self.ready != was_ready || self.powering_off != was_powering_off {
                since = Instant::now();
            }
            if self.resized.swap(false, Ordering::Relaxed) {
                if let Some((rows, columns)) = terminal::size() {
                    let _ = writeln!(self.control, "size {rows} {columns}");
                }
            }
            stopped = stopped
                .or_else(|| signals::interrupted().then_some(Stopped::Interrupted))
                .or_else(|| self.refused(config, console))
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

    /// Takes a line of the guest's init.
    fn take_line(&mut self, line: &str) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("ready", _) => self.ready = true,
            ("status", number) => self.status = number.trim().parse().ok(),
            ("failed", why) => self.not_prepared = Some(why.to_owned()),
            _ => {}
        }
    }

    /// Tells the guest to power off when all of the job's output has arrived.
    fn power_off_when_done(&mut self) {
        let done = self.status.is_some() && self.stdout.ended() && self.stderr.ended();
        if (done || self.not_prepared.is_some()) && !self.powering_off {
            self.powering_off = true;
            let _ = writeln!(self.control, "off");
        }
    }

    /// Whether a system has stopped booting, where its console waits for somebody.
    fn refused(&self, config: &VmConfig, console: &Path) -> Option<Stopped> {
        if !config.systemd || self.ready {
            return None;
        }
        complaint::refusal(console).map(Stopped::Refused)
    }

    /// Why the guest has to be stopped after `waited`, the time since it last went a step
    /// further.
    fn overdue(&self, config: &VmConfig, waited: Duration) -> Option<Stopped> {
        if self.powering_off {
            let most = config.boot_timeout / 2;
            (waited > most).then_some(Stopped::NotPoweredOff)
        } else if self.ready {
            let most = config.timeout?;
            (waited > most).then_some(Stopped::TimedOut(most))
        } else {
            // An instruction that is counted takes longer.
            let most = config.boot_timeout * if config.icount { 3 } else { 1 };
            (waited > most).then_some(Stopped::NotBooted(most))
        }
    }

    /// Whether the guest was prepared, so that its job began.
    pub fn began(&self) -> bool {
        self.ready
    }

    /// Judges the run by how it ended, what the console says and what `qemu` wrote.
    ///
    /// # Errors
    ///
    /// Why there is no exit status that can be relied on.
    pub fn verdict(self, end: Option<Stopped>, console: &Path, qemu: &str) -> Result<u8, Failure> {
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
        if let Some(why) = self.not_prepared.clone() {
            return Err(Failure::NotPrepared(why));
        }
        match (end, self.status) {
            (Some(Stopped::TimedOut(time)), _) => Err(Failure::TimedOut(time)),
            (Some(Stopped::NotBooted(time)), _) => Err(Failure::NotBooted(time)),
            (Some(Stopped::Refused(line)), _) => Err(Failure::Refused(line)),
            (Some(Stopped::NotPoweredOff), status) => {
                Err(Failure::NotPoweredOff(status.unwrap_or_default()))
            }
            (_, Some(status)) if self.powering_off => Ok(status),
            _ if !self.ready && !qemu.is_empty() => Err(Failure::Qemu(qemu.to_owned())),
            _ => Err(Failure::Vanished),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
