// SPDX-License-Identifier: GPL-2.0

//! Backing files: files of another file system that hold the data of files of this one.
//!
//! C header: [`include/linux/backing-file.h`](srctree/include/linux/backing-file.h)

use super::{
    bindings,
    cred,
    errno_to_isize,
    kernel_file::KernelFile,
    path::Path,
    stacking::{
        self,
        Access,
        File, //
    },
    super_block::SuperBlock,
    verity::{
        self,
        Digest, //
    },
    FileSystem, //
};
use core::ptr::NonNull;
use kernel::{
    cred::Credential,
    error::from_err_ptr,
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full, //
    }, //
};

/// An open backing file. `/proc/PID/maps` shows the path that the user opened.
///
/// # Invariants
///
/// Owns a reference to the open backing file `file`.
#[repr(transparent)]
pub struct BackingFile {
    file: NonNull<bindings::file>,
}

// SAFETY: A `struct file` may be used and dropped by any thread.
unsafe impl Send for BackingFile {}

// SAFETY: All methods with a shared reference are operations that threads may run concurrently on
// one `struct file`.
unsafe impl Sync for BackingFile {}

/// Flags of the user's open(2) that the open of the backing file gets, too. execve(2) sets
/// `__FMODE_EXEC`, which listeners and security modules check.
///
/// `O_DIRECT` is set by the first read. With it the open fails if the file does not support it,
/// which the user's open(2) must report.
const PASSED_FLAGS: c_uint = bindings::O_NONBLOCK | bindings::FMODE_EXEC;

impl BackingFile {
    /// Opens the file at `path` for reading, with the credentials `cred`, for `user_file`. It waits
    /// for a lease to be broken only with [`Access::Read`].
    ///
    /// # Errors
    ///
    /// `EACCES` if `cred` does not permit reading it, `EAGAIN` if the open would have to wait, else
    /// the error of `->open`.
    pub fn open<T: stacking::Operations>(
        user_file: &File<T>,
        path: &Path,
        cred: &Credential,
        access: Access,
    ) -> Result<Self> {
        let mut flags = user_file.flags() & PASSED_FLAGS;
        if access != Access::Read {
            flags |= bindings::O_NONBLOCK;
        }
        let sb = user_file.inode().super_block();
        // SAFETY: The user's file is open.
        let backing = unsafe { Self::open_for(user_file.as_ptr(), sb, path, cred, flags) }?;
        if access != Access::Read {
            // Clear `O_NONBLOCK`: reads may wait.
            // SAFETY: The user's file is open.
            unsafe { backing.sync_flags(user_file.as_ptr()) };
        }
        Ok(backing)
    }

