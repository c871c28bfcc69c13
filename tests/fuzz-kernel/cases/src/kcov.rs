// SPDX-License-Identifier: GPL-2.0

//! Which code of the module this thread has run: what the kernel's KCOV notes.
#![allow(unsafe_code)]

use std::fs;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::ptr;
use std::slice;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

/// The file of the kernel.
const DEVICE: &str = "/sys/kernel/debug/kcov";

/// Where the module's code begins. It differs each time the module is loaded.
const TEXT: &str = "/sys/module/composefs/sections/.text";

/// Number of words in the buffer: the first one counts the others.
const WORDS: usize = 1 << 18;

// _IOR('c', 1, unsigned long), _IO('c', 100)
const KCOV_INIT_TRACE: libc::c_ulong = 0x8008_6301;
const KCOV_ENABLE: libc::c_ulong = 0x6364;
const KCOV_TRACE_PC: libc::c_ulong = 0;

/// The buffer of this thread. It stays mapped until the program ends, as does the notes' taking.
pub struct Kcov {
    words: &'static [AtomicU64],
    base: u64,
    /// Noting ends when it is closed.
    _device: File,
}

impl Kcov {
    /// Begins to note what this thread runs.
    ///
    /// # Errors
    ///
    /// When the kernel has no KCOV, or the module is not loaded.
    pub fn begin() -> Result<Self> {
        let base = fs::read_to_string(TEXT).with_context(|| format!("cannot read {TEXT}"))?;
        let base = base.trim().trim_start_matches("0x");
        let base = u64::from_str_radix(base, 16).context("no address of the module")?;
        ensure!(base != 0, "{TEXT} is hidden");
        let device = File::options().read(true).write(true).open(DEVICE);
        let device = device.with_context(|| format!("no coverage: cannot open {DEVICE}"))?;
        let fd = device.as_raw_fd();
        // SAFETY: The argument is a number.
        let made = unsafe { libc::ioctl(fd, KCOV_INIT_TRACE, WORDS) };
        ensure!(made == 0, "KCOV has no buffer: {}", errno());
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: This makes a new mapping.
        let area = unsafe { libc::mmap(ptr::null_mut(), 8 * WORDS, prot, libc::MAP_SHARED, fd, 0) };
        ensure!(area != libc::MAP_FAILED, "KCOV's buffer: {}", errno());
        // SAFETY: The mapping has that many words, is never unmapped, and the kernel writes to it
        // only.
        let words = unsafe { slice::from_raw_parts(area.cast(), WORDS) };
        // SAFETY: The argument is a number.
        let enabled = unsafe { libc::ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC) };
        ensure!(enabled == 0, "KCOV cannot be enabled: {}", errno());
        Ok(Self {
            words,
            base,
            _device: device,
        })
    }

    /// The places in the module's code that were run since the last call, in their order: how far
    /// behind its beginning each is.
    pub fn take(&self) -> impl Iterator<Item = u32> + '_ {
        let (count, words) = match self.words.split_first() {
            Some((count, words)) => (count.swap(0, Relaxed), words),
            None => (0, self.words),
        };
        let count = usize::try_from(count).unwrap_or(0).min(words.len());
        let run = words.get(..count).unwrap_or_default().iter();
        run.filter_map(|pc| u32::try_from(pc.load(Relaxed).checked_sub(self.base)?).ok())
    }
}

fn errno() -> std::io::Error {
    std::io::Error::last_os_error()
}
