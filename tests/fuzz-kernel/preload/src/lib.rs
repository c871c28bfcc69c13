// SPDX-License-Identifier: GPL-2.0

//! Preloaded into any program (`LD_PRELOAD`), this notes which code of the module its tasks run:
//! it lets the kernel's KCOV note the main thread of each process, and adds what that has noted to
//! a file that all processes share. `COMPOSEFS_COVER` names the file: a byte for each byte of the
//! module's code, which is 1 where a basic block was run.
//!
//! Other threads of a process are not noted, nor processes that may not open the files, or have no
//! C library. So the file has less than what was run, and never more.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ffi::c_ulong;
use std::ffi::c_void;
use std::fs;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Number of words in a buffer of KCOV: the first one counts the others.
const WORDS: usize = 1 << 18;

// _IOR('c', 1, unsigned long), _IO('c', 100)
const KCOV_INIT_TRACE: c_ulong = 0x8008_6301;
const KCOV_ENABLE: c_ulong = 0x6364;

/// The buffer of this process, if it has one.
static WORDS_OF: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
/// The file of all processes, its length, and where the module begins.
static BYTES: AtomicPtr<AtomicU8> = AtomicPtr::new(ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);
static BASE: AtomicU64 = AtomicU64::new(0);

#[used]
#[unsafe(link_section = ".init_array")]
static AT_BEGIN: extern "C" fn() = begin;

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C" fn() = add;

extern "C" fn begin() {
    let _ = set_up();
    // SAFETY: The functions may be called in any process that was forked.
    unsafe { libc::pthread_atfork(None, None, Some(again)) };
}

/// In a child: the kernel notes nothing of it yet.
extern "C" fn again() {
    WORDS_OF.store(ptr::null_mut(), Relaxed);
    let _ = note();
}

fn set_up() -> Option<()> {
    let base = fs::read_to_string("/sys/module/composefs/sections/.text").ok()?;
    let base = u64::from_str_radix(base.trim().trim_start_matches("0x"), 16).ok()?;
    let path = std::env::var_os("COMPOSEFS_COVER")?;
    let file = File::options().read(true).write(true).open(path).ok()?;
    let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
    BYTES.store(map(&file, length)?.cast(), Relaxed);
    LENGTH.store(length, Relaxed);
    BASE.store(base, Relaxed);
    note()
}

/// Lets the kernel note this thread.
fn note() -> Option<()> {
    let device = File::options()
        .read(true)
        .write(true)
        .open("/sys/kernel/debug/kcov")
        .ok()?;
    let fd = device.as_raw_fd();
    // SAFETY: The argument is a number.
    if unsafe { libc::ioctl(fd, KCOV_INIT_TRACE, WORDS) } != 0 {
        return None;
    }
    let words = map(&device, 8 * WORDS)?;
    // SAFETY: The argument is a number.
    if unsafe { libc::ioctl(fd, KCOV_ENABLE, 0) } != 0 {
        return None;
    }
    // Programs count or close what is open. The mapping keeps the file, too.
    drop(device);
    WORDS_OF.store(words.cast(), Relaxed);
    Some(())
}

fn map(file: &File, length: usize) -> Option<*mut c_void> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let fd = file.as_raw_fd();
    // SAFETY: This makes a new mapping, which stays as long as the process.
    let area = unsafe { libc::mmap(ptr::null_mut(), length, prot, libc::MAP_SHARED, fd, 0) };
    (area != libc::MAP_FAILED).then_some(area)
}

/// Adds what was noted to the file.
extern "C" fn add() {
    let (words, bytes) = (WORDS_OF.load(Relaxed), BYTES.load(Relaxed));
    if words.is_null() || bytes.is_null() {
        return;
    }
    // SAFETY: Both mappings are that long, and stay.
    let (words, bytes) = unsafe {
        (
            std::slice::from_raw_parts(words, WORDS),
            std::slice::from_raw_parts(bytes, LENGTH.load(Relaxed)),
        )
    };
    let Some((count, words)) = words.split_first() else {
        return;
    };
    let count = usize::try_from(count.swap(0, Relaxed)).unwrap_or(0);
    for word in words.iter().take(count) {
        let at = word.load(Relaxed).wrapping_sub(BASE.load(Relaxed));
        if let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get(at)) {
            byte.store(1, Relaxed);
        }
    }
}

/// Whether the buffer is half full.
fn is_filling() -> bool {
    let words = WORDS_OF.load(Relaxed);
    // SAFETY: The mapping stays.
    !words.is_null() && unsafe { (*words).load(Relaxed) } > WORDS as u64 / 2
}

/// In place of the C library's: programs call it often enough to empty the buffer.
///
/// # Safety
///
/// As for close(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if is_filling() {
        add();
    }
    // SAFETY: The caller may close it.
    unsafe { libc::syscall(libc::SYS_close, fd) as c_int }
}

/// In place of the C library's, which calls nothing at the end.
///
/// # Safety
///
/// As for _exit(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _exit(status: c_int) -> ! {
    add();
    loop {
        // SAFETY: The process ends.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}

/// In place of the C library's: the buffer does not outlive it.
///
/// # Safety
///
/// As for execve(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(
    path: *const libc::c_char,
    arguments: *const *const libc::c_char,
    environment: *const *const libc::c_char,
) -> c_int {
    add();
    // SAFETY: The arguments are those of the caller.
    unsafe { libc::syscall(libc::SYS_execve, path, arguments, environment) as c_int }
}
