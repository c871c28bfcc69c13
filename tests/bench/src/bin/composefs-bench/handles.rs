// SPDX-License-Identifier: GPL-2.0

//! The row about file handles, as an NFS server opens them.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::HUNDRED_THOUSAND;
use composefs_bench::Plan;
use composefs_bench::Stack;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::openat;

use crate::caches;
use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::recorder::Recorder;
use crate::walk::files;

/// Number of handles to open.
const HANDLES: usize = 20_000;

/// Longest handle, in bytes.
const HANDLE_MAX: usize = libc::MAX_HANDLE_SZ as usize;

/// `struct file_handle`, with room for the longest `f_handle`.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; HANDLE_MAX],
}

const _: () = assert!(size_of::<Handle>() == 8 + HANDLE_MAX);

/// The handle of a file in a directory.
fn of(dir: &OwnedFd, name: &CString) -> Result<Handle> {
    let mut handle = Handle {
        bytes: HANDLE_MAX as u32,
        kind: 0,
        data: [0; HANDLE_MAX],
    };
    let mut mount = 0;
    // SAFETY: `room` has `handle.bytes` bytes of room, and `name` is a C string.
    let result = unsafe {
        let room = (&raw mut handle).cast();
        libc::name_to_handle_at(dir.as_raw_fd(), name.as_ptr(), room, &raw mut mount, 0)
    };
    if result < 0 {
        return Err(io::Error::last_os_error()).context("name_to_handle_at");
    }
    Ok(handle)
}

/// Opens files of a large directory by their handles, while neither their dentries nor
/// their inodes are in memory.
pub fn decode(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let mounted = Mounted::new(stack, &plan.wide, Verity::Off)?;
    let open = |name| openat(mounted.root(), name, OFlags::DIRECTORY, Mode::empty());
    let dir = open(HUNDRED_THOUSAND)?;
    let names = files(&dir)?;
    let step = (names.len() / HANDLES).max(1);
    let handles = names.iter().step_by(step).take(HANDLES);
    let mut handles: Vec<Handle> = handles.map(|name| of(&dir, name)).collect::<Result<_>>()?;
    drop(dir);
    caches::drop_names()?;
    let mount = open(".")?;
    recorder.time("handles", || {
        for handle in &mut handles {
            // SAFETY: name_to_handle_at() has filled the handle in.
            let fd = unsafe {
                let handle = (&raw mut *handle).cast();
                libc::open_by_handle_at(mount.as_raw_fd(), handle, libc::O_PATH)
            };
            if fd < 0 {
                return Err(io::Error::last_os_error()).context("open_by_handle_at");
            }
            // SAFETY: open_by_handle_at() has just opened `fd`, and nothing else owns it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        Ok(())
    })?;
    Ok(())
}
