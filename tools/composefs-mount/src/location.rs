// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Files and directories, by path or by file descriptor.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::openat;

/// A file or a directory, given by path or by file descriptor.
#[derive(Clone, Debug)]
pub enum Location<'a> {
    /// A path.
    Path(&'a Path),
    /// A file descriptor, `O_PATH` ones included.
    Fd(BorrowedFd<'a>),
}

impl<'a> From<&'a Path> for Location<'a> {
    fn from(path: &'a Path) -> Self {
        Self::Path(path)
    }
}

impl<'a> From<&'a str> for Location<'a> {
    fn from(path: &'a str) -> Self {
        Self::Path(Path::new(path))
    }
}

impl<'a> From<&'a PathBuf> for Location<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self::Path(path)
    }
}

impl<'a> From<BorrowedFd<'a>> for Location<'a> {
    fn from(fd: BorrowedFd<'a>) -> Self {
        Self::Fd(fd)
    }
}

impl<'a> From<&'a OwnedFd> for Location<'a> {
    fn from(fd: &'a OwnedFd) -> Self {
        Self::Fd(fd.as_fd())
    }
}

impl<'a> Location<'a> {
    /// The name for messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Fd(fd) => match std::fs::read_link(proc_path(*fd)) {
                Ok(path) => path.display().to_string(),
                Err(_) => format!("file descriptor {}", fd.as_raw_fd()),
            },
        }
    }

    /// The path as the caller wrote it.
    pub(crate) fn path(&self) -> Option<&'a Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Fd(_) => None,
        }
    }

    /// Opens a directory, to be passed to a file system.
    pub(crate) fn open_directory(&self) -> rustix::io::Result<Opened<'a>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(match self {
            Self::Path(path) => Opened::Own(openat(CWD, *path, flags, Mode::empty())?),
            Self::Fd(fd) => Opened::Callers(*fd),
        })
    }

    /// Opens a file for reading. A caller's file descriptor is used as it is, unless it cannot
    /// read: locks belong to the open file, and the file system keeps the one that it is given.
    pub(crate) fn open_file(&self) -> rustix::io::Result<Opened<'a>> {
        // O_NONBLOCK: an open of a FIFO would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        Ok(match self {
            Self::Path(path) => Opened::Own(openat(CWD, *path, flags, Mode::empty())?),
            Self::Fd(fd) if rustix::fs::fcntl_getfl(fd)?.contains(OFlags::PATH) => {
                Opened::Own(openat(CWD, proc_path(*fd), flags, Mode::empty())?)
            }
            Self::Fd(fd) => Opened::Callers(*fd),
        })
    }
}

/// An open file: our own, which is closed with the value, or the caller's.
#[derive(Debug)]
pub(crate) enum Opened<'a> {
    /// Opened by this crate.
    Own(OwnedFd),
    /// The caller's.
    Callers(BorrowedFd<'a>),
}

impl AsFd for Opened<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Callers(fd) => *fd,
        }
    }
}

/// The path by which /proc shows an open file of this process. It is valid while the file is open.
pub(crate) fn proc_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Bytes of a path with a backslash before each byte of `special`.
pub(crate) fn escaped(path: &Path, special: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStringExt;

    let mut bytes = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if special.contains(byte) {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_special_is_escaped() {
        let path = Path::new("/a:b,c\\");
        assert_eq!(escaped(path, b":,\\"), r"/a\:b\,c\\");
    }

    #[test]
    fn a_file_by_path_descriptor_can_be_read() {
        let path = openat(CWD, "/proc/self/exe", OFlags::PATH, Mode::empty()).unwrap();
        let opened = Location::from(&path).open_file().unwrap();
        let mut byte = [0; 1];
        assert_eq!(rustix::io::read(&opened, &mut byte), Ok(1));
    }

    #[test]
    fn a_fifo_does_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(
            CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(Location::from(&fifo).open_file().is_ok());
    }
}
