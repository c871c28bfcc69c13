// SPDX-License-Identifier: GPL-2.0

//! Directories.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    bindings,
    inode::{
        self,
        Inode,
        InodeRef, //
    },
    xattr,
    FileSystem, //
};
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    error::from_result,
    prelude::*, //
};

/// Operations of directories.
pub trait Operations: FileSystem {
    /// Looks `name` up in `dir`. `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// The error of the lookup. It is not cached.
    fn lookup<'a>(dir: &'a Inode<Self>, name: &[u8]) -> Result<Option<InodeRef<'a, Self>>>;

    /// Emits the entries of `dir` from the emitter's position on, until there are no more or the
    /// emitter has no room.
    ///
    /// # Errors
    ///
    /// The error of reading an entry. The entries before it were emitted.
    fn read_dir(dir: &Inode<Self>, emitter: &mut DirEmitter<'_>) -> Result;
}

/// Type of `filldir_t`.
type Actor = unsafe extern "C" fn(
    *mut bindings::dir_context,
    *const c_char,
    c_int,
    i64,
    u64,
    c_uint,
) -> bool;

/// The receiver of directory entries: `struct dir_context`.
///
/// # Invariants
///
/// `ctx` is valid, nothing else uses it while this object exists, and `actor` is its function.
pub struct DirEmitter<'a> {
    ctx: NonNull<bindings::dir_context>,
    /// `ctx->actor`.
    actor: Actor,
    _ctx: PhantomData<&'a mut bindings::dir_context>,
}

impl DirEmitter<'_> {
    /// Returns the position to continue from. It is a value of [`Self::set_pos`], or any number
    /// that the user passed to lseek(2).
    pub fn pos(&self) -> u64 {
        // SAFETY: By the type invariants the context is valid.
        u64::try_from(unsafe { (*self.ctx.as_ptr()).pos }).unwrap_or(0)
    }

    /// Sets the position to continue from. A position that is too large ends the directory.
    pub fn set_pos(&mut self, pos: u64) {
        // SAFETY: By the type invariants the context is valid, and nothing else uses it.
        unsafe { (*self.ctx.as_ptr()).pos = i64::try_from(pos).unwrap_or(i64::MAX) };
    }

    /// Emits an entry. Returns `false` if there is no room for it. The position must be that of the
    /// entry.
    ///
    /// `file_type` is one of `FT_*` of `include/linux/fs_types.h`. Other values mean unknown.
    ///
    /// C header: [`include/linux/fs.h`](srctree/include/linux/fs.h): `dir_emit()`. That one also
    /// masks the flags in the type, which do not occur here.
    #[inline]
    pub fn emit(&mut self, name: &[u8], ino: u64, file_type: u8) -> bool {
        let ctx = self.ctx.as_ptr();
        let Ok(len) = c_int::try_from(name.len()) else {
            return false;
        };
        // SAFETY: By the type invariants the context is valid, and the function belongs to it. The
        // name has `name.len()` bytes.
        unsafe {
            let pos = (*ctx).pos;
            (self.actor)(ctx, name.as_ptr().cast(), len, pos, ino, dtype(file_type))
        }
    }
}

/// `fs_ftype_to_dtype()`, without a function call for each entry.
#[inline]
fn dtype(file_type: u8) -> c_uint {
    match c_uint::from(file_type) {
        bindings::FT_REG_FILE => bindings::DT_REG,
        bindings::FT_DIR => bindings::DT_DIR,
        bindings::FT_CHRDEV => bindings::DT_CHR,
        bindings::FT_BLKDEV => bindings::DT_BLK,
        bindings::FT_FIFO => bindings::DT_FIFO,
        bindings::FT_SOCK => bindings::DT_SOCK,
        bindings::FT_SYMLINK => bindings::DT_LNK,
        _ => bindings::DT_UNKNOWN,
    }
}

/// Sets the operations of a directory that is being set up.
///
/// # Safety
///
/// `inode` must be an inode of `T` that nothing else uses yet.
pub(super) unsafe fn set_operations<T: Operations + xattr::Operations>(
    inode: *mut bindings::inode,
) {
    // SAFETY: Nothing else uses the inode. The tables are static.
    unsafe {
        (*inode).i_op = inode::directory_operations::<T>();
        bindings::inode_set_fop(inode, &Table::<T>::FILE_OPERATIONS);
    }
}

struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    /// It has no owner: see [`super::file`].
    const FILE_OPERATIONS: bindings::file_operations = bindings::file_operations {
        llseek: Some(bindings::generic_file_llseek),
        read: Some(bindings::generic_read_dir),
        iterate_shared: Some(Self::iterate_shared),
        fsync: Some(bindings::noop_fsync),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `file` must be an open directory of `T`, and `ctx` a valid context.
    unsafe extern "C" fn iterate_shared(
        file: *mut bindings::file,
        ctx: *mut bindings::dir_context,
    ) -> c_int {
        // SAFETY: An open file holds its inode, which is set up. The context is valid for the call.
        let (dir, actor) = unsafe { (Inode::<T>::from_raw((*file).f_inode), (*ctx).actor) };
        let (Some(ctx), Some(actor)) = (NonNull::new(ctx), actor) else {
            return EINVAL.to_errno();
        };
        // INVARIANT: Nothing else uses the context during the call. The function belongs to it.
        let mut emitter = DirEmitter {
            ctx,
            actor,
            _ctx: PhantomData,
        };
        from_result(|| {
            T::read_dir(dir, &mut emitter)?;
            Ok(0)
        })
    }
}

/// `->lookup`.
///
/// # Safety
///
/// `dir` must be a directory of `T`, locked at least shared, and `dentry` a child that is being
/// looked up.
pub(super) unsafe extern "C" fn lookup<T: Operations>(
    dir: *mut bindings::inode,
    dentry: *mut bindings::dentry,
    _flags: c_uint,
) -> *mut bindings::dentry {
    let mut len = 0;
    // SAFETY: The name of a dentry does not change during its lookup. A reference to the directory
    // is held, which is set up.
    let (name, dir) = unsafe {
        let name = bindings::d_name(dentry, &raw mut len);
        (
            core::slice::from_raw_parts(name, len as usize),
            Inode::<T>::from_raw(dir),
        )
    };
    if name.len() > NAME_MAX {
        return ENAMETOOLONG.to_ptr();
    }
    let result = T::lookup(dir, name);
    let inode = match result {
        Ok(None) => ptr::null_mut(),
        Ok(Some(inode)) if !inode.is_of(dir.super_block()) => return EIO.to_ptr(),
        Ok(Some(inode)) => inode.into_raw(),
        Err(e) => return e.to_ptr(),
    };
    // SAFETY: The dentry is being looked up. The function takes over the reference to the inode,
    // even if it fails.
    unsafe { bindings::d_splice_alias(inode, dentry) }
}

/// Longest name in bytes.
const NAME_MAX: usize = 255;
