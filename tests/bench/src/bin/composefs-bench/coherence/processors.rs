// SPDX-License-Identifier: GPL-2.0

//! Processes, one on each processor, that take turns. Each is forked, so that they share no
//! more than the processes of a user do: no open files, no credentials.

use std::hint;
use std::io;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use memmap2::MmapOptions;
use memmap2::MmapRaw;
use rustix::fs::MemfdFlags;
use rustix::fs::ftruncate;
use rustix::fs::memfd_create;
use rustix::thread::CpuSet;
use rustix::thread::sched_setaffinity;

/// Bytes that processes share. The second half is for operations.
const SIZE: u64 = 8192;

/// Bytes in a line of a cache.
const LINE: u64 = 64;

/// How long all processors together wait between two looks at whose turn it is, in iterations: the
/// guest's clock counts instructions, and timers are to go off while all wait. With many
/// processors, each waits less, or the emulation would do little else.
const PATIENCE: u32 = 8000;

/// The most iterations for each.
const MOST: u32 = 1000;

/// Memory that all processes share, at the same address.
pub struct Shared(MmapRaw);

impl Shared {
    /// Maps it.
    pub fn new() -> Result<Self> {
        let file = memfd_create("composefs-bench", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, SIZE)?;
        Ok(Self(MmapOptions::new().map_raw(&file)?))
    }

    /// The address of the part that operations may write to.
    pub fn address(&self) -> u64 {
        self.0.as_mut_ptr().addr() as u64 + SIZE / 2
    }

    /// Reads a line from a file to the part that operations may write to.
    pub fn fill(&self, file: &OwnedFd, line: u64) -> Result<()> {
        let offset = (SIZE / 2 + line * LINE) as usize;
        ensure!(
            offset as u64 + LINE <= SIZE,
            "line {line} is behind the memory"
        );
        // SAFETY: this is inside of the mapping, and nobody makes references to it.
        let place = unsafe { self.0.as_mut_ptr().add(offset) };
        // SAFETY: as above.
        let done = unsafe { libc::read(file.as_raw_fd(), place.cast(), LINE as usize) };
        ensure!(done == LINE as isize, "{}", io::Error::last_os_error());
        Ok(())
    }

    fn turn(&self) -> &AtomicU64 {
        // SAFETY: the mapping is large enough, aligned, and all processes use the atomic.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().cast()) }
    }

    fn failed(&self) -> &AtomicU32 {
        // SAFETY: as above; the turn has 8 bytes.
        unsafe { AtomicU32::from_ptr(self.0.as_mut_ptr().add(64).cast()) }
    }
}

/// Whose turn it is.
pub struct Turns<'a> {
    /// What they share.
    pub shared: &'a Shared,
    /// The number of this process.
    pub number: u32,
    /// The number of all of them.
    pub count: u32,
    next: u64,
}

impl Turns<'_> {
    /// Waits for this process's turn, does something and gives the turn to the next one.
    pub fn take<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        while self.shared.turn().load(Ordering::Acquire) != self.next {
            if self.shared.failed().load(Ordering::Relaxed) != 0 {
                bail!("another process has failed");
            }
            for patience in 0..MOST.min(PATIENCE / self.count) {
                hint::black_box(patience);
            }
            // Another processor's turn begins in the emulation, too.
            hint::spin_loop();
        }
        let result = work();
        self.next += u64::from(self.count);
        self.shared.turn().fetch_add(1, Ordering::Release);
        result
    }
}

/// Runs `work` in `count` processes.
pub fn run(
    count: u32,
    shared: &Shared,
    work: impl Fn(&mut Turns<'_>, u32) -> Result<()>,
) -> Result<()> {
    shared.turn().store(0, Ordering::Relaxed);
    shared.failed().store(0, Ordering::Relaxed);
    io::stdout().flush()?;
    for number in 0..count {
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => {
                let status = child(number, count, shared, &work);
                // SAFETY: it ends the process, and runs nothing of the parent's.
                unsafe { libc::_exit(status) }
            }
            -1 => {
                shared.failed().store(1, Ordering::Relaxed);
                bail!("cannot fork: {}", io::Error::last_os_error());
            }
            _ => {}
        }
    }
    let mut failed = false;
    for _ in 0..count {
        let mut status = 0;
        // SAFETY: `status` is valid.
        if unsafe { libc::wait(&mut status) } == -1 {
            bail!("cannot wait: {}", io::Error::last_os_error());
        }
        if status != 0 {
            shared.failed().store(1, Ordering::Relaxed);
            failed = true;
        }
    }
    if failed {
        bail!("a process has failed");
    }
    Ok(())
}

fn child(
    number: u32,
    count: u32,
    shared: &Shared,
    work: &impl Fn(&mut Turns<'_>, u32) -> Result<()>,
) -> i32 {
    let mut turns = Turns {
        shared,
        number,
        count,
        next: number.into(),
    };
    let done = pin(number).and_then(|()| work(&mut turns, number));
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("composefs-bench: processor {number}: {error:#}");
            shared.failed().store(1, Ordering::Relaxed);
            1
        }
    }
}

/// Stays on a processor.
fn pin(number: u32) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(number as usize);
    sched_setaffinity(None, &set).with_context(|| format!("there is no processor {number}"))
}
