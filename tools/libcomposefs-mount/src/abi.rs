// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What crosses the interface of `lcfs-mount.h`, and reading it.

use std::ffi::CStr;
use std::ffi::OsStr;
use std::ffi::c_char;
use std::ffi::c_int;
use std::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `LCFS_MOUNT_FLAGS_REQUIRE_VERITY`: every file of the image must name a digest.
pub(crate) const REQUIRE_VERITY: u32 = 1 << 0;
/// `LCFS_MOUNT_FLAGS_READONLY`.
pub(crate) const READONLY: u32 = 1 << 1;
/// `LCFS_MOUNT_FLAGS_IDMAP`: `idmap_fd` is set.
pub(crate) const IDMAP: u32 = 1 << 3;
/// `LCFS_MOUNT_FLAGS_TRY_VERITY`.
pub(crate) const TRY_VERITY: u32 = 1 << 4;
/// `LCFS_MOUNT_FLAGS_MASK`. It has a bit that means nothing.
pub(crate) const MASK: u32 = (1 << 5) - 1;

/// `struct lcfs_mount_options_s`.
#[repr(C)]
#[derive(Debug)]
pub struct Options {
    /// The base directories.
    pub objdirs: *const *const c_char,
    /// How many there are.
    pub n_objdirs: usize,
    /// The work directory of overlayfs, or null.
    pub workdir: *const c_char,
    /// The upper directory of overlayfs, or null.
    pub upperdir: *const c_char,
    /// The image's digest in hexadecimal digits, or null.
    pub expected_fsverity_digest: *const c_char,
    /// `enum lcfs_mount_flags_t`.
    pub flags: u32,
    /// A user namespace.
    pub idmap_fd: c_int,
    /// A directory at which erofs may be mounted for a moment, or null.
    pub image_mountdir: *const c_char,
    /// For later use.
    pub reserved: [u32; 4],
    /// For later use.
    pub reserved2: [*mut c_void; 4],
}

/// Reads a path. Returns `None` for a null pointer.
///
/// # Safety
///
/// `pointer` is null or points to a string that ends with a zero. It stays so for `'a`.
pub(crate) unsafe fn path<'a>(pointer: *const c_char) -> Option<&'a Path> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: by the caller's promise, as it is not null.
    let text = unsafe { CStr::from_ptr(pointer) };
    Some(Path::new(OsStr::from_bytes(text.to_bytes())))
}

/// Reads a list of paths. Returns `None` if one is missing.
///
/// # Safety
///
/// `list` is null or points to `count` pointers. Each is as for [`path`].
pub(crate) unsafe fn paths<'a>(list: *const *const c_char, count: usize) -> Option<Vec<&'a Path>> {
    if list.is_null() {
        return (count == 0).then(Vec::new);
    }
    // SAFETY: by the caller's promise, as it is not null.
    let list = unsafe { std::slice::from_raw_parts(list, count) };
    // SAFETY: by the caller's promise.
    list.iter().map(|&text| unsafe { path(text) }).collect()
}

/// Reads a file descriptor. Returns `None` if it can be none.
///
/// # Safety
///
/// If `fd` is not negative, it is open and stays open for `'a`.
pub(crate) unsafe fn descriptor<'a>(fd: c_int) -> Option<BorrowedFd<'a>> {
    // SAFETY: by the caller's promise; it is not -1.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;
    use std::ptr::null;

    use super::*;

    /// What a C compiler says about the structure in `lcfs-mount.h`.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_structure_is_that_of_the_header() {
        assert_eq!(size_of::<Options>(), 104);
        assert_eq!(offset_of!(Options, n_objdirs), 8);
        assert_eq!(offset_of!(Options, workdir), 16);
        assert_eq!(offset_of!(Options, upperdir), 24);
        assert_eq!(offset_of!(Options, expected_fsverity_digest), 32);
        assert_eq!(offset_of!(Options, flags), 40);
        assert_eq!(offset_of!(Options, idmap_fd), 44);
        assert_eq!(offset_of!(Options, image_mountdir), 48);
        assert_eq!(offset_of!(Options, reserved), 56);
        assert_eq!(offset_of!(Options, reserved2), 72);
    }

    #[test]
    fn paths_are_bytes() {
        // SAFETY: a string that ends with a zero.
        let read = unsafe { path(c"/a\xff".as_ptr()) };
        assert_eq!(read, Some(Path::new(OsStr::from_bytes(b"/a\xff"))));
        // SAFETY: null.
        assert_eq!(unsafe { path(null()) }, None);
    }

    #[test]
    fn a_list_has_no_gap() {
        let list = [c"/a".as_ptr(), c"/b".as_ptr(), null()];
        let read = |count| {
            // SAFETY: the list has three pointers.
            unsafe { paths(list.as_ptr(), count) }
        };
        assert_eq!(read(2), Some(vec![Path::new("/a"), Path::new("/b")]));
        assert_eq!(read(3), None);
        // SAFETY: null.
        assert_eq!(unsafe { paths(null(), 1) }, None);
    }
}