    /// Opens the file at `path` for reading, with the credentials `cred`, for all files that read
    /// it. `owner` stands in for the user's file. Its `FMODE_NONOTIFY` is inherited: listeners are
    /// not notified of the open, of reads and of the close. Do not call it for a file that has
    /// listeners.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_shared<T: FileSystem>(
        sb: &SuperBlock<T>,
        owner: &KernelFile,
        path: &Path,
        cred: &Credential,
    ) -> Result<Self> {
        // SAFETY: The owner's file is open.
        unsafe { Self::open_for(owner.as_ptr(), sb, path, cred, 0) }
    }

    /// Opens the file at `path` for `user_file`, with `flags` besides those of every backing file.
    /// `sb` is the stacking file system.
    ///
    /// # Errors
    ///
    /// As [`Self::open`], and `ELOOP` if `path` is not on a file system below `sb`: a file that
    /// backs itself would make the kernel recurse without end.
    ///
    /// # Safety
    ///
    /// `user_file` must be an open file.
    unsafe fn open_for<T: FileSystem>(
        user_file: *const bindings::file,
        sb: &SuperBlock<T>,
        path: &Path,
        cred: &Credential,
        flags: c_uint,
    ) -> Result<Self> {
        if path.stack_depth() >= sb.stack_depth() {
            return Err(ELOOP);
        }
        let mut flags = flags | bindings::O_RDONLY | bindings::O_LARGEFILE;
        let file = cred::with(cred, || {
            path.may_read()?;
            // Only an owner may keep the access time from being updated.
            if path.is_owned() {
                flags |= bindings::O_NOATIME;
            }
            let (flags, path, cred) = (flags as c_int, path.as_ptr(), cred.as_ptr());
            // SAFETY: File, path and credentials are valid. The function takes its own
            // references.
            from_err_ptr(unsafe { bindings::backing_file_open(user_file, flags, path, cred) })
        })?;
        // INVARIANT: `backing_file_open()` has returned a reference.
        Ok(Self {
            file: NonNull::new(file).ok_or(EINVAL)?,
        })
    }

    fn inode(&self) -> *mut bindings::inode {
        // SAFETY: An open file has an inode.
        unsafe { (*self.file.as_ptr()).f_inode }
    }

    /// Returns the fs-verity digest of the file that was opened. Its path may lead to another file
    /// by now.
    ///
    /// # Errors
    ///
    /// The error of `fsverity_get_digest()`.
    pub fn verity_digest(&self) -> Result<Option<Digest>> {
        // SAFETY: The inode is that of an open file.
        unsafe { verity::digest(self.inode()) }
    }

    /// Returns the size in bytes of the file that was opened.
    pub fn size(&self) -> u64 {
        // SAFETY: The inode is that of an open file.
        u64::try_from(unsafe { bindings::i_size_read(self.inode()) }).unwrap_or(0)
    }

    /// Whether it supports direct I/O.
    pub fn can_direct_io(&self) -> bool {
        // SAFETY: This bit of the mode of an open file does not change.
        unsafe { (*self.file.as_ptr()).f_mode & bindings::FMODE_CAN_ODIRECT != 0 }
    }

    /// Whether it supports `IOCB_NOWAIT`.
    #[inline]
    fn can_nowait(&self) -> bool {
        // SAFETY: This bit of the mode of an open file does not change.
        unsafe { (*self.file.as_ptr()).f_mode & bindings::FMODE_NOWAIT != 0 }
    }

    /// # Safety
    ///
    /// `kiocb` and `iter` must be the arguments of `->read_iter` of a file that this file backs.
    pub(super) unsafe fn read_iter(
        &self,
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
        cred: &Credential,
    ) -> isize {
        // SAFETY: The file of the kiocb is open. The arguments are those of `->read_iter`.
        unsafe {
            self.sync_flags((*kiocb).ki_filp);
            self.read(kiocb, iter, cred)
        }
    }

    /// Reads from a backing file that all readers share. Does not change its flags.
    ///
    /// # Safety
    ///
    /// As [`Self::read_iter`].
    pub(super) unsafe fn read_shared(
        &self,
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
        cred: &Credential,
    ) -> isize {
        // SAFETY: The file is open. The arguments are those of `->read_iter`.
        unsafe {
            let pos = u64::try_from((*kiocb).ki_pos).unwrap_or(0);
            // Most programs read until a read returns 0.
            if pos >= self.size() {
                return 0;
            }
            if pos == 0 {
                // The file is shared: reset `prev_pos` so that each reader marks the page accessed.
                (&raw mut (*self.file.as_ptr()).__bindgen_anon_3.f_ra.prev_pos).write_volatile(-1);
            }
            self.read(kiocb, iter, cred)
        }
    }

    /// # Safety
    ///
    /// As [`Self::read_iter`].
    unsafe fn read(
        &self,
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
        cred: &Credential,
    ) -> isize {
        // SAFETY: The kiocb is that of a read of the user.
        let flags = unsafe { (*kiocb).ki_flags };
        if flags & bindings::IOCB_NOWAIT != 0 && !self.can_nowait() {
            return errno_to_isize(EAGAIN);
        }
        if flags & bindings::IOCB_DIRECT == 0 {
            let (file, cred) = (self.file.as_ptr(), cred.as_ptr());
            // SAFETY: The file is open. The arguments are those of `->read_iter`.
            return unsafe { bindings::file_read_cached(file, kiocb, iter, cred) };
        }
        let (file, mut ctx) = (self.file.as_ptr(), context(cred));
        // SAFETY: The file is open. The arguments are those of `->read_iter`.
        unsafe { bindings::backing_file_read_iter(file, iter, kiocb, flags, &raw mut ctx) }
    }

    /// # Safety
    ///
    /// The arguments must be those of `->splice_read` of a file that this file backs.
    pub(super) unsafe fn splice_read(
        &self,
        kiocb: *mut bindings::kiocb,
        pipe: *mut bindings::pipe_inode_info,
        len: usize,
        flags: c_uint,
        cred: &Credential,
    ) -> isize {
        // SAFETY: The file of the kiocb is open. The arguments are those of `->splice_read`.
        unsafe {
            self.sync_flags((*kiocb).ki_filp);
            self.splice_shared(kiocb, pipe, len, flags, cred)
        }
    }

    /// As [`Self::splice_read`], but does not change the flags of this file.
    ///
    /// # Safety
    ///
    /// As [`Self::splice_read`].
    pub(super) unsafe fn splice_shared(
        &self,
        kiocb: *mut bindings::kiocb,
        pipe: *mut bindings::pipe_inode_info,
        len: usize,
        flags: c_uint,
        cred: &Credential,
    ) -> isize {
        let mut ctx = context(cred);
        // SAFETY: The file is open. The arguments are those of `->splice_read`.
        unsafe {
            bindings::backing_file_splice_read(
                self.file.as_ptr(),
                kiocb,
                pipe,
                len,
                flags,
                &raw mut ctx,
            )
        }
    }

    /// Copies the flags of the user's file that fcntl(2) can change.
    ///
    /// # Safety
    ///
    /// `user_file` must be an open file.
    unsafe fn sync_flags(&self, user_file: *const bindings::file) {
        const MASK: c_uint = bindings::O_NONBLOCK | bindings::O_NDELAY | bindings::O_DIRECT;

        let file = self.file.as_ptr();
        // SAFETY: Both files are open. `f_flags` is read without the lock, as C does.
        let (own, wanted) = unsafe {
            (
                core::ptr::read_volatile(&raw const (*file).f_flags),
                core::ptr::read_volatile(&raw const (*user_file).f_flags),
            )
        };
        if (own ^ wanted) & MASK != 0 {
            self.set_flags(MASK, wanted);
        }
    }

    /// Sets those flags that are in `mask` to `flags`, as fcntl(2) does.
    #[cold]
    fn set_flags(&self, mask: c_uint, flags: c_uint) {
        let flags = match self.can_direct_io() {
            true => flags,
            false => flags & !bindings::O_DIRECT,
        };
        let file = self.file.as_ptr();
        // SAFETY: The file is open. `f_lock` protects both fields.
        unsafe {
            bindings::spin_lock(&raw mut (*file).f_lock);
            (*file).f_flags = (*file).f_flags & !mask | flags & mask;
            (*file).f_iocb_flags = bindings::iocb_flags(file) as c_uint;
            bindings::spin_unlock(&raw mut (*file).f_lock);
        }
    }

    /// lseek(2) with `SEEK_DATA` or `SEEK_HOLE`.
    pub(super) fn seek(&self, offset: i64, whence: c_int, cred: &Credential) -> i64 {
        // SAFETY: The file is open. Its position is not used.
        cred::with(cred, || unsafe {
            bindings::vfs_llseek(self.file.as_ptr(), offset, whence)
        })
    }

    /// posix_fadvise(2).
    pub(super) fn fadvise(&self, offset: i64, len: i64, advice: c_int, cred: &Credential) -> c_int {
        // SAFETY: The file is open.
        cred::with(cred, || unsafe {
            bindings::vfs_fadvise(self.file.as_ptr(), offset, len, advice)
        })
    }

    /// # Safety
    ///
    /// `cmd` and `arg` must be the user's arguments of ioctl(2), and `cmd` one for which
    /// `security_file_ioctl()` of the user's file is enough.
    pub(super) unsafe fn ioctl(&self, cmd: c_uint, arg: c_ulong, cred: &Credential) -> c_long {
        let file = self.file.as_ptr();
        // SAFETY: The table of an open file does not change.
        let Some(ioctl) = (unsafe { (*(*file).f_op).unlocked_ioctl }) else {
            return errno_to_isize(ENOTTY);
        };
        // SAFETY: The file is open. The arguments are those of ioctl(2).
        cred::with(cred, || unsafe { ioctl(file, cmd, arg) })
    }

    /// # Safety
    ///
    /// `vma` must be the argument of `->mmap` of a file that this file backs.
    pub(super) unsafe fn mmap(
        &self,
        vma: *mut bindings::vm_area_struct,
        cred: &Credential,
    ) -> c_int {
        let mut ctx = context(cred);
        // SAFETY: The file is open. `vma` is the argument of `->mmap`.
        unsafe { bindings::backing_file_mmap(self.file.as_ptr(), vma, &raw mut ctx) }
    }
}

