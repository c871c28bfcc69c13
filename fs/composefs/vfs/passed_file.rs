// SPDX-License-Identifier: GPL-2.0

//! Open files that are passed to a mount as file descriptors, and the locks on them.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/filelock.h`](srctree/include/linux/filelock.h)

use super::{
    bindings,
    path::Path, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    container_of,
    prelude::*, //
};

/// A file descriptor that is the value of a parameter.
///
/// # Invariants
///
/// `file` is open for `'a`. It may have been opened with `O_PATH`.
pub struct Descriptor<'a> {
    file: NonNull<bindings::file>,
    _file: PhantomData<&'a bindings::file>,
}

impl Descriptor<'_> {
    /// # Safety
    ///
    /// `file` must be open for the lifetime of the result.
    pub(super) unsafe fn from_raw(file: NonNull<bindings::file>) -> Self {
        // INVARIANT: The caller promises it.
        Self {
            file,
            _file: PhantomData,
        }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> Path {
        // SAFETY: By the type invariants the file is open.
        unsafe { Path::of_file(self.file.as_ptr()) }
    }

    /// Takes a reference to the open file, so that locks on it hold. `None` if there cannot be
    /// locks on it, because it was opened with `O_PATH`, and for all but regular files and block
    /// devices. Other files, such as sockets and those of io_uring, may hold references to file
    /// descriptors themselves: kept by a context, they could keep each other for ever.
    pub fn keep(&self) -> Option<PassedFile> {
        let path = self.path();
        let is_data = path.is_regular() || path.is_block_device();
        // SAFETY: By the type invariants the file is open. Its mode and the flag do not change.
        let (mode, flags) = unsafe { ((*self.file.as_ptr()).f_mode, (*path.inode()).i_flags) };
        let is_anonymous = flags & bindings::S_ANON_INODE != 0;
        if mode & bindings::FMODE_PATH != 0 || !is_data || is_anonymous {
            return None;
        }
        // SAFETY: The file is open.
        unsafe { bindings::get_file(self.file.as_ptr()) };
        // INVARIANT: `get_file` took the reference.
        Some(PassedFile(self.file))
    }
}

/// A regular file or block device that the mounter has opened. Locks on it hold as long as this
/// object exists, even if the mounter closes its file descriptor.
///
/// # Invariants
///
/// Owns a reference to an open file that was not opened with `O_PATH`.
pub struct PassedFile(NonNull<bindings::file>);

// SAFETY: A `struct file` may be used and put from any thread.
unsafe impl Send for PassedFile {}

// SAFETY: Locks are looked at under a spinlock.
unsafe impl Sync for PassedFile {}

/// Locks and leases of one open file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    /// The file has no locks and no leases.
    None,
    /// `LOCK_SH` of flock(2), and nothing else. It is as good as that of another open file of this
    /// inode.
    Shared(usize),
    /// Any others, of this open file.
    Others(usize),
}

impl PassedFile {
    /// Returns the locks that the open file has now. The result identifies file and inode as long
    /// as this object exists.
    pub fn locks(&self) -> Locks {
        let file = self.0.as_ptr();
        // SAFETY: By the type invariants the file is open. Its table and inode do not change.
        let (inode, is_remote) = unsafe {
            let table = (*file).f_op;
            let is_remote = (*table).flock.is_some() || (*table).lock.is_some();
            ((*file).f_inode, is_remote)
        };
        // SAFETY: The open file keeps the inode, and with it the lock context.
        let context = unsafe { bindings::locks_inode_context(inode) };
        if is_remote {
            // The file system keeps locks elsewhere.
            return Locks::Others(file.addr());
        }
        if context.is_null() {
            return Locks::None;
        }
        // SAFETY: The context is valid, and what is in it changes only under the lock.
        let (shared, others) = unsafe {
            bindings::spin_lock(&raw mut (*context).flc_lock);
            let found = find(context, file);
            bindings::spin_unlock(&raw mut (*context).flc_lock);
            found
        };
        match (shared, others) {
            (_, true) => Locks::Others(file.addr()),
            (true, false) => Locks::Shared(inode.addr()),
            (false, false) => Locks::None,
        }
    }
}

/// Returns whether `file` has `LOCK_SH` of flock(2), and whether it has other locks.
///
/// # Safety
///
/// The context must be valid and locked.
unsafe fn find(
    context: *const bindings::file_lock_context,
    file: *const bindings::file,
) -> (bool, bool) {
    // SAFETY: The context is valid.
    let lists = unsafe {
        [
            (true, &raw const (*context).flc_flock),
            (false, &raw const (*context).flc_posix),
            (false, &raw const (*context).flc_lease),
        ]
    };
    let (mut shared, mut others) = (false, false);
    for (is_flock, head) in lists {
        // SAFETY: The context is locked, so that its lists do not change.
        for lock in unsafe { list(head) } {
            // SAFETY: The lock is in a list, and so valid.
            let (holder, kind) = unsafe { ((*lock).flc_file, (*lock).flc_type) };
            if core::ptr::eq(holder, file) {
                let is_shared = is_flock && c_uint::from(kind) == bindings::F_RDLCK;
                shared |= is_shared;
                others |= !is_shared;
            }
        }
    }
    (shared, others)
}

/// Returns the locks in a list of a lock context.
///
/// # Safety
///
/// `head` must be such a list, and must not change as long as the result is used.
unsafe fn list(
    head: *const bindings::list_head,
) -> impl Iterator<Item = *const bindings::file_lock_core> {
    // SAFETY: The list is valid and does not change.
    let after = |node: *const bindings::list_head| unsafe { (*node).next.cast_const() };
    core::iter::successors(Some(after(head)), move |node| Some(after(*node)))
        .take_while(move |node| *node != head)
        // SAFETY: Each node but the head is in a lock.
        .map(|node| unsafe { container_of!(node, bindings::file_lock_core, flc_list) })
}

impl Drop for PassedFile {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the reference is owned.
        unsafe { bindings::fput(self.0.as_ptr()) };
    }
}
