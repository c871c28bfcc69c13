// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A mount point for a moment, for kernels whose overlayfs needs a path.

use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;
use rustix::mount::UnmountFlags;
use rustix::mount::move_mount;
use rustix::mount::unmount;
use tempfile::TempDir;

use crate::error::Error;
use crate::error::Result;

/// A mount point that is unmounted, and removed if this crate has made it, when it is dropped.
#[derive(Debug)]
pub(super) struct TemporaryMount {
    path: PathBuf,
    /// Removes the directory after [`Drop::drop`] has unmounted it.
    _directory: Option<TempDir>,
}

impl TemporaryMount {
    /// Attaches `mount` to `directory`, or to a new directory.
    pub(super) fn new(mount: impl AsFd, directory: Option<&Path>) -> Result<Self> {
        Self::with(directory, |path| {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(mount, "", CWD, path, flags)
        })
    }

    /// Mounts something at `directory`, or at a new directory, by `mount`.
    pub(super) fn with(
        directory: Option<&Path>,
        mount: impl FnOnce(&Path) -> rustix::io::Result<()>,
    ) -> Result<Self> {
        let (path, directory) = match directory {
            Some(path) => (path.to_owned(), None),
            None => {
                let made = tempfile::Builder::new().prefix(".composefs.").tempdir();
                let made = made.map_err(|error| {
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                    failed("making a temporary mount point", errno)
                })?;
                (made.path().to_owned(), Some(made))
            }
        };
        mount(&path).map_err(|errno| failed("mounting at a temporary mount point", errno))?;
        Ok(Self {
            path,
            _directory: directory,
        })
    }

    /// The mount point.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryMount {
    fn drop(&mut self) {
        // If this fails, another process has unmounted it already.
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

fn failed(doing: &str, errno: Errno) -> Error {
    Error::FileSystem {
        doing: doing.to_owned(),
        errno,
        messages: Vec::new(),
    }
}
