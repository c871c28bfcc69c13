// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The two functions of libcomposefs that mount an image, for programs that call them.
//!
//! They have the binary interface of libcomposefs 1.0.8, whose header `lcfs-mount.h` describes
//! them. An image is mounted by the file system composefs if the kernel has it, else as
//! libcomposefs does it: see the crate `composefs_mount`.
//!
//! A program that is linked with libcomposefs uses them when it is started with
//! `LD_PRELOAD=liblcfs_mount.so`. Every other function is still that of libcomposefs. For a program
//! that calls no other, this library can be installed as `libcomposefs.so.1`.
//!
//! What differs from libcomposefs:
//!
//! - An expected digest has 64 or 128 hexadecimal digits, for SHA-256 and SHA-512. Any other text
//!   is `EINVAL`. (libcomposefs checks nothing if it is empty.)
//! - A null pointer where a text or the options must be is `EINVAL`.
//! - A kernel whose composefs has refused the image is not asked for erofs.

// The interface is C's: pointers come in. This is the only crate outside of the kernel that needs
// it, and abi.rs the only file that follows a pointer.
#![allow(unsafe_code)]

mod abi;
mod request;

use std::ffi::c_char;
use std::ffi::c_int;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use rustix::io::Errno;

use abi::Options;
use abi::descriptor;
use abi::path;
use request::Request;

/// Mounts the image at `path` on `mountpoint`.
///
/// Returns 0, or -1 with the reason in `errno`.
///
/// # Safety
///
/// `path`, `mountpoint` and the pointers in `options` are null, or what `lcfs-mount.h` says. They
/// stay valid and unchanged until the function returns. So do the file descriptors in `options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcfs_mount_image(
    path: *const c_char,
    mountpoint: *const c_char,
    options: *const Options,
) -> c_int {
    answer(|| {
        // SAFETY: by the caller's promise.
        let request = unsafe { Request::read(options) }?;
        // SAFETY: by the caller's promise.
        let image = unsafe { abi::path(path) }.ok_or(Errno::INVAL)?;
        // SAFETY: by the caller's promise.
        let mountpoint = unsafe { abi::path(mountpoint) }.ok_or(Errno::INVAL)?;
        request.mount(image.into(), mountpoint)
    })
}

/// Mounts the image that is open as `fd` on `mountpoint`.
///
/// Returns 0, or -1 with the reason in `errno`.
///
/// # Safety
///
/// As [`lcfs_mount_image`]. `fd` stays open until the function returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lcfs_mount_fd(
    fd: c_int,
    mountpoint: *const c_char,
    options: *const Options,
) -> c_int {
    answer(|| {
        // SAFETY: by the caller's promise.
        let request = unsafe { Request::read(options) }?;
        // SAFETY: by the caller's promise.
        let image = unsafe { descriptor(fd) }.ok_or(Errno::BADF)?;
        // SAFETY: by the caller's promise.
        let mountpoint = unsafe { path(mountpoint) }.ok_or(Errno::INVAL)?;
        request.mount(image.into(), mountpoint)
    })
}

/// Says in C's way how a function has ended. No panic leaves it.
fn answer(run: impl FnOnce() -> Result<(), Errno>) -> c_int {
    // Nothing that a panic could leave half done is used afterwards.
    let done = catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(Errno::NOTRECOVERABLE));
    match done {
        Ok(()) => 0,
        Err(errno) => {
            errno::set_errno(errno::Errno(errno.raw_os_error()));
            -1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_in_errno() {
        assert_eq!(answer(|| Ok(())), 0);
        assert_eq!(answer(|| Err(Errno::ILSEQ)), -1);
        assert_eq!(errno::errno().0, Errno::ILSEQ.raw_os_error());
    }

    #[test]
    fn no_panic_leaves_a_function() {
        assert_eq!(answer(|| panic!("as expected")), -1);
        assert_eq!(errno::errno().0, Errno::NOTRECOVERABLE.raw_os_error());
    }
}
