// SPDX-License-Identifier: GPL-2.0

//! Performing and counting system calls.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rustix::io::Errno;

use crate::watchdog;

/// A kind of system call.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// fsopen(2), fsconfig(2), fsmount(2)
    Mount,
    /// move_mount(2)
    Attach,
    /// fstatfs(2)
    Statfs,
    /// statx(2)
    Stat,
    /// openat(2)
    Open,
    /// getdents64(2)
    Getdents,
    /// lseek(2) and another getdents64(2)
    Seek,
    /// pread(2)
    Read,
    /// sendfile(2)
    Sendfile,
    /// readlinkat(2)
    Readlink,
    /// flistxattr(2)
    Listxattr,
    /// fgetxattr(2)
    Getxattr,
    /// close(2) or umount2(2)
    Unmount,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 13] = [
        Self::Mount,
        Self::Attach,
        Self::Statfs,
        Self::Stat,
        Self::Open,
        Self::Getdents,
        Self::Seek,
        Self::Read,
        Self::Sendfile,
        Self::Readlink,
        Self::Listxattr,
        Self::Getxattr,
        Self::Unmount,
    ];
}

static DONE: [AtomicU64; Operation::ALL.len()] = [const { AtomicU64::new(0) }; _];
static FAILED: [AtomicU64; Operation::ALL.len()] = [const { AtomicU64::new(0) }; _];

/// Performs an operation: counts it, and has the watchdog watch it.
///
/// # Errors
///
/// The error of the system call.
pub fn perform<T>(
    operation: Operation,
    call: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    let watched = watchdog::begin(operation);
    let result = call();
    drop(watched);
    let number = operation as usize;
    DONE[number].fetch_add(1, Relaxed);
    if result.is_err() {
        FAILED[number].fetch_add(1, Relaxed);
    }
    result
}

/// How often an operation was performed, and how often it failed.
pub fn counts(operation: Operation) -> (u64, u64) {
    let number = operation as usize;
    (DONE[number].load(Relaxed), FAILED[number].load(Relaxed))
}

/// Number of operations that were performed.
pub fn total() -> u64 {
    DONE.iter().map(|count| count.load(Relaxed)).sum()
}
