// SPDX-License-Identifier: GPL-2.0

//! Files that the kernel opens for itself.
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

/// A regular file or block device that is open for reading and has no file descriptor.
///
/// # Invariants
///
/// Owns a reference to the open file `file`.
pub struct KernelFile {
    file: NonNull<bindings::file>,
    size: u64,
    /// Set for a block device.
    claim: Option<Claim>,
}

// SAFETY: A `struct file` may be used and put from any thread.
unsafe impl Send for KernelFile {}

// SAFETY: Reading at an explicit position changes nothing in the `struct file`.
unsafe impl Sync for KernelFile {}

impl KernelFile {
    /// Opens the file at `path` with the credentials `cred`, which must permit reading it. A block
    /// device is claimed, as mounting one does.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is neither a regular file nor a block device, `EACCES` if `cred` does not
    /// permit reading it, `EBUSY` if it is a block device with another holder or a writer, else the
    /// error of `->open`.
    pub fn open(path: &Path, cred: &Credential) -> Result<Self> {
        if !path.is_regular() && !path.is_block_device() {
            return Err(EINVAL);
        }
        let flags = bindings::O_RDONLY | bindings::O_LARGEFILE;
        let file = cred::with(cred, || {
            path.may_read()?;
            // SAFETY: The path and the credentials are valid. The function takes its own
            // references.
            from_err_ptr(unsafe {
                bindings::kernel_file_open(path.as_ptr(), flags as c_int, cred.as_ptr())
            })
        })?;
        // INVARIANT: `kernel_file_open` gave us the reference.
        let mut me = Self {
            file: NonNull::new(file).ok_or(EINVAL)?,
            size: 0,
            claim: None,
        };
        if path.is_block_device() {
            me.claim = Some(cred::with(cred, || Claim::new(&me))?);
        }
        // SAFETY: The file is open, and no other task has a reference. The host of its mapping has
        // the size, for a block device, too.
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

    /// Returns the size in bytes at the time when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the identity of its file system. It is unique as long as the file is open.
    pub fn origin(&self) -> Origin {
        // SAFETY: The file is open, so that its inode has a super block.
        Origin(unsafe { (*(*self.file.as_ptr()).f_inode).i_sb.addr() })
    }

    /// Whether `path` leads to the same file, or to the same block device.
    pub fn is_open_on(&self, path: &Path) -> bool {
        let inode = path.inode();
        // SAFETY: The file is open, and the path keeps its inode. Type and device never change.
        unsafe {
            let own = (*self.file.as_ptr()).f_inode;
            own == inode
                || self.claim.is_some()
                    && path.is_block_device()
                    && (*own).i_rdev == (*inode).i_rdev
        }
    }

    /// Returns the fs-verity digest of the file, if it has one.
    ///
    /// # Errors
    ///
    /// The error of `fsverity_get_digest()`.
    pub fn verity_digest(&self) -> Result<Option<Digest>> {
        // SAFETY: The inode is that of an open file.
        unsafe { verity::digest((*self.file.as_ptr()).f_inode) }
    }

    /// Whether the file has an fs-verity signature of its own. See [`verity::CHECKS_SIGNATURES`].
    ///
    /// # Errors
    ///
    /// `EIO` or `ENOMEM`.
    pub fn has_verity_signature(&self) -> Result<bool> {
        if self.verity_digest()?.is_none() {
            return Ok(false);
        }
        // SAFETY: The inode is that of an open file with a digest.
        unsafe { verity::is_signed((*self.file.as_ptr()).f_inode) }
    }

    /// Reads the whole file, up to its size when it was opened.
    ///
    /// # Errors
    ///
    /// `EFBIG` if this is more than `max` bytes, `ENOMEM`, else the error of the read.
    pub fn read_all(&self, max: usize) -> Result<KVec<u8>> {
        let size = usize::try_from(self.size).map_err(|_| EFBIG)?;
        if size > max {
            return Err(EFBIG);
        }
        let mut bytes = KVec::with_capacity(size, GFP_KERNEL_ACCOUNT)?;
        let spare = bytes.spare_capacity_mut();
        let mut buffer = Buffer::new(spare.get_mut(..size).ok_or(EINVAL)?);
        self.read(0, &mut buffer)?;
        let filled = buffer.filled();
        // SAFETY: By the invariants of the buffer, so many bytes are initialised.
        unsafe { bytes.inc_len(filled) };
        Ok(bytes)
    }
}

/// A claim to a block device. It keeps others from mounting the device, from opening it with
/// `O_EXCL`, from making it part of another device, and, if the kernel is configured so, from
/// writing to it. It has no holder operations: there is nothing to write back when the device is
/// frozen or removed.
///
/// # Invariants
///
/// Owns a reference to an open file of a block device whose holder is [`HOLDER`].
struct Claim(NonNull<bindings::file>);

/// The holder of all claims. One holder may claim a device several times. Only its address is used.
static HOLDER: u8 = 0;

impl Claim {
    /// Claims the block device that `file` is open on.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it has another holder or a writer, `ENXIO` if it was removed.
    fn new(file: &KernelFile) -> Result<Self> {
        // The root of a user namespace may read the device. It may keep others from claiming it,
        // as `O_EXCL` does, but not from writing to it.
        let mode = match cred::is_admin() {
            true => bindings::BLK_OPEN_READ | bindings::BLK_OPEN_RESTRICT_WRITES,
            false => bindings::BLK_OPEN_READ,
        };
        let claim = Self::open(file, mode)?;
        // INVARIANT: The function has returned a reference.
        let claim = Self(NonNull::new(claim).ok_or(ENXIO)?);
        // The device number may have been reused by another device.
        // SAFETY: Both files are open.
        match unsafe { (*claim.0.as_ptr()).f_mapping == (*file.as_ptr()).f_mapping } {
            true => Ok(claim),
            false => Err(ENXIO),
        }
    }
}

#[cfg(CONFIG_BLOCK)]
impl Claim {
    /// Opens the block device of `file` with a holder.
    fn open(file: &KernelFile, mode: bindings::blk_mode_t) -> Result<*mut bindings::file> {
        let holder = (&raw const HOLDER).cast_mut().cast();
        // SAFETY: The inode is that of an open file.
        let device = unsafe { (*(*file.as_ptr()).f_inode).i_rdev };
        // SAFETY: The holder is only compared, never dereferenced. It has no operations.
        from_err_ptr(unsafe {
            bindings::bdev_file_open_by_dev(device, mode, holder, core::ptr::null())
        })
    }

