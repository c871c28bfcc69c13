// SPDX-License-Identifier: GPL-2.0

//! Complaints in the kernel's log.

use std::fs::File;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use anyhow::Result;
use rustix::fs::OFlags;

/// With what a message begins that is a complaint.
const COMPLAINTS: [&str; 12] = [
    "BUG",
    "WARNING: ",
    "kernel BUG at ",
    "KASAN: ",
    "UBSAN: ",
    "ODEBUG: ",
    "refcount_t: ",
    "INFO: task ",
    "INFO: trying to register ",
    "VFS: Busy inodes",
    "list_add corruption",
    "rust_kernel: panicked at ",
];

/// The kernel's log, from now on.
pub struct Log(File);

impl Log {
    /// Opens it at its end.
    ///
    /// # Errors
    ///
    /// When the kernel's log cannot be opened.
    pub fn open() -> Result<Self> {
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = File::options()
            .read(true)
            .custom_flags(flags)
            .open("/dev/kmsg");
        let mut file = file.context("cannot open /dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// The first complaint since the last call.
    pub fn complaint(&mut self) -> Option<String> {
        let mut found = None;
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(len) => {
                    let text = String::from_utf8_lossy(record.get(..len).unwrap_or_default());
                    let complaint = complaint(&text).map(str::to_owned);
                    found = found.or(complaint);
                }
                // Some were overwritten before they were read.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => return found,
            }
        }
    }
}

/// The message of a record, if it is a complaint.
fn complaint(record: &str) -> Option<&str> {
    let (_, message) = record.split_once(';')?;
    let message = message.lines().next()?;
    let is = COMPLAINTS.iter().any(|begin| message.starts_with(begin));
    is.then_some(message)
}

/// What stays the same when a case fails again: without addresses, numbers and times.
pub fn essence(message: &str) -> String {
    let mut essence = String::new();
    for word in message.split_whitespace() {
        if word.chars().any(|letter| letter.is_ascii_digit()) {
            continue;
        }
        essence.push_str(word);
        essence.push(' ');
    }
    essence.truncate(essence.trim_end().len());
    essence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_from_other_messages() {
        let bug = "4,1,2,-;BUG: KASAN: slab-use-after-free in f+0x1/0x2\n SUBSYSTEM=x\n";
        assert_eq!(
            complaint(bug),
            Some("BUG: KASAN: slab-use-after-free in f+0x1/0x2")
        );
        assert_eq!(
            complaint("4,1,2,-;composefs: BUG: inode 5: damaged\n"),
            None
        );
    }

    #[test]
    fn numbers_are_left_out() {
        let first = essence("WARNING: fs/inode.c:12 at f+0x1/0x2, CPU#1: fuzz/77");
        assert_eq!(first, "WARNING: at");
        assert_eq!(
            essence("wrong content at 4096: 17 bytes"),
            "wrong content at bytes"
        );
    }
}