/// A backing file that is set at most once, by the first of several tasks.
///
/// # Invariants
///
/// The pointer is null or that of an owned [`BackingFile`], and is changed only from null.
pub struct OnceBackingFile(Atomic<*mut bindings::file>);

impl Default for OnceBackingFile {
    fn default() -> Self {
        // INVARIANT: The pointer is null.
        Self(Atomic::new(core::ptr::null_mut()))
    }
}

impl OnceBackingFile {
    /// Returns the file, if it is set.
    #[inline]
    pub fn get(&self) -> Option<&BackingFile> {
        if self.0.load(Acquire).is_null() {
            return None;
        }
        // SAFETY: The pointer is not null, so it does not change any more. `BackingFile` and
        // `Atomic` are transparent wrappers of a pointer.
        Some(unsafe { &*(&raw const self.0).cast() })
    }

    /// Sets the file unless it is set already. Returns the file that is set then.
    pub fn get_or_set(&self, file: BackingFile) -> Result<&BackingFile> {
        self.set(file);
        self.get().ok_or(EINVAL)
    }

    /// Sets the file and returns `true`. If it is set already, closes `file` and returns `false`.
    pub fn set(&self, file: BackingFile) -> bool {
        // INVARIANT: The pointer replaces null only. On success it takes over the reference of
        // `file`.
        let is_first = self
            .0
            .cmpxchg(core::ptr::null_mut(), file.file.as_ptr(), Full)
            .is_ok();
        if is_first {
            core::mem::forget(file);
        }
        is_first
    }

    /// Closes the file before it returns. For a worker, which may wait. Dropping it instead calls
    /// `fput()`, which leaves the close to the return to user space or to another worker.
    pub fn close(mut self) {
        let file = core::mem::replace(self.0.get_mut(), core::ptr::null_mut());
        if !file.is_null() {
            // SAFETY: By the type invariants the reference was owned. It was replaced by null.
            unsafe { bindings::__fput_sync(file) };
        }
    }
}

impl Drop for OnceBackingFile {
    fn drop(&mut self) {
        if let Some(file) = NonNull::new(*self.0.get_mut()) {
            drop(BackingFile { file });
        }
    }
}

/// Returns the context of an operation on a backing file. Without `accessed` the access time of the
/// user's file is not updated.
fn context(cred: &Credential) -> bindings::backing_file_ctx {
    bindings::backing_file_ctx {
        cred: cred.as_ptr(),
        ..pin_init::zeroed()
    }
}

impl Drop for BackingFile {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the reference is owned. It is not used again.
        unsafe { bindings::fput(self.file.as_ptr()) };
    }
}