    fn close(&mut self) {
        // SAFETY: By the type invariants the reference is owned. Only `drop` calls this.
        unsafe { bindings::bdev_fput(self.0.as_ptr()) };
    }
}

#[cfg(not(CONFIG_BLOCK))]
impl Claim {
    fn open(_: &KernelFile, _: bindings::blk_mode_t) -> Result<*mut bindings::file> {
        Err(ENXIO)
    }

    fn close(&mut self) {}
}

// SAFETY: A claim may be dropped by any thread.
unsafe impl Send for Claim {}

// SAFETY: A shared reference gives access to nothing.
unsafe impl Sync for Claim {}

impl Drop for Claim {
    fn drop(&mut self) {
        self.close();
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
    /// Reads from `pos` on into the rest of `out`. Returns the number of bytes, 0 at the end of the
    /// file.
    fn read_some(&self, pos: u64, out: &mut Buffer<'_>) -> Result<usize> {
        let rest = out.rest();
        let file = self.file.as_ptr();
        let mut vec = bindings::kvec {
            iov_base: rest.as_mut_ptr().cast(),
            iov_len: rest.len(),
        };
        let mut iter = bindings::iov_iter::default();
        let mut kiocb: bindings::kiocb = pin_init::zeroed();
        let direction = bindings::ITER_DEST;
        // SAFETY: The vector describes `rest`, and both outlive the iterator.
        unsafe {
            bindings::iov_iter_kvec(&raw mut iter, direction, &raw mut vec, 1, rest.len());
        }
        // SAFETY: The file is open, and `kiocb` has room for the result.
        unsafe { bindings::init_sync_kiocb(&raw mut kiocb, file) };
        kiocb.ki_pos = i64::try_from(pos).map_err(|_| EFBIG)?;
        // The data are cached by the caller: do not keep them in the file's page cache, too. The
        // read path does not check whether the file system supports the flag.
        // SAFETY: The table of an open file does not change.
        if unsafe { (*(*file).f_op).fop_flags } & bindings::FOP_DONTCACHE != 0 {
            kiocb.ki_flags |= bindings::IOCB_DONTCACHE;
        }
        // SAFETY: The credentials of an open file are valid as long as it is.
        let cred = unsafe { Credential::from_ptr((*file).f_cred) };
        // SAFETY: The file is open. Without `ki_complete` the read is synchronous, so `rest` is not
        // used after it.
        let n = cred::with(cred, || unsafe {
            bindings::vfs_iocb_iter_read(file, &raw mut kiocb, &raw mut iter)
        });
        let n =
            usize::try_from(n).map_err(|_| Error::from_errno(c_int::try_from(n).unwrap_or(-5)))?;
        // SAFETY: The read has initialised the first `n` bytes.
        unsafe { out.advance(n) };
        Ok(n)
    }
}

impl Drop for KernelFile {
    fn drop(&mut self) {
        // Listeners were notified of the open, so notify them of the close.
        // SAFETY: By the type invariants the reference is owned. It is the last one, so no other
        // task uses the mode.
        unsafe {
            bindings::file_set_no_permission_events(self.file.as_ptr());
            bindings::fput(self.file.as_ptr());
        }
    }
}
