// SPDX-License-Identifier: GPL-2.0

//! A file that the kernel opens for itself.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    bindings,
    buffer::Buffer,
    cred,
    mapping::Reader,
    path::Path,
    verity::{
        self,
        Digest, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    cred::Credential,
    error::from_err_ptr,
    prelude::*, //
};

/// A regular file or block device, open for reading, that no file descriptor leads to.
///
/// # Invariants
///
/// `file` is a reference to an open file that we own.
pub struct KernelFile {
    file: NonNull<bindings::file>,
    size: u64,
    /// Of a block device.
    _claim: Option<Claim>,
}

// SAFETY: A `struct file` may be used and put from any thread.
unsafe impl Send for KernelFile {}

// SAFETY: ReadSource at an explicit position changes nothing in the `struct file`.
unsafe impl Sync for KernelFile {}

impl KernelFile {
    /// Opens the file at `path` with the rights of `cred`, whose owner must be allowed to read it.
    /// A block device is claimed, as one that is mounted.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is neither a regular file nor a block device, `EACCES` if it must not be
    /// read, `EBUSY` if it is a block device that somebody else has claimed or writes to, else what
    /// opening it gives.
    pub fn open(path: &Path, cred: &Credential) -> Result<Self> {
        if !path.is_regular() && !path.is_block_device() {
            return Err(EINVAL);
        }
        let flags = bindings::O_RDONLY | bindings::O_LARGEFILE;
        let file = cred::with(cred, || {
            path.may_read()?;
            // SAFETY: The path and the credentials are valid for the call, which takes references
            // of its own.
            from_err_ptr(unsafe {
                bindings::kernel_file_open(path.as_ptr(), flags as c_int, cred.as_ptr())
            })
        })?;
        // INVARIANT: `kernel_file_open` gave us the reference.
        let mut me = Self {
            file: NonNull::new(file).ok_or(EINVAL)?,
            size: 0,
            _claim: None,
        };
        if path.is_block_device() {
            me._claim = Some(cred::with(cred, || Claim::new(&me))?);
        }
        // SAFETY: We own the file, and nobody else has seen it. The inode of its mapping has the
        // size, also where it is a block device.
        let size = unsafe {
            bindings::file_set_nonotify(file);
            bindings::i_size_read((*(*file).f_mapping).host)
        };
        me.size = u64::try_from(size).map_err(|_| EINVAL)?;
        Ok(me)
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::file {
        self.file.as_ptr()
    }

    /// Size in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What tells the file system that it is on from any other one, as long as it is open.
    pub fn origin(&self) -> Origin {
        // SAFETY: The file is open, so that its inode has a super block.
        Origin(unsafe { (*(*self.file.as_ptr()).f_inode).i_sb.addr() })
    }

    /// The file's fs-verity digest, if it has one.
    ///
    /// # Errors
    ///
    /// What loading the file's fs-verity information gives.
    pub fn verity_digest(&self) -> Result<Option<Digest>> {
        // SAFETY: The file is open, and so is its inode's fs-verity information loaded.
        unsafe { verity::digest((*self.file.as_ptr()).f_inode) }
    }
}

/// A claim to a block device: nobody else mounts it, opens it with `O_EXCL` or makes it part of
/// another device, and nobody writes to it, where the kernel keeps writers from mounted devices.
/// Who removes or freezes the device does not ask us: nothing has to be written back.
///
/// # Invariants
///
/// `0` is a reference that we own to an open file of a block device, which is held by [`HOLDER`].
struct Claim(NonNull<bindings::file>);

/// Who holds the devices. It is one for all, so that one device can be opened again and again; that
/// it is here is all that is known of it.
static HOLDER: u8 = 0;

impl Claim {
    /// Claims the block device that `file` has open.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody else has it, `ENXIO` if it has gone.
    fn new(file: &KernelFile) -> Result<Self> {
        let holder = (&raw const HOLDER).cast_mut().cast();
        // The root of a user namespace may read the device, and keeps out only those whom `O_EXCL`
        // would keep out as well.
        let restrict = cred::is_admin();
        // SAFETY: The file is open. The holder is compared, and never looked into.
        let claim = unsafe { bindings::claim_bdev(file.as_ptr(), holder, restrict) };
        let claim = from_err_ptr(claim)?;
        // INVARIANT: The function gave us the reference.
        let claim = Self(NonNull::new(claim).ok_or(ENXIO)?);
        // The number may have become that of another device meanwhile.
        // SAFETY: Both files are open.
        match unsafe { (*claim.0.as_ptr()).f_mapping == (*file.as_ptr()).f_mapping } {
            true => Ok(claim),
            false => Err(ENXIO),
        }
    }
}

// SAFETY: A claim may be given up by any thread.
unsafe impl Send for Claim {}

// SAFETY: There is nothing to do with a shared reference.
unsafe impl Sync for Claim {}

impl Drop for Claim {
    fn drop(&mut self) {
        // SAFETY: We own the reference and the claim by the type invariants.
        unsafe { bindings::unclaim_bdev(self.0.as_ptr()) };
    }
}

/// See [`KernelFile::origin`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Origin(usize);

impl Reader for KernelFile {
    fn read(&self, pos: u64, out: &mut Buffer<'_>) -> Result {
        while out.room() != 0 {
            let done = u64::try_from(out.filled()).ok();
            let at = done.and_then(|done| pos.checked_add(done));
            if self.read_some(at.ok_or(EINVAL)?, out)? == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl KernelFile {
    /// Reads what is at `pos` to what is left of `out`; returns how much, 0 at the end of the file.
    fn read_some(&self, pos: u64, out: &mut Buffer<'_>) -> Result<usize> {
        let rest = out.rest();
        let file = self.file.as_ptr();
        let mut vec = bindings::kvec {
            iov_base: rest.as_mut_ptr().cast(),
            iov_len: rest.len(),
        };
        let mut iter = bindings::iov_iter::default();
        let mut kiocb: bindings::kiocb = pin_init::zeroed();
        // SAFETY: The file is open; the vector describes `rest`, and both outlive the read, which
        // is synchronous. The credentials of an open file are valid as long as it is.
        let n = unsafe {
            bindings::iov_iter_kvec(
                &raw mut iter,
                bindings::ITER_DEST,
                &raw mut vec,
                1,
                rest.len(),
            );
            bindings::init_sync_kiocb(&raw mut kiocb, file);
            kiocb.ki_pos = i64::try_from(pos).map_err(|_| EFBIG)?;
            // Our copy is the one to keep: do not leave a second one in the file's page cache.
            // The read path does not check whether the file system can do this.
            if (*(*file).f_op).fop_flags & bindings::FOP_DONTCACHE != 0 {
                kiocb.ki_flags |= bindings::IOCB_DONTCACHE;
            }
            let cred = Credential::from_ptr((*file).f_cred);
            cred::with(cred, || {
                bindings::vfs_iocb_iter_read(file, &raw mut kiocb, &raw mut iter)
            })
        };
        let n =
            usize::try_from(n).map_err(|_| Error::from_errno(c_int::try_from(n).unwrap_or(-5)))?;
        // SAFETY: As many bytes as it says were read.
        unsafe { out.advance(n) };
        Ok(n)
    }
}

impl Drop for KernelFile {
    fn drop(&mut self) {
        // Listeners were told that it was opened, and are to be told that it is closed.
        // SAFETY: We own the reference by the type invariants, which is the last one: nobody else
        // looks at the mode.
        unsafe {
            bindings::file_set_no_permission_events(self.file.as_ptr());
            bindings::fput(self.file.as_ptr());
        }
    }
}
