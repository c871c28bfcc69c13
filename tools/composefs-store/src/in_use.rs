// SPDX-License-Identifier: GPL-2.0

//! Which images are in use.
//!
//! A mount has its image open, by composefs, by erofs or by a loop device. A lease for writing is
//! given only on a file that nobody else has open. So a lease that is refused tells of every mount:
//! also of those in another mount namespace, detached ones, and those that do not show a digest. A
//! list of mounts tells of none of these.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;

/// Whether somebody else has a file open: a mount, or for a moment a program that reads it.
///
/// # Errors
///
/// When the file cannot be opened or its file system gives no leases.
pub fn is_open(path: &Path) -> Result<bool> {
    let describe = || format!("failed to find out whether {} is in use", path.display());
    let file = File::open(path).with_context(describe)?;
    match lease(&file, libc::F_WRLCK) {
        Ok(()) => {
            lease(&file, libc::F_UNLCK).with_context(describe)?;
            Ok(false)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error).with_context(describe),
    }
}

/// Sets or removes a lease.
fn lease(file: &File, kind: i32) -> io::Result<()> {
    // SAFETY: ignoring a signal runs no code of ours. Without that, who opens the file while there
    // is a lease on it kills this program by SIGIO.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN)
    };
    // SAFETY: this takes a file, which is open, and a number.
    #[allow(unsafe_code)]
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether an image is on the kernel's command line: the system has been booted from it.
pub fn is_booted(digest: &str) -> bool {
    // Unreadable where /proc is not mounted; nothing depends on it but what is shown.
    std::fs::read_to_string("/proc/cmdline").is_ok_and(|words| words.contains(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_told() {
        let path = std::env::temp_dir().join(format!("composefs-store-{}", std::process::id()));
        std::fs::write(&path, "content").unwrap();
        assert!(!is_open(&path).unwrap());
        let file = File::open(&path).unwrap();
        assert!(is_open(&path).unwrap());
        drop(file);
        assert!(!is_open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(is_open(&path).is_err());
    }
}
