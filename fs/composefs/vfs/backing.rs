// SPDX-License-Identifier: GPL-2.0

//! Files whose data are those of a file of another file system.
//!
//! C header: [`include/linux/backing-file.h`](srctree/include/linux/backing-file.h)

use super::{
    bindings,
    cred,
    errno_to_isize,
    file::{
        Access,
        File, //
    },
    kernel_file::KernelFile,
    path::Path,
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

/// A file of another file system, opened on behalf of one of ours: `/proc/PID/maps` shows the
/// path that the user opened.
///
/// # Invariants
///
/// `file` is a reference to an open backing file that we own.
#[repr(transparent)]
pub struct BackingFile {
    file: NonNull<bindings::file>,
}

// SAFETY: A `struct file` may be used and put from any thread.
unsafe impl Send for BackingFile {}

// SAFETY: What is done with it through a shared reference is what many threads may do with a file.
unsafe impl Sync for BackingFile {}

/// The flags of a user's open(2) that the open of the backing file takes over. `__FMODE_EXEC` is
/// that of execve(2), which listeners and security modules look at.
///
/// `O_DIRECT` is not among them: the file may not be able to, which is for the user's open to say.
/// It follows with the first read.
const PASSED_FLAGS: c_uint = bindings::O_NONBLOCK | bindings::FMODE_EXEC;

impl BackingFile {
    /// Opens the file at `path` for reading, with the rights of `cred`, on behalf of `user_file`.
    /// Unless it is to be read, it does not wait for who holds a lease on it.
    ///
    /// # Errors
    ///
    /// `EACCES` if `cred` may not read it, `EAGAIN` if it would have to wait, else what opening it
    /// gives.
    pub fn open<T: FileSystem>(
        user_file: &File<T>,
        path: &Path,
        cred: &Credential,
        access: Access,
    ) -> Result<Self> {
        let mut flags = bindings::O_RDONLY | bindings::O_LARGEFILE;
        flags |= user_file.flags() & PASSED_FLAGS;
        if access != Access::Read {
            flags |= bindings::O_NONBLOCK;
        }
        let file = cred::with(cred, || {
            path.may_read()?;
            // Only an owner may keep the access time from being updated.
            if path.is_owned() {
                flags |= bindings::O_NOATIME;
            }
            // SAFETY: File, path and credentials are valid for the call, which takes references
            // of its own.
            from_err_ptr(unsafe {
                bindings::backing_file_open(
                    user_file.as_ptr(),
                    flags as c_int,
                    path.as_ptr(),
                    cred.as_ptr(),
                )
            })
        })?;
        // INVARIANT: `backing_file_open` gave us the reference.
        let backing = Self {
            file: NonNull::new(file).ok_or(EINVAL)?,
        };
        if access != Access::Read {
            // Later reads may wait again.
            // SAFETY: The user's file is open.
            unsafe { backing.sync_flags(user_file.as_ptr()) };
        }
        Ok(backing)
    }

    /// Opens the file at `path` for reading, with the rights of `cred`, on behalf of everybody who
    /// reads a file of ours. `owner` stands in for the user's file. As nobody is told of what is
    /// done with that, nobody is told of what is done with this one, its opening and closing
    /// included: it is not for files that somebody listens to.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_shared(owner: &KernelFile, path: &Path, cred: &Credential) -> Result<Self> {
        let mut flags = bindings::O_RDONLY | bindings::O_LARGEFILE;
        let file = cred::with(cred, || {
            path.may_read()?;
            if path.is_owned() {
                flags |= bindings::O_NOATIME;
            }
            // SAFETY: As in `open`.
            from_err_ptr(unsafe {
                bindings::backing_file_open(
                    owner.as_ptr(),
                    flags as c_int,
                    path.as_ptr(),
                    cred.as_ptr(),
                )
            })
        })?;
        // INVARIANT: `backing_file_open` gave us the reference.
        Ok(Self {
            file: NonNull::new(file).ok_or(EINVAL)?,
        })
    }

    fn inode(&self) -> *mut bindings::inode {
        // SAFETY: An open file has an inode.
        unsafe { (*self.file.as_ptr()).f_inode }
    }

    /// The fs-verity digest of the file that was opened, whatever its path leads to by now.
    ///
    /// # Errors
    ///
    /// What loading the fs-verity information gives.
    pub fn verity_digest(&self) -> Result<Option<Digest>> {
        // SAFETY: The inode is that of an open file.
        unsafe { verity::digest(self.inode()) }
    }

    /// Size in bytes of the file that was opened.
    pub fn size(&self) -> u64 {
        // SAFETY: The inode is that of an open file.
        u64::try_from(unsafe { bindings::i_size_read(self.inode()) }).unwrap_or(0)
    }

    /// Whether it can be read without the page cache.
    pub fn can_direct_io(&self) -> bool {
        // SAFETY: The mode of an open file does not change in this bit.
        unsafe { (*self.file.as_ptr()).f_mode & bindings::FMODE_CAN_ODIRECT != 0 }
    }

    /// Whether a read that must not wait can be asked for.
    #[inline]
    fn can_nowait(&self) -> bool {
        // SAFETY: The mode of an open file does not change in this bit.
        unsafe { (*self.file.as_ptr()).f_mode & bindings::FMODE_NOWAIT != 0 }
    }

    /// # Safety
    ///
    /// `kiocb` and `iter` must be those of a read from a file of ours that this file backs.
    pub(super) unsafe fn read_iter(
        &self,
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
        cred: &Credential,
    ) -> isize {
        // SAFETY: The caller promises it.
        unsafe {
            self.sync_flags((*kiocb).ki_filp);
            self.read(kiocb, iter, cred)
        }
    }

    /// Reads from a file that many read from, of whose flags none is changed.
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
        // SAFETY: The file is open, and the caller promises the rest.
        unsafe {
            let pos = u64::try_from((*kiocb).ki_pos).unwrap_or(0);
            // Most programs read until the end, and see it by a second read.
            if pos >= self.size() {
                return 0;
            }
            if pos == 0 {
                bindings::file_read_afresh(self.file.as_ptr());
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
        // SAFETY: The caller promises it.
        unsafe {
            let flags = (*kiocb).ki_flags;
            if flags & bindings::IOCB_NOWAIT != 0 && !self.can_nowait() {
                return errno_to_isize(EAGAIN);
            }
            let file = self.file.as_ptr();
            if flags & bindings::IOCB_DIRECT == 0 {
                return bindings::file_read_cached(file, kiocb, iter, cred.as_ptr());
            }
            let mut ctx = context(cred);
            bindings::backing_file_read_iter(file, iter, kiocb, flags, &raw mut ctx)
        }
    }

    /// # Safety
    ///
    /// The arguments must be those of a splice from a file of ours that this file backs.
    pub(super) unsafe fn splice_read(
        &self,
        kiocb: *mut bindings::kiocb,
        pipe: *mut bindings::pipe_inode_info,
        len: usize,
        flags: c_uint,
        cred: &Credential,
    ) -> isize {
        // SAFETY: The caller promises it.
        unsafe {
            self.sync_flags((*kiocb).ki_filp);
            self.splice_shared(kiocb, pipe, len, flags, cred)
        }
    }

    /// As [`Self::splice_read`], but leaves the flags of this file alone.
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
        // SAFETY: The caller promises it.
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

    /// Takes over the flags of the user's file that fcntl(2) may have changed.
    ///
    /// # Safety
    ///
    /// `user_file` must be an open file.
    unsafe fn sync_flags(&self, user_file: *const bindings::file) {
        // SAFETY: Both files are open. `f_flags` is read without the lock, as C does.
        unsafe {
            let flags = core::ptr::read_volatile(&raw const (*user_file).f_flags);
            bindings::file_sync_flags(self.file.as_ptr(), flags);
        }
    }

    /// Position of the next data or hole from `offset` on, as `whence` says.
    pub(super) fn seek(&self, offset: i64, whence: c_int, cred: &Credential) -> i64 {
        // SAFETY: The file is open. Its own position is nobody's concern.
        cred::with(cred, || unsafe {
            bindings::vfs_llseek(self.file.as_ptr(), offset, whence)
        })
    }

    /// Passes on what posix_fadvise(2) says.
    pub(super) fn fadvise(&self, offset: i64, len: i64, advice: c_int, cred: &Credential) -> c_int {
        // SAFETY: The file is open.
        cred::with(cred, || unsafe {
            bindings::vfs_fadvise(self.file.as_ptr(), offset, len, advice)
        })
    }

    /// # Safety
    ///
    /// `arg` must be what the user gave with the ioctl(2) `cmd`, which must be one that needs no
    /// check of its own.
    pub(super) unsafe fn ioctl(&self, cmd: c_uint, arg: c_ulong, cred: &Credential) -> c_long {
        // SAFETY: The file is open; the caller promises the rest.
        cred::with(cred, || unsafe {
            bindings::file_ioctl(self.file.as_ptr(), cmd, arg)
        })
    }

    /// # Safety
    ///
    /// `vma` must be one that is being set up for a file of ours that this file backs.
    pub(super) unsafe fn mmap(
        &self,
        vma: *mut bindings::vm_area_struct,
        cred: &Credential,
    ) -> c_int {
        let mut ctx = context(cred);
        // SAFETY: The caller promises it.
        unsafe { bindings::backing_file_mmap(self.file.as_ptr(), vma, &raw mut ctx) }
    }
}

/// A place for a backing file, which is empty at first and filled at most once, by whoever comes
/// first.
///
/// # Invariants
///
/// The pointer is null or that of a [`BackingFile`] that this owns, and is changed only from null.
pub struct OnceBackingFile(Atomic<*mut bindings::file>);

impl Default for OnceBackingFile {
    fn default() -> Self {
        // INVARIANT: The pointer is null.
        Self(Atomic::new(core::ptr::null_mut()))
    }
}

impl OnceBackingFile {
    /// Returns the file that is in, if one is.
    #[inline]
    pub fn get(&self) -> Option<&BackingFile> {
        if self.0.load(Acquire).is_null() {
            return None;
        }
        // SAFETY: The pointer is not null, and does not change any more. `BackingFile` is a
        // transparent wrapper of it, as `Atomic` is.
        Some(unsafe { &*(&raw const self.0).cast() })
    }

    /// Puts `file` in if the place is empty, and returns what is in it then.
    pub fn get_or_set(&self, file: BackingFile) -> Result<&BackingFile> {
        self.set(file);
        self.get().ok_or(EINVAL)
    }

    /// Puts `file` in and returns `true`, or closes it if another one is in.
    pub fn set(&self, file: BackingFile) -> bool {
        // INVARIANT: The pointer replaces null only, and `file` is given up for it.
        let is_first = self
            .0
            .cmpxchg(core::ptr::null_mut(), file.file.as_ptr(), Full)
            .is_ok();
        if is_first {
            core::mem::forget(file);
        }
        is_first
    }

    /// Closes the file that is in, before it returns. For a worker, which may wait: what is dropped
    /// is closed later by the task, or by a worker that closes the files of all.
    pub fn close(mut self) {
        let file = core::mem::replace(self.0.get_mut(), core::ptr::null_mut());
        if !file.is_null() {
            // SAFETY: The reference was ours by the type invariants, and is nobody's now.
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

/// What the functions of backing files are told: whose rights to use. Access times are not ours to
/// keep.
fn context(cred: &Credential) -> bindings::backing_file_ctx {
    bindings::backing_file_ctx {
        cred: cred.as_ptr(),
        ..pin_init::zeroed()
    }
}

impl Drop for BackingFile {
    fn drop(&mut self) {
        // SAFETY: We own the reference by the type invariants.
        unsafe { bindings::fput(self.file.as_ptr()) };
    }
}
