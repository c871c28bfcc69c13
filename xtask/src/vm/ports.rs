// SPDX-License-Identifier: GPL-2.0

//! Our ends of the guest's channels, each with a thread of its own.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::Sender;
use std::thread;

use rustix::event::PollFd;
use rustix::event::PollFlags;

use super::terminal;

/// Which of the guest's outputs bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The command's standard output.
    Stdout,
    /// The command's standard error.
    Stderr,
    /// The terminal of the shell.
    Terminal,
}

/// What the threads that read from QEMU tell the main one.
pub enum Event {
    /// Bytes of the job.
    Output(Stream, Vec<u8>),
    /// A line of the guest's init.
    Control(String),
    /// The user wants out.
    Escape,
}

/// Passes on what the job writes.
pub fn pump(mut from: UnixStream, stream: Stream, to: Sender<Event>) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to
                .send(Event::Output(stream, buffer[..count].to_vec()))
                .is_err()
            {
                break;
            }
        }
    });
}

/// Passes on what the guest's init says, a line at a time.
pub fn listen(from: UnixStream, to: Sender<Event>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { break };
            if to.send(Event::Control(line)).is_err() {
                break;
            }
        }
    });
}

/// Copies our standard input to the guest. The thread ends with the process:
/// nothing can wake it from its read.
pub fn give_stdin(mut to: UnixStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut to);
        let _ = to.shutdown(Shutdown::Write);
        // Dropping the stream would close it for QEMU at once, with bytes
        // still on the way.
        loop {
            thread::park();
        }
    });
}

/// Copies the user's keys to the guest's terminal, looking for the way out.
///
/// Nothing can wake the thread from its read either, so it must not keep the
/// event channel open: it holds a sender only while it has something to say.
pub fn give_keys(mut to: UnixStream, events: Sender<Event>) {
    let events = Arc::new(Mutex::new(Some(events)));
    let watched = events.clone();
    let gone = to.try_clone();
    thread::spawn(move || {
        // QEMU's end closes: let go of the sender.
        if let Ok(stream) = gone {
            wait_closed(&stream);
        }
        if let Ok(mut slot) = watched.lock() {
            slot.take();
        }
    });
    thread::spawn(move || {
        let mut escapes = 0;
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = io::stdin().lock().read(&mut buffer) {
            for &key in &buffer[..count] {
                escapes = if key == terminal::ESCAPE {
                    escapes + 1
                } else {
                    0
                };
                if escapes == 3 {
                    if let Ok(slot) = events.lock() {
                        slot.as_ref().map(|events| events.send(Event::Escape));
                    }
                }
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
    });
}

/// Writes the guest's output to that of xtask.
pub fn pass_on(stream: Stream, bytes: &[u8]) {
    // A reader may end early, as `head` does.
    let _ = match stream {
        Stream::Stderr => io::stderr().write_all(bytes),
        Stream::Stdout | Stream::Terminal => {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
    };
}

/// Returns when the other end of a stream is closed, taking nothing from it.
fn wait_closed(stream: &UnixStream) {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    while let Err(rustix::io::Errno::INTR) = rustix::event::poll(&mut fds, None) {}
}
