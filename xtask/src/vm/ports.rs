// SPDX-License-Identifier: GPL-2.0

//! xtask's ends of the guest's channels, each with a thread of its own.

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

/// An output of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The command's standard output.
    Stdout,
    /// The command's standard error.
    Stderr,
    /// The terminal of the shell.
    Terminal,
}

/// What the threads send to the main thread.
pub enum Event {
    /// Output of the job.
    Output(Stream, Vec<u8>),
    /// A line of the guest's init.
    Control(String),
    /// The user has typed the escape that stops the guest.
    Escape,
}

/// Starts the thread that passes on the job's output.
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

/// Starts the thread that passes on the lines of the guest's init.
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

/// Starts the thread that copies xtask's standard input to the guest. It ends with the
/// process, because nothing wakes it from read(2).
pub fn give_stdin(mut to: UnixStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut to);
        let _ = to.shutdown(Shutdown::Write);
        // Dropping the stream would close it, and lose the bytes that QEMU has not read.
        loop {
            thread::park();
        }
    });
}

/// Starts the thread that copies the user's keys to the guest's terminal and watches for
/// the escape.
///
/// Nothing wakes it from read(2) either. The main thread waits until all senders are
/// dropped, so a second thread drops the sender when QEMU closes its end.
pub fn give_keys(mut to: UnixStream, events: Sender<Event>) {
    let events = Arc::new(Mutex::new(Some(events)));
    let watched = events.clone();
    let gone = to.try_clone();
    thread::spawn(move || {
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

/// Returns when the other end of a stream is closed. Reads nothing from it.
fn wait_closed(stream: &UnixStream) {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    while let Err(rustix::io::Errno::INTR) = rustix::event::poll(&mut fds, None) {}
}
